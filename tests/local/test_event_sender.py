"""Whatever the API and the way to it do, each event's fate is known, and no event is sent as two."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from local.event_sender import (
    BATCH_EVENTS,
    EventSender,
    OutgoingEvent,
    SendError,
    SendReport,
    api_client,
    batches,
    sample_events,
)

Fault = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]


@dataclass
class Door:
    """Stands for the API: keeps ids, refuses batches whole, and before that plays one fault for each request."""

    faults: list[Fault] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    """event id -> what its data is refused for"""
    too_large: set[str] = field(default_factory=set)
    """event ids for which the answer is 413, which does not say where"""
    taken: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, int]] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = (await request.clone(client_max_size=2**24).read()).decode()
        single = not request.path.endswith("/batch")
        events = [json.loads(body)["event"]] if single else [json.loads(line) for line in body.split("\n")]
        self.requests.append((request.path, len(events)))
        if self.faults:
            faulty = await self.faults.pop(0)(request)
            if faulty is not None:
                return faulty
        ids = [event["eventId"] for event in events]
        if self.too_large & set(ids):
            return web.json_response({"code": 413, "message": "too large"}, status=413)
        errors = [
            {"path": "data.x" if single else f"{index}.data.x", "code": "c", "message": self.wrong[event_id]}
            for index, event_id in enumerate(ids)
            if event_id in self.wrong
        ]
        if errors:
            return web.json_response({"code": 400, "message": "Validation failed", "errors": errors}, status=400)
        rows = []
        for event in events:
            rows.append({"eventId": event["eventId"], "duplicate": event["eventId"] in self.taken})
            self.taken[event["eventId"]] = event
        return web.json_response(rows[0] if single else {"items": rows}, status=202)


async def lose_the_request(request: web.BaseRequest) -> None:
    assert request.transport is not None
    request.transport.abort()


def answer(status: int, headers: dict[str, str] | None = None) -> Fault:
    async def fault(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"code": status, "message": "later"}, status=status, headers=headers)

    return fault


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def sender(door: Door) -> AsyncIterator[EventSender]:
    runner = web.ServerRunner(web.Server(door.handle, access_log=None), shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with api_client(f"http://127.0.0.1:{runner.addresses[0][1]}", "a key") as client:
        yield EventSender(client, "default", patience_seconds=5)
    await runner.cleanup()


def samples(count: int) -> list[OutgoingEvent]:
    return list(sample_events(None, count))


async def test_many_events_go_in_batches_and_one_goes_alone(sender: EventSender, door: Door) -> None:
    await sender.send(samples(BATCH_EVENTS + 1))
    assert door.requests == [("/api/default/event/batch", BATCH_EVENTS), ("/api/default/event", 1)]
    assert sender.report.accepted == BATCH_EVENTS + 1


async def test_wrong_events_are_named_and_do_not_take_the_others_with_them(sender: EventSender, door: Door) -> None:
    events = samples(50)
    door.wrong = {events[3].event_id: "no number", events[49].event_id: "no date"}
    await sender.send(events)
    assert [(rejected.line, rejected.reason) for rejected in sender.report.rejections] == [
        (4, "data.x: no number"),
        (50, "data.x: no date"),
    ]
    assert sender.report.accepted == len(door.taken) == 48
    assert len(door.requests) == 2


async def test_a_refusal_that_does_not_say_which_event_is_narrowed_down_to_it(sender: EventSender, door: Door) -> None:
    events = samples(64)
    door.too_large = {events[17].event_id}
    await sender.send(events)
    assert [(rejected.line, rejected.reason) for rejected in sender.report.rejections] == [(18, "too large")]
    assert sender.report.accepted == 63
    assert list(door.taken) == [event.event_id for event in events if event is not events[17]]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lose_the_request, id="connection lost"),
        pytest.param(answer(503), id="503"),
        pytest.param(answer(502), id="502 of a proxy"),
        pytest.param(answer(429), id="429"),
    ],
)
async def test_what_passes_is_tried_again(sender: EventSender, door: Door, fault: Fault) -> None:
    door.faults = [fault, fault]
    await sender.send(samples(3))
    assert sender.report.accepted == 3
    assert len(door.requests) == 3


async def test_a_lost_answer_makes_no_second_event_and_no_duplicate(sender: EventSender, door: Door) -> None:
    events = samples(3)

    async def take_and_hang_up(request: web.BaseRequest) -> None:
        door.taken.update({event.event_id: None for event in events})
        await lose_the_request(request)

    door.faults = [take_and_hang_up]
    await sender.send(events)
    assert (sender.report.accepted, sender.report.duplicates, len(door.taken)) == (3, 0, 3)


async def test_an_id_that_the_caller_gave_may_be_a_duplicate(sender: EventSender, door: Door) -> None:
    event_id = str(uuid4())
    given = OutgoingEvent(1, "A", event_id, f'{{"eventId":"{event_id}"}}', id_is_new=False)
    await sender.send([given])
    await sender.send([given])
    assert (sender.report.accepted, sender.report.duplicates) == (1, 1)


@pytest.mark.parametrize(
    "retry_after",
    [
        pytest.param(lambda: "1", id="seconds"),
        pytest.param(lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True), id="date"),
    ],
)
async def test_retry_after_is_waited_for(sender: EventSender, door: Door, retry_after: Callable[[], str]) -> None:
    door.faults = [answer(503, {"Retry-After": retry_after()})]
    started = time.monotonic()
    await sender.send(samples(1))
    assert time.monotonic() - started >= 0.9


async def test_patience_ends_and_the_error_names_the_first_event_not_taken(sender: EventSender, door: Door) -> None:
    door.faults = [answer(503, {"Retry-After": "60"})]
    events = samples(BATCH_EVENTS + 2)
    with pytest.raises(SendError, match=r"503: later.*loyalty-webhooks status") as stopped:
        await sender.send(events[BATCH_EVENTS:])
    assert stopped.value.line == BATCH_EVENTS + 1
    assert sender.report == SendReport()


async def test_an_api_that_is_not_there_is_said_to_be_so() -> None:
    async with api_client("http://127.0.0.1:9", "a key") as client:
        said: list[str] = []
        sender = EventSender(client, "default", patience_seconds=3, on_wait=said.append)
        with pytest.raises(SendError, match="no response"):
            await sender.send(samples(1))
    assert "trying again" in said[0]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(401, "the key is not accepted", id="401"),
        pytest.param(403, "may not emit", id="403"),
        pytest.param(404, "no store 'default'", id="404"),
    ],
)
async def test_what_is_refused_for_every_event_is_not_tried_again(
    sender: EventSender, door: Door, status: int, said: str
) -> None:
    door.faults = [answer(status)]
    with pytest.raises(SendError, match=said):
        await sender.send(samples(3))
    assert len(door.requests) == 1


def test_batches_are_bounded_by_events_and_by_bytes() -> None:
    large = [OutgoingEvent(line, "A", "id", "x" * 1_000_000) for line in range(1, 11)]
    assert [len(batch) for batch in batches(large)] == [4, 4, 2]
    small = [OutgoingEvent(line, "A", "id", "x") for line in range(1, BATCH_EVENTS * 2 + 2)]
    assert [len(batch) for batch in batches(small)] == [BATCH_EVENTS, BATCH_EVENTS, 1]


@pytest.mark.parametrize("root", ["", "localhost:8080", "ftp://example.com", "http://"])
def test_a_root_that_is_no_address_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        api_client(root, "key")
