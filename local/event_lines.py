"""What is to be emitted, line by line: from samples, from one JSON text, from a file of NDJSON.

A line is an event of its own, `{"eventName": …, "data": …, "eventId"?: …, "createdAt"?: …}`, as the API takes it, or,
where the command names an event, just that event's data. Numbers keep their text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from uuid import uuid4

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import JsonTextError, JsonValue, dump, parse


@dataclass(frozen=True)
class OutgoingEvent:
    """An event ready to be sent. It has an id before it is sent, so that sending it again makes no second event."""

    line: int
    """From 1: where it stands in the file, or which sample it is."""
    name: str
    event_id: str
    text: str
    """The event as compact JSON."""
    id_is_new: bool = True
    """The id was made here: the API can have it already only because an answer got lost."""


@dataclass(frozen=True)
class Rejection:
    """A line that did not become an event."""

    line: int
    name: str
    """Event name, as far as it is known; else empty."""
    reason: str


def sample_events(name: str | None, count: int) -> Iterator[OutgoingEvent]:
    """`count` samples of one event, or of the 17 of every installation in turn. Raises KeyError for an unknown name."""
    types = [CATALOGUE[name]] if name is not None else [type_ for type_ in CATALOGUE.values() if type_.seed]
    texts = [(type_.name, dump(type_.sample)) for type_ in types]
    for line, (event_name, data) in enumerate(islice(cycle(texts), count), start=1):
        yield _with_data_text(line, event_name, data)


def single_event(name: str, data: bytes, event_id: str | None) -> OutgoingEvent | Rejection:
    """One event from the text of its data."""
    try:
        text = dump(parse(data))
    except JsonTextError as error:
        return Rejection(1, name, f"not JSON: {error}")
    return _with_data_text(1, name, text, event_id)


def read_lines(lines: Iterable[bytes], name: str | None, first: int = 1) -> Iterator[OutgoingEvent | Rejection]:
    """Each line from number `first` that is not blank, as an event or as the reason why it is none."""
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
            return Rejection(number, "", "no eventName in it, and the command names no event either")
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
