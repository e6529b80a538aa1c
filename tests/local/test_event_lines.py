"""Lines become events with their numbers as written, or a reason why not."""

import json
from uuid import UUID

import pytest

from domain.events.catalogue import CATALOGUE
from local.event_sender import OutgoingEvent, Rejection, read_lines, sample_events, single_event


def only(lines: list[bytes], name: str | None = None) -> OutgoingEvent | Rejection:
    (read,) = read_lines(lines, name)
    return read


def test_a_line_of_bare_data_becomes_the_named_event_with_its_numbers_as_written() -> None:
    event = only([b'{"points": 10.10, "big": 12345678901234567890123}'], "AvailablePointsAmountChanged")
    assert isinstance(event, OutgoingEvent)
    assert event.text.endswith('"data":{"points":10.10,"big":12345678901234567890123}}')
    assert json.loads(event.text)["eventId"] == str(UUID(event.event_id))


def test_a_line_that_names_its_event_keeps_all_it_says() -> None:
    line = b'{"eventName":"CustomerUpdated","data":{"n":1E+2},"createdAt":"2026-01-02T03:04:05+02:00"}'
    event = only([line])
    assert isinstance(event, OutgoingEvent)
    assert event.id_is_new
    assert event.text == line.decode()[:-1] + f',"eventId":"{event.event_id}"}}'


def test_a_given_id_stays_and_is_known_as_given() -> None:
    line = b'{"eventName":"CustomerUpdated","data":{},"eventId":"6F9619FF-8B86-D011-B42D-00C04FC964FF"}'
    event = only([line])
    assert isinstance(event, OutgoingEvent)
    assert (event.text, event.id_is_new) == (line.decode(), False)


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        pytest.param(b'{"a":', None, "not JSON", id="cut off"),
        pytest.param(b'{"a":1,"a":2}', "CustomerUpdated", "not JSON", id="repeated key"),
        pytest.param(b'{"a":NaN}', "CustomerUpdated", "not JSON", id="NaN"),
        pytest.param(b"\xff\xfe", "CustomerUpdated", "not JSON", id="no UTF-8"),
        pytest.param(b'{"points":1}', None, "no eventName", id="data without an event"),
        pytest.param(
            b'{"eventName":"CustomerUpdated","data":{}}',
            "CustomerDeactivated",
            "is not CustomerDeactivated",
            id="other",
        ),
    ],
)
def test_a_line_that_is_no_event_is_rejected_with_the_reason(line: bytes, name: str | None, reason: str) -> None:
    rejection = only([line], name)
    assert isinstance(rejection, Rejection)
    assert reason in rejection.reason
    assert rejection.line == 1


def test_line_numbers_are_those_of_the_file_whatever_is_skipped() -> None:
    lines = [b"{}\n", b"\n", b"{}\r\n", b"oops\n", b"{}"]
    assert [read.line for read in read_lines(lines, "CustomerUpdated")] == [1, 3, 4, 5]
    assert [read.line for read in read_lines(lines, "CustomerUpdated", first=4)] == [4, 5]


def test_samples_take_turns_through_the_events_of_every_installation_each_with_its_own_id() -> None:
    seeds = [name for name, event_type in CATALOGUE.items() if event_type.seed]
    events = list(sample_events(None, 2 * len(seeds) + 1))
    assert [event.name for event in events] == [*seeds, *seeds, seeds[0]]
    assert len({event.event_id for event in events}) == len(events)
    assert [event.line for event in events] == list(range(1, len(events) + 1))


def test_one_event_may_bring_its_id() -> None:
    event_id = "6f9619ff-8b86-4011-b42d-00c04fc964ff"
    event = single_event("CustomerUpdated", b'{"n":80.0}', event_id)
    assert isinstance(event, OutgoingEvent)
    assert event.text == f'{{"eventName":"CustomerUpdated","eventId":"{event_id}","data":{{"n":80.0}}}}'
    assert not event.id_is_new
