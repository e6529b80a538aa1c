"""Events to emit, from samples, one JSON text or an NDJSON file.

A line is a whole event in the API's format, `{"eventName": …, "data": …, "eventId"?: …, "createdAt"?: …}`, or only
the data if the command names the event. Numbers keep their text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from uuid import uuid4

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import JsonTextError, JsonValue, dump, parse


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
        text = dump(parse(data))
    except JsonTextError as error:
        return Rejection(1, name, f"not JSON: {error}")
    return _with_data_text(1, name, text, event_id)


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
    return _own_event(number, value, name)


def _own_event(number: int, value: dict[str, JsonValue], name: str | None) -> OutgoingEvent | Rejection:
    event_name = value["eventName"]
    shown = event_name if isinstance(event_name, str) else ""
    if name is not None and event_name != name:
        return Rejection(number, shown, f"this line's eventName is not {name}, which the command names")
    given = value.get("eventId")
    if given is not None:
        return OutgoingEvent(number, shown, str(given), dump(value), id_is_new=False)
    event_id = str(uuid4())
    return OutgoingEvent(number, shown, event_id, dump({**value, "eventId": event_id}))


def _with_data_text(line: int, name: str, data: str, given_id: str | None = None) -> OutgoingEvent:
    event_id = given_id or str(uuid4())
    text = f'{{"eventName":{dump(name)},"eventId":"{event_id}","data":{data}}}'
    return OutgoingEvent(line, name, event_id, text, given_id is None)
