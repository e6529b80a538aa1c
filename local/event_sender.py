"""Sending events to the API: in batches, again when it is briefly away, and never losing the good ones to a bad one.

SendError               nothing more can be sent; what was accepted before stays accepted
├── ApiUnreachable      no answer, or none but "later", for as long as the sender has patience
└── ApiRefused          the key, the store or the address is wrong: every event would be refused
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any

import httpx

from local.event_lines import OutgoingEvent, Rejection

BATCH_EVENTS = 500  # half of what the API takes at most: a transaction of some 50 ms
BATCH_BYTES = 4 * 1024 * 1024  # half of what the API takes at most
PATIENCE_SECONDS = 30.0  # a restart of every component of a stack takes less
REQUEST_TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
FIRST_KEPT = 20  # as many as a person may want to look up one by one

LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
REFUSED = frozenset({401, 403, 404, 405})


class SendError(Exception):
    """Sending stopped. The text says why and what to do; `line` is that of the first event that was not taken."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class ApiUnreachable(SendError):  # noqa: N818 - reads as what happened
    """The API did not answer, or only asked to come later."""


class ApiRefused(SendError):  # noqa: N818 - reads as what happened
    """The API takes nothing from this caller."""


@dataclass
class SendReport:
    """What became of the events so far."""

    accepted: int = 0
    duplicates: int = 0
    """Events the API had already: their ids were sent before, here or by somebody else."""
    rejections: list[Rejection] = field(default_factory=list)
    first: list[tuple[OutgoingEvent, bool]] = field(default_factory=list)
    """The first `FIRST_KEPT` events the API took, each with whether it was a duplicate."""

    @property
    def settled(self) -> int:
        """Events whose fate is known."""
        return self.accepted + self.duplicates + len(self.rejections)


def batches(events: Sequence[OutgoingEvent]) -> Iterator[list[OutgoingEvent]]:
    """The events in their order, in groups the API takes."""
    group: list[OutgoingEvent] = []
    size = 0
    for event in events:
        length = len(event.text.encode()) + 1
        if group and (len(group) >= BATCH_EVENTS or size + length > BATCH_BYTES):
            yield group
            group, size = [], 0
        group.append(event)
        size += length
    if group:
        yield group


class EventSender:
    """Sends events to one store. `on_wait` hears a sentence when an answer is awaited longer than it should take."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.report = SendReport()
        self.next_line = 1
        """Line of the first event whose fate is not known."""
        self.asking = False
        """A request is under way."""
        self._client = client
        self._root = str(client.base_url).rstrip("/")
        self._path = f"/api/{store}/event"
        self._store = store
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait

    async def send(self, events: Sequence[OutgoingEvent]) -> None:
        """Send all of them; `report` counts. Raises SendError when it cannot go on."""
        for batch in batches(events):
            await self._send_batch(batch)

    async def _send_batch(self, events: list[OutgoingEvent]) -> None:
        """A batch is all or nothing at the API: what it names as wrong is left out, and the rest is sent again."""
        while events:
            response = await self._post(events)
            if response.status_code == 202:
                self._count(events, response.json())
                return
            wrong = _problems_by_index(response, len(events))
            if not wrong:
                if len(events) > 1:  # something in it is wrong, and the answer does not say which
                    middle = len(events) // 2
                    await self._send_batch(events[:middle])
                    await self._send_batch(events[middle:])
                    return
                wrong = {0: _message(response)}
            for index, reason in wrong.items():
                self.report.rejections.append(Rejection(events[index].line, events[index].name, reason))
            events = [event for index, event in enumerate(events) if index not in wrong]

    def _count(self, events: list[OutgoingEvent], answer: Any) -> None:
        rows = answer.get("items", [answer])
        if len(rows) != len(events):
            told = f"The API answered {len(rows)} rows to {len(events)} events: is it another version?"
            raise ApiRefused(told, events[0].line)
        for row, event in zip(rows, events, strict=True):
            duplicate = row["duplicate"] and not event.id_is_new
            self.report.duplicates += duplicate
            self.report.accepted += not duplicate
            if len(self.report.first) < FIRST_KEPT:
                self.report.first.append((event, duplicate))

    async def _post(self, events: list[OutgoingEvent]) -> httpx.Response:
        """The answer to these events that settles them; a single event goes its own way, as a platform sends it."""
        if len(events) == 1:
            path, media_type, text = self._path, "application/json", f'{{"event":{events[0].text}}}'
        else:
            path, media_type = f"{self._path}/batch", "application/x-ndjson"
            text = "\n".join(event.text for event in events)
        self.next_line, self.asking = events[0].line, True
        deadline = time.monotonic() + self._patience_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                headers = {"Content-Type": media_type}
                response = await self._client.post(path, content=text.encode(), headers=headers)
            except httpx.RequestError as error:
                trouble, wanted = f"no answer ({_described(error)})", None
            else:
                if response.status_code not in LATER:
                    self.next_line, self.asking = events[-1].line + 1, False
                    self._check_refusal(response, events[0].line)
                    return response
                trouble = f"{response.status_code}: {_message(response)}"
                wanted = _retry_after_seconds(response)
            wait = max(pause, wanted or 0)
            left = deadline - time.monotonic()
            if wait > left:
                raise ApiUnreachable(
                    f"{self._root} did not take the events for {self._patience_seconds:g} s: {trouble}. "
                    "Is it running? `loyalty-webhooks status` says; --patience waits longer.",
                    events[0].line,
                )
            self._on_wait(f"{self._root}: {trouble}; trying again for {left:.0f} s")
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _check_refusal(self, response: httpx.Response, line: int) -> None:
        if response.status_code not in REFUSED:
            return
        reasons = {
            401: "the key is not accepted (--key, LOYALTY_WEBHOOKS_KEY)",
            403: "this key may not emit events",
            404: f"there is no store {self._store!r}, or this key may not enter it (--store)",
        }
        reason = reasons.get(response.status_code, "is this the root of a loyalty-webhooks API?")
        raise ApiRefused(f"{self._root} answered {response.status_code}: {reason}.", line)


def _problems_by_index(response: httpx.Response, count: int) -> dict[int, str]:
    """{position in the batch: reasons}, from paths like `3.data.points`; a single event's paths lack the number."""
    found: dict[int, list[str]] = {}
    for error in _body(response).get("errors") or ():
        path, message = str(error.get("path", "")), str(error.get("message", ""))
        first, _, rest = path.partition(".")
        if count == 1 and not first.isdecimal():
            first, rest = "0", path
        if first.isdecimal() and int(first) < count:
            found.setdefault(int(first), []).append(f"{rest}: {message}" if rest else message)
    return {index: "; ".join(reasons) for index, reasons in found.items()}


def _message(response: httpx.Response) -> str:
    body = _body(response)
    message = str(body.get("message") or response.reason_phrase or response.status_code)
    differences = body.get("differences")
    return f"{message} ({', '.join(map(str, differences))})" if differences else message


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after_seconds(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        instant = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (instant.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _described(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__


def api_client(root: str, key: str) -> httpx.AsyncClient:
    """A client for the API at `root` (`http://host:port`) with a permanent key. Raises ValueError for another root."""
    try:
        url = httpx.URL(root.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ValueError(f"{root!r} is no address: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{root!r} is no address of the form http://host:port")
    return httpx.AsyncClient(
        base_url=url,
        headers={"X-AUTH-TOKEN": key},
        timeout=REQUEST_TIMEOUT_SECONDS,
        trust_env=not _is_loopback(url.host),
    )


def _is_loopback(host: str) -> bool:
    """No proxy of the environment leads to what runs on this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
