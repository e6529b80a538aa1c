"""`loyalty-webhooks listen`: a receiver that shows the requests of a subscription."""

import asyncio
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from commands.terminal import EXIT_USAGE, JsonOption, counted, failed, json_wanted, show_json
from domain.events.catalogue import CATALOGUE, mask_secrets
from domain.wire.excerpts import MASK, printable
from domain.wire.jsontext import JsonTextError, JsonValue, dump, parse, pretty
from local.receiver import Answering, ReceivedRequest, Receiver, usable_key

INDENT = "  "
# The contract documents the values of these headers. Any other header may be a custom one of the subscription and
# hold a secret, so its value is masked.
PUBLIC_HEADERS = frozenset({"host", "content-type", "content-length", "user-agent", "accept", "accept-encoding"})
PUBLIC_HEADER_PREFIXES = ("webhook-", "x-webhook-")
# Fields of a legacy body that hold values the catalogue marks as secret.
LEGACY_SECRETS = frozenset({"code", "couponCode", "coupon"})


def listen(  # noqa: PLR0913, PLR0917 - one parameter an option
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free port.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every address.")] = "127.0.0.1",
    verify_key: Annotated[
        list[str] | None,
        typer.Option(
            help="Signing key (whsec_…) of the webhook; pass both during a rotation. A wrong signature gets a 401."
        ),
    ] = None,
    status: Annotated[int, typer.Option(min=200, max=599, help="Status of the responses.")] = 200,
    delay_ms: Annotated[int, typer.Option(min=0, help="Delay of each response, in milliseconds.")] = 0,
    fail_first: Annotated[int, typer.Option(min=0, help="Answer this many requests with 503 first.")] = 0,
    brief: Annotated[bool, typer.Option("--brief", help="One line for each request.")] = False,
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Show activation, reset and coupon codes and custom headers.")
    ] = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Show each body as it arrived, neither indented nor masked, to compute its signature."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Receive webhooks on this machine: show each request, verify its signatures, mark duplicates. Ctrl-C ends, with a
    summary.

    Bodies are shown indented, and secrets in them masked: copy a body from --raw.
    """
    for key in verify_key or ():
        try:
            usable_key(key)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--verify-key") from error
    display = Display(Console(stderr=json_wanted()), brief=brief, show_secrets=show_secrets, raw=raw)
    receiver = Receiver(
        answering=Answering(status, delay_ms / 1000, fail_first), keys=verify_key or (), on_request=display.show
    )
    try:
        asyncio.run(_listen(receiver, host, port, display))
    except OSError as error:
        message = f"Cannot listen on {host}:{port}: {error.strerror or error}. --port 0 takes a free port."
        raise failed(message, EXIT_USAGE) from error


async def _listen(receiver: Receiver, host: str, port: int, display: "Display") -> None:
    bound = await receiver.start(host, port)
    ended = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, ended.set)
    shown_host = f"[{host}]" if ":" in host else host
    display.line(f"Listening on http://{shown_host}:{bound}/ (any path). Ctrl-C ends.")
    await ended.wait()
    await receiver.stop()
    counts = receiver.counts
    display.line(
        f"{counted(counts.requests, 'request')}, {counts.succeeded:,} answered with success, "
        f"{counted(counts.duplicates, 'duplicate')}, "
        f"{counts.without_id:,} without an id, {counts.unverified:,} with a wrong signature"
    )


class Display:
    """Printer of requests. Without a terminal, the same text without colours; as JSON, a line each on its output."""

    def __init__(self, console: Console, *, brief: bool, show_secrets: bool, raw: bool) -> None:
        self._console = console
        self._brief = brief
        self._show_secrets = show_secrets
        self._raw = raw
        self._highlight = JSONHighlighter()

    def line(self, text: str) -> None:
        """Print a line that is not a request."""
        self._console.print(Text(text), soft_wrap=True)

    def show(self, received: ReceivedRequest) -> None:
        """Print one request."""
        if json_wanted():
            show_json(self._facts(received), indent=None)
            return
        parts = [self._headline(received)]
        parts.extend(_verdicts(received))
        if not self._brief:
            headers = self._headers(received)
            parts.extend(Text(f"{INDENT}{printable(name)}: {printable(value)}", "dim") for name, value in headers)
            parts.append(self._highlight("\n".join(map(printable, self._body(received).split("\n")))))
        self._console.print(Text("\n").join(parts), soft_wrap=True)

    def _headline(self, received: ReceivedRequest) -> Text:
        good = 200 <= received.status < 300
        return Text.assemble(
            (f"#{received.number}", "bold"),
            f" {datetime.now().astimezone():%H:%M:%S.%f} ",
            f"{printable(received.method)} {printable(received.target)} ",
            (printable(received.event_name or "no event"), "bold cyan"),
            f" {received.format} {printable(received.message_id or 'no id')} ",
            ("duplicate ", "bold yellow") if received.duplicate else "",
            (f"answered {received.status}", "green" if good else "red"),
        )

    def _facts(self, received: ReceivedRequest) -> dict[str, object]:
        checks = {scheme: "; ".join(problems) or "good" for scheme, problems in received.verification.items()}
        shown = {"headers": dict(self._headers(received)), "body": self._body(received), "verification": checks}
        facts = {to_camel(name): value for name, value in vars(received).items()}
        return {"receivedAt": datetime.now(UTC).isoformat(), **facts, **shown}

    def _headers(self, received: ReceivedRequest) -> Iterator[tuple[str, str]]:
        for raw_name, raw_value in received.headers.raw:
            name, value = raw_name.decode(), raw_value.decode(errors="replace")
            lowered = name.lower()
            public = lowered in PUBLIC_HEADERS or lowered.startswith(PUBLIC_HEADER_PREFIXES)
            yield name, value if public or self._show_secrets else MASK

    def _body(self, received: ReceivedRequest) -> str:
        text = received.body.decode("utf-8", "replace")
        try:
            value = parse(received.body)
        except JsonTextError:
            return text
        if self._raw:
            return text
        if not self._show_secrets:
            value = _masked(value, received)
        return pretty(dump(value))


def _verdicts(received: ReceivedRequest) -> Iterator[Text]:
    for scheme, problems in received.verification.items():
        if not problems:
            yield Text(f"{INDENT}{scheme}: good", "green")
        for problem in problems:
            yield Text(f"{INDENT}{scheme}: WRONG: {printable(problem)}", "bold red")


def _masked(value: JsonValue, received: ReceivedRequest) -> JsonValue:
    if not isinstance(value, dict) or "data" not in value:
        return value
    data = value["data"]
    event_type = CATALOGUE.get(received.event_name or "")
    if event_type is not None:
        return {**value, "data": mask_secrets(event_type, data)}
    entries = data if isinstance(data, list) else [data]
    masked: list[JsonValue] = [
        {key: MASK if key in LEGACY_SECRETS and member else member for key, member in entry.items()}
        if isinstance(entry, dict)
        else entry
        for entry in entries
    ]
    return {**value, "data": masked if isinstance(data, list) else masked[0]}
