"""Sender of events to the API: batches, retries while the API is unavailable, isolates invalid events of a batch.

The events come from samples, one JSON text or an NDJSON file. A line is a whole event in the API's format,
`{"eventName": …, "data": …, "eventId"?: …, "createdAt"?: …}`, or only the data if the command names the event. Numbers
keep their text.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import cycle, islice
from typing import Any
from uuid import uuid4

import httpx

from domain.delivery.verdict import parse_retry_after
from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import JsonTextError, dump, parse

BATCH_EVENTS = 500
"""Maximum events of a batch. Half of the API's limit: a transaction of some 50 ms."""

BATCH_BYTES = 4 * 1024 * 1024
"""Maximum size of a batch. Half of the API's limit."""

PATIENCE_SECONDS = 30.0
"""Default time to retry. Restarting every component of a stack takes less."""

REQUEST_TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

LISTED_EVENTS = 20
"""Maximum events listed in a report. A user may look up that many one by one."""

LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class OutgoingEvent:
    """An event to send. It gets its id before the first send, so that a retry creates no second event."""

    line: int
    """Line in the file or number of the sample, from 1."""
    name: str
    event_id: str
    text: str
    """The event as compact JSON."""
    id_is_new: bool = True
    """True if the id was generated here: then a duplicate only means that a response was lost."""


@dataclass(frozen=True)
class Rejection:
    """A line that is not a valid event."""

    line: int
    name: str
    """Event name, or empty if unknown."""
    reason: str


def sample_events(name: str | None, count: int) -> Iterator[OutgoingEvent]:
    """Yield `count` samples of one event, or of all 17 in turn. Raises KeyError for an unknown name."""
    types = [CATALOGUE[name]] if name is not None else [type_ for type_ in CATALOGUE.values() if type_.seed]
    texts = [(type_.name, dump(type_.sample)) for type_ in types]
    for line, (event_name, data) in enumerate(islice(cycle(texts), count), start=1):
        yield _with_data_text(line, event_name, data)


def single_event(name: str, data: bytes, event_id: str | None) -> OutgoingEvent | Rejection:
    """Return an event from the JSON text of its data."""
    try:
        return _with_data_text(1, name, dump(parse(data)), event_id)
    except JsonTextError as error:
        return Rejection(1, name, f"not JSON: {error}")


def read_lines(lines: Iterable[bytes], name: str | None, first: int = 1) -> Iterator[OutgoingEvent | Rejection]:
    """Yield each non-blank line from number `first` as an event or a rejection."""
    for number, line in enumerate(lines, start=1):
        if number >= first and line.strip():
            yield _read_line(number, line.strip(), name)


def _read_line(number: int, line: bytes, name: str | None) -> OutgoingEvent | Rejection:
    try:
        value = parse(line)
    except JsonTextError as error:
        return Rejection(number, name or "", f"not JSON: {error}")
    if not isinstance(value, dict) or "eventName" not in value:
        if name is None:
            return Rejection(number, "", "no eventName in the line or on the command line")
        return _with_data_text(number, name, dump(value))
    own_name = value["eventName"]
    shown = own_name if isinstance(own_name, str) else ""
    if name is not None and own_name != name:
        return Rejection(number, shown, f"this line's eventName is not {name}, which the command names")
    given_id = value.get("eventId")
    if given_id is not None:
        return OutgoingEvent(number, shown, str(given_id), dump(value), id_is_new=False)
    event_id = str(uuid4())
    return OutgoingEvent(number, shown, event_id, dump({**value, "eventId": event_id}))


def _with_data_text(line: int, name: str, data: str, given_id: str | None = None) -> OutgoingEvent:
    event_id = given_id or str(uuid4())
    text = f'{{"eventName":{dump(name)},"eventId":"{event_id}","data":{data}}}'
    return OutgoingEvent(line, name, event_id, text, given_id is None)


class SendError(Exception):
    """Sending stopped. The message names cause and remedy; `line` is the line of the first event not accepted."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class SendReport:
    """Outcome of the events so far."""

    accepted: int = 0
    duplicates: int = 0
    """Events that the API had already: their ids were sent before, here or by another client."""
    rejections: list[Rejection] = field(default_factory=list)
    first: list[tuple[OutgoingEvent, bool]] = field(default_factory=list)
    """The first `LISTED_EVENTS` accepted events, each with True if it was a duplicate."""


def batches(events: Sequence[OutgoingEvent]) -> Iterator[list[OutgoingEvent]]:
    """Split the events, in order, into batches within the limits."""
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
    """Sender for one store. Calls `on_wait` when it begins to wait, `on_taken` with each event that the API has."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        on_wait: Callable[[str], None] = lambda _: None,
        on_taken: Callable[[OutgoingEvent, bool], None] = lambda event, duplicate: None,
    ) -> None:
        self.report = SendReport()
        self.next_line = 1
        """Line of the first event with an unknown outcome."""
        self.asking = False
        """True while a request is in flight."""
        self._client = client
        self._root = str(client.base_url).rstrip("/")
        self._path = f"/api/{store}/event"
        self._store = store
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait
        self._on_taken = on_taken

    async def send(self, events: Sequence[OutgoingEvent]) -> None:
        """Send all events and count them in `report`. Raises SendError if it cannot continue."""
        for batch in batches(events):
            await self._send_batch(batch)

    async def _send_batch(self, events: list[OutgoingEvent]) -> None:
        """Send one batch. The API accepts a batch as a whole, so resend it without the events it rejects."""
        while events:
            response = await self._post(events)
            if response.status_code == 202:
                self._count(events, response.json())
                return
            wrong = _problems_by_index(response, len(events))
            if not wrong:
                if len(events) > 1:  # the response names no event, so bisect the batch
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
            message = f"The API returned {len(rows)} rows for {len(events)} events: is it another version?"
            raise SendError(message, events[0].line)
        for row, event in zip(rows, events, strict=True):
            duplicate = row["duplicate"] and not event.id_is_new
            self.report.duplicates += duplicate
            self.report.accepted += not duplicate
            self._on_taken(event, duplicate)
            if len(self.report.first) < LISTED_EVENTS:
                self.report.first.append((event, duplicate))

    async def _post(self, events: list[OutgoingEvent]) -> httpx.Response:
        """Return the response that settles these events, after retries. A single event goes to POST /event."""
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
                trouble, wanted = f"no response ({str(error) or type(error).__name__})", None
            else:
                if response.status_code not in LATER:
                    self.next_line, self.asking = events[-1].line + 1, False
                    self._check_refusal(response, events[0].line)
                    return response
                trouble = f"{response.status_code}: {_message(response)}"
                wanted = parse_retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
            wait = max(pause, wanted or 0)
            left = deadline - time.monotonic()
            if wait > left:
                raise SendError(
                    f"{self._root} accepted no events for {self._patience_seconds:g} s: {trouble}. "
                    "Is it running? See `loyalty-webhooks status`; --patience waits longer.",
                    events[0].line,
                )
            if pause == FIRST_PAUSE_SECONDS:
                self._on_wait(f"{self._root}: {trouble}; trying again for {left:.0f} s")
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _check_refusal(self, response: httpx.Response, line: int) -> None:
        reasons = {
            401: "the key is not accepted (--key, LOYALTY_WEBHOOKS_KEY)",
            403: "this key may not emit events",
            404: f"there is no store {self._store!r}, or this key has no access to it (--store)",
            405: "is this the root of a loyalty-webhooks API?",
        }
        if response.status_code in reasons:
            reason = reasons[response.status_code]
            raise SendError(f"{self._root} answered {response.status_code}: {reason}.", line)


def _problems_by_index(response: httpx.Response, count: int) -> dict[int, str]:
    """Map position in the batch to reasons, from paths like `3.data.points`. A single event's paths lack the number."""
    found: dict[int, list[str]] = {}
    for error in answer_of(response).get("errors") or ():
        path, message = str(error.get("path", "")), str(error.get("message", ""))
        first, _, rest = path.partition(".")
        if count == 1 and not first.isdecimal():
            first, rest = "0", path
        if first.isdecimal() and int(first) < count:
            found.setdefault(int(first), []).append(f"{rest}: {message}" if rest else message)
    return {index: "; ".join(reasons) for index, reasons in found.items()}


def _message(response: httpx.Response) -> str:
    body = answer_of(response)
    message = str(body.get("message") or response.reason_phrase or response.status_code)
    differences = body.get("differences")
    return f"{message} ({', '.join(map(str, differences))})" if differences else message


def answer_of(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object in the body, or an empty one if it holds none."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def api_client(root: str, key: str) -> httpx.AsyncClient:
    """Return an API client for `root` (http://host:port) with a permanent key. Raises ValueError for another root."""
    return httpx.AsyncClient(**client_options(root, key))


def client_options(root: str, key: str) -> dict[str, Any]:
    """Return the options of httpx's clients for `api_client`. Raises ValueError as it does."""
    try:
        url = httpx.URL(root.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ValueError(f"{root!r} is not an address: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{root!r} is not an address of the form http://host:port")
    try:
        loopback = ip_address(url.host).is_loopback
    except ValueError:
        loopback = url.host == "localhost"
    return {
        "base_url": url,
        "headers": {"X-AUTH-TOKEN": key},
        "timeout": REQUEST_TIMEOUT_SECONDS,
        "trust_env": not loopback,  # the environment's proxy must not be used for a service on this machine
    }
