"""`loyalty-webhooks explain`, `subscription …` and `delivery …`: one event, one subscription, one delivery."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from commands.target import Target, with_target
from commands.terminal import (
    EXIT_FAILED,
    EXIT_USAGE,
    STANDARD_INPUT,
    counted,
    failed,
    json_wanted,
    say,
    show,
    show_json,
)
from domain.delivery.explain import NOT_ACCEPTED, ReasonCode
from domain.delivery.failure_kinds import failure_explanation, failure_in_words
from domain.delivery.lifecycle import DeliveryStatus
from domain.delivery.timeouts import TEST_SECONDS
from domain.wire.excerpts import printable

POLL_SECONDS = 0.2

subscription = typer.Typer(
    help="One webhook: show, update, pause, resume, disable, enable, send a test.", no_args_is_help=True
)
delivery = typer.Typer(help="One delivery: redeliver, send now, cancel.", no_args_is_help=True)

SubscriptionId = Annotated[UUID, typer.Argument(metavar="WEBHOOK", help="Webhook id.")]
MessageId = Annotated[UUID, typer.Argument(metavar="DELIVERY", help="Delivery id (`messageId`).")]


@with_target
def explain(
    target: Target,
    event_id: Annotated[UUID, typer.Argument(metavar="ID", help="Id of an event or of a delivery (`messageId`).")],
    subscription: Annotated[UUID | None, typer.Option(help="Explain only this webhook.")] = None,
) -> None:
    """Explain the state of an event for each webhook of the store, or of one delivery, with a remedy.

    Exit code 0: explained. 1: the store has not accepted such an event, or has no such webhook. 2: wrong usage, or the
    API cannot be reached.
    """
    query = {"eventId": str(event_id)} | ({} if subscription is None else {"webhookSubscriptionId": str(subscription)})
    found = target.get("webhook/explain", **query)
    if json_wanted():
        show_json(found)
    else:
        _show(found, every=subscription is not None)
    if found["code"] in NOT_ACCEPTED:
        raise typer.Exit(EXIT_FAILED)


def _show(found: dict[str, Any], *, every: bool) -> None:
    console = Console(highlight=False)
    _say(console, f"{found['eventName'] or 'Event'} {found['eventId']}", found)
    others = 0
    for item in found["items"]:
        if item["code"] == ReasonCode.other_event_name and not every:
            others += 1
            continue
        console.print()
        _say(console, f"{item['url']} ({item['name'] or item['webhookSubscriptionId']})", item)
    if others:
        more = counted(others, "more webhook is for another event", "more webhooks are for other events")
        console.print(f"\n{more}.")


def _say(console: Console, title: str, found: dict[str, Any]) -> None:
    console.print(Text.assemble((printable(title), "bold"), "  ", (printable(found["code"]), "cyan")), soft_wrap=True)
    lines = [(found["text"], ""), (found["remedy"], "dim")]
    if found.get("messageId"):
        lines.append((f"delivery {found['messageId']}", "dim"))
    if found.get("lastAnswerMessageId") not in (None, found.get("messageId")):
        lines.append((f"failed last: delivery {found['lastAnswerMessageId']}", "dim"))
    if found.get("temporalUrl"):
        lines.append((found["temporalUrl"], "dim"))
    for text, style in lines:
        console.print(Text(f"  {printable(text)}", style), soft_wrap=True)


@subscription.command("show")
@with_target
def show_subscription(target: Target, subscription_id: SubscriptionId) -> None:
    """Show the webhook's settings and status. Header values and secrets are masked.

    Exit code 0: shown. 1: the store has no such webhook. 2: wrong usage, or the API cannot be reached.
    """
    _show_details(target.get(f"webhook/subscription/{subscription_id}"))


@subscription.command("update")
@with_target
def update_subscription(
    target: Target,
    subscription_id: SubscriptionId,
    timeout_seconds: Annotated[
        str | None,
        typer.Option(help="Timeout of a whole request, 1 to 30; `default`: the installation's.", metavar="SECONDS"),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Destination of the requests.")] = None,
    name: Annotated[str | None, typer.Option(help="Name for people; empty: none.")] = None,
    authentication: Annotated[
        Path | None,
        typer.Option(help="File with the authentication in JSON, - for standard input.", metavar="FILE"),
    ] = None,
) -> None:
    """Change the given settings of the webhook, and show the result. Other settings stay as they are.

    The authentication is JSON as in the API, for example {"type": "bearer", "token": "…"}; null removes it. It is read
    from a file or a pipe, because other users of the machine can see the arguments of a command.

    For another scheme, host or port of the URL, the authentication must be given again. So must header values, which
    the panel and `subscriptions apply` can do.

    The API requires the URL in each update and checks it again, so without --url the command reads it and sends it
    back. If it is not allowed any more, pass another one with --url. A change of the URL at the same moment is lost.

    Open deliveries use the new settings from their next attempt.

    Exit code 0: changed. 1: refused, or the store has no such webhook. 2: wrong usage, or the API cannot be reached.
    """
    changes: dict[str, Any] = {}
    if timeout_seconds is not None:
        changes["timeoutSeconds"] = _seconds(timeout_seconds)
    if url is not None:
        changes["url"] = url
    if name is not None:
        changes["name"] = name or None
    if authentication is not None:
        changes["authentication"] = _read_json(authentication)
    if not changes:
        raise typer.BadParameter("nothing to change: give --timeout-seconds, --url, --name or --authentication")
    path = f"webhook/subscription/{subscription_id}"
    if url is None:
        changes["url"] = target.get(path)["url"]  # which each update has
    target.put(path, {"webhookSubscription": changes})
    _show_details(target.get(path))


def _seconds(text: str) -> int | None:
    try:
        return None if text == "default" else int(text)
    except ValueError:
        raise typer.BadParameter(f"--timeout-seconds is a whole number or `default`, not {text!r}") from None


def _read_json(file: Path) -> Any:
    """Return the value in the file. Messages show nothing of it, because it holds secrets."""
    try:
        return json.loads(sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes())
    except OSError as error:
        raise failed(f"{file} cannot be read: {error.strerror}.", EXIT_USAGE) from None
    except ValueError as error:
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise failed(
            f"{'Standard input' if file == STANDARD_INPUT else file} is not JSON{where}.", EXIT_USAGE
        ) from None


def _show_details(details: dict[str, Any]) -> None:
    lines = (f"{title:<16}{printable(text)}" for title, text in _in_words(details))
    show("\n".join(lines), details)


def _in_words(details: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield title and text of each setting. Unset ones of little use to a reader are left out."""
    yield "Webhook", f"{details['webhookSubscriptionId']}, {details['name'] or 'without a name'}"
    yield "Event", f"{details['eventName']} in the {'legacy' if details['legacy'] else 'modern'} format"
    yield "URL", details["url"]
    if details["urlWarning"]:
        yield "", details["urlWarning"]
    reason = f": {details['statusReason']}" if details["statusReason"] else ""
    yield "Status", f"{details['status']} since {details['statusSince']}{reason}"
    if details["activeFrom"]:
        yield "Active from", details["activeFrom"]
    yield "Timeout", f"{details['timeoutSeconds']:g} s for a whole request"
    yield "Signature", "Standard Webhooks and X-Webhook-Signature" if details["hmacEnabled"] else "none"
    yield (
        "Authentication",
        ", ".join(f"{name} {text}" for name, text in (details["authentication"] or {}).items()) or "none",
    )
    if details["certificateExpiresAt"]:
        yield "", f"the client certificate expires at {details['certificateExpiresAt']}"
    for header in details["headers"]:
        yield "Header", f"{header['headerName']}: {header['headerValue']}"
    limit = details["rateLimitPerSecond"]
    rate = "no rate limit" if limit is None else f"{limit:,} per second"
    yield "Limits", f"{counted(details['maxConcurrency'], 'request')} in flight, {rate}"
    if details["ordered"]:
        alone = "each customer's events" if details["orderKey"] == "customer" else "all events"
        held = "later ones are held" if details["afterExhausted"] == "hold" else "the next one is sent"
        yield "Order", f"{alone} one after the other; after a delivery gave up {held}"
    retries = ", ".join(f"{delay:,}" for delay in details["retrySchedule"])
    yield "Retries", f"{retries} s after each failed attempt" if retries else "none"


def _status_command(action: str, help_text: str, done: str) -> None:
    @subscription.command(action, help=help_text)
    @with_target
    def change(target: Target, subscription_id: SubscriptionId) -> None:
        details = target.post(f"webhook/subscription/{subscription_id}/{action}")
        text = f"{details['eventName']} → {details['url']} is {details['status']}. {done}"
        show(text, details)


_status_command(
    "pause",
    "Hold the webhook's deliveries; none is lost.",
    "Its deliveries are held until `loyalty-webhooks subscription resume`.",
)
_status_command(
    "resume", "End a pause and send the held deliveries, oldest first.", "Held deliveries go out, oldest first."
)
_status_command(
    "disable",
    "Stop sending: waiting, held and new deliveries give up.",
    "Waiting, held and new deliveries give up; after enabling, `loyalty-webhooks recover` sends them again.",
)
_status_command(
    "enable",
    "Start sending again and reset the health counters.",
    "Deliveries that gave up meanwhile stay so; `loyalty-webhooks recover` sends them again.",
)


@subscription.command("send-test")
@with_target
def send_test(target: Target, subscription_id: SubscriptionId) -> None:
    """Send the event's sample once, marked as a test, and show the receiver's response.

    Exit code 0: delivered. 1: failed, or refused. 2: wrong usage, or the API cannot be reached.
    """
    message_id = target.post(f"webhook/subscription/{subscription_id}/send-test")["messageId"]
    say(f"Test {message_id} is being sent.")
    deadline = time.monotonic() + TEST_SECONDS
    while (found := target.get(f"webhook/delivery/{message_id}"))["status"] == DeliveryStatus.PENDING:
        if time.monotonic() > deadline:
            raise failed(f"No outcome within {TEST_SECONDS} s. Does a worker run? See `loyalty-webhooks status`.")
        time.sleep(POLL_SECONDS)
    delivered = found["status"] == DeliveryStatus.DELIVERED
    if delivered or json_wanted():
        show(f"Delivered: {found['url']} answered {found['lastStatusCode']}.", found)
    if not delivered:
        raise failed(_reason(target, found))


def _reason(target: Target, found: dict[str, Any]) -> str:
    failure = found["lastFailure"]
    why = failure_explanation(failure)
    if why is not None:
        return f"Failed ({failure_in_words(failure, found['lastStatusCode'])}): {why.meaning} {why.remedy}"
    [item] = target.get("webhook/explain", eventId=found["messageId"])["items"]
    return f"Not sent: {item['text']} {item['remedy']}"


def _delivery_command(action: str, help_text: str, done: str) -> None:
    @delivery.command(action, help=help_text)
    @with_target
    def change(target: Target, message_id: MessageId) -> None:
        target.post(f"webhook/delivery/{message_id}/{action}")
        show(done, {"messageId": str(message_id)})


_delivery_command(
    "redeliver",
    "Make one more attempt at a delivery that has ended, even by success.",
    "One more attempt is made.",
)
_delivery_command("send-now", "Make an attempt at a waiting or held delivery now.", "The delivery is attempted now.")
_delivery_command("cancel", "Cancel a waiting or held delivery.", "Cancelled; an attempt in flight completes.")
