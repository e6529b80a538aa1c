"""A drain's round sends in a window: who is slow takes a place, and holds up nobody else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from activities import drain
from sending.drain.sources import LOOK_SECONDS
from temporal.messages import DrainRoundResult
from tests.chaos.verdict import surely_in_a_second
from tests.deadlines import eventually
from tests.receiver import Receiver, after, status, when
from tests.sending.drain.rounds import round_of
from tests.workbench import Workbench, workbench

EVENT = "CustomerUpdated"
PATIENT = {"request_timeout_seconds": 30, "breaker_failures": 3}


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, **PATIENT) as bench:
        yield bench


@pytest.fixture
def long_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that end by having nothing to do, however slow the machine is."""
    monkeypatch.setattr(drain, "ROUND_SECONDS", 60.0)


@pytest.fixture
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "ROUND_SECONDS", 1.0)


async def hold(bench: Workbench, receiver: Receiver, count: int, **limits: Any) -> UUID:
    """A subscription that its drain sends to, and so many deliveries that it holds."""
    subscription_id = await bench.subscribe(EVENT, receiver.url("/hook"), **limits)
    await hold_more(bench, count)
    return subscription_id


async def hold_more(bench: Workbench, count: int) -> None:
    before = (await bench.statuses()).get("held", 0)
    await bench.attempt_events(await bench.emit(EVENT, "{}", count=count))
    assert (await bench.statuses())["held"] == before + count


def each_once(receiver: Receiver, count: int) -> bool:
    """Whether so many deliveries arrived, and none of them twice."""
    identities = [json.loads(request.body)["messageId"] for request in receiver.requests]
    return len(identities) == len(set(identities)) == count


async def round_until_one_hangs(
    bench: Workbench, subscription_id: UUID, delivered: int, before: DrainRoundResult | None = None
) -> DrainRoundResult:
    """The round after which one delivery is under way and so many have arrived: the first, or a later one if slow. What
    ends between two rounds is counted by neither."""
    last = before

    async def one_hangs() -> bool:
        nonlocal last
        last = await round_of(bench, subscription_id, last)
        arrived = (await bench.statuses()).get("delivered", 0)
        return arrived == delivered and len(last.under_way) == 1

    await eventually(one_hangs, 20, "one request hangs and all others are made")
    assert last is not None
    return last


@pytest.mark.parametrize("limits", [{"max_concurrency": 3}, {"rate_limit_per_second": 200}])
@pytest.mark.usefixtures("short_rounds")
async def test_one_request_that_hangs_stops_no_others_not_even_from_round_to_round(
    bench: Workbench, receiver: Receiver, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    receiver.script(when(gate, status(200)))
    subscription_id = await hold(bench, receiver, 30, **limits)
    first = await round_until_one_hangs(bench, subscription_id, delivered=29)
    assert first.next_in_seconds == 0.0
    await hold_more(bench, 30)
    second = await round_until_one_hangs(bench, subscription_id, delivered=59, before=first)
    assert second.under_way == first.under_way
    gate.set()
    monkeypatch.setattr(drain, "ROUND_SECONDS", 60.0)  # it ends by having nothing to do
    third = await round_of(bench, subscription_id, second)
    assert (third.under_way, third.next_in_seconds) == ([], None)  # what hung may have ended before the round looked
    assert each_once(receiver, 60)


@pytest.mark.parametrize("ordered", [{}, {"ordered": True, "order_key": "customer"}])
@pytest.mark.usefixtures("long_rounds")
async def test_retries_that_fall_due_one_after_the_other_need_no_round_each(
    bench: Workbench, receiver: Receiver, ordered: dict[str, object]
) -> None:
    count, apart = 20, LOOK_SECONDS
    subscription_id = await bench.subscribe(EVENT, receiver.url("/hook"), **{"max_concurrency": 50} | ordered)
    for customer in range(count):
        event = json.dumps({"customer": {"customerId": f"{customer}"}})
        await bench.attempt_events(await bench.emit(EVENT, event))
    await bench.execute(
        "UPDATE delivery SET next_attempt_at = clock_timestamp() + numbered.place * make_interval(secs => :apart) "
        "FROM (SELECT message_id, row_number() OVER (ORDER BY event_sequence) AS place FROM delivery) AS numbered "
        "WHERE numbered.message_id = delivery.message_id",
        apart=apart,
    )
    done = await round_of(bench, subscription_id)
    assert (done.delivered, done.next_in_seconds) == (count, None)
    assert each_once(receiver, count)


async def test_a_slow_receiver_gets_what_its_limit_allows(bench: Workbench, receiver: Receiver) -> None:
    rate, answers_in = 20, 1.0
    receiver.otherwise = after(answers_in, status(200))
    subscription_id = await hold(bench, receiver, 200, rate_limit_per_second=rate)
    done = await round_of(bench, subscription_id)
    arrivals = [request.arrived_at for request in receiver.requests]
    seconds = max(arrivals) - min(arrivals)
    waiting_for_each_second = rate * seconds / (1 + answers_in)
    assert len(arrivals) > waiting_for_each_second
    assert surely_in_a_second(request.span for request in receiver.requests) <= rate
    assert len(done.under_way) <= rate * answers_in * 1.5, "only what is on the wire is left"
    left = await bench.scalar("SELECT count(*) FROM attempt WHERE outcome_at IS NULL")
    assert left <= len(done.under_way), "what waited for its pace went out or was taken back"


@pytest.mark.usefixtures("long_rounds")
async def test_a_drain_with_a_rate_starts_at_its_rate_however_slow_the_receiver_is(
    bench: Workbench, receiver: Receiver
) -> None:
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    subscription_id = await hold(bench, receiver, 30, rate_limit_per_second=100, max_concurrency=100)
    sending = asyncio.create_task(round_of(bench, subscription_id))
    await receiver.wait_for(30)
    gate.set()
    assert (await sending).delivered == 30


@pytest.mark.parametrize("limits", [{"max_concurrency": 2}, {"rate_limit_per_second": 5}, {"max_concurrency": 200}])
@pytest.mark.usefixtures("long_rounds")
async def test_a_pause_within_a_round_leaves_held_what_has_no_place(
    bench: Workbench, receiver: Receiver, limits: dict[str, int]
) -> None:
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    subscription_id = await hold(bench, receiver, 40, **limits)
    sending = asyncio.create_task(round_of(bench, subscription_id))
    await receiver.wait_for(2)
    await bench.execute("UPDATE subscription SET status = 'paused' WHERE id = :id", id=subscription_id)
    done = await sending
    assert done.next_in_seconds == 0.0

    async def taken_back() -> bool:
        attempts: int = await bench.scalar("SELECT count(*) FROM attempt")
        return attempts == len(receiver.requests)

    await eventually(taken_back, 30, "no attempt of what has not gone out")
    went_out = len(receiver.requests)
    assert went_out < 40
    assert (await bench.statuses()) == {"held": 40}
    paused = await round_of(bench, subscription_id, done)
    assert (paused.next_in_seconds is not None, paused.state, len(paused.under_way)) == (True, "paused", went_out)
    gate.set()
    await bench.until_statuses({"held": 40 - went_out, "delivered": went_out})
    paused = await round_of(bench, subscription_id, paused)
    assert (paused.next_in_seconds, paused.under_way) == (None, [])
    await bench.execute("UPDATE subscription SET status = 'active' WHERE id = :id", id=subscription_id)
    while (done := await round_of(bench, subscription_id, done)).next_in_seconds is not None:
        pass
    assert each_once(receiver, 40)


@pytest.mark.usefixtures("long_rounds")
async def test_a_pause_that_ends_while_requests_hang_lets_no_other_worker_exceed_the_limit(
    bench: Workbench, receiver: Receiver, cleared_url: str
) -> None:
    """Nor when older deliveries have fallen due meanwhile, before which the other worker would see those that hang."""
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    subscription_id = await hold(bench, receiver, 20, max_concurrency=2)
    await bench.execute(
        "UPDATE delivery SET next_attempt_at = now() + interval '1 hour' WHERE message_id = ANY(ARRAY("
        "SELECT message_id FROM delivery ORDER BY event_sequence LIMIT 15))"
    )
    sending = asyncio.create_task(round_of(bench, subscription_id))
    await receiver.wait_for(2)
    await bench.execute("UPDATE subscription SET status = 'paused' WHERE id = :id", id=subscription_id)
    paused = await round_of(bench, subscription_id, await sending)
    assert paused.next_in_seconds is not None, "its drain stays"
    await bench.execute("UPDATE delivery SET next_attempt_at = NULL")
    await bench.execute("UPDATE subscription SET status = 'active' WHERE id = :id", id=subscription_id)
    async with workbench(cleared_url, **PATIENT) as other:
        resumed = asyncio.create_task(round_of(other, subscription_id, paused))
        await asyncio.sleep(4 * LOOK_SECONDS)  # some looks, of which none may begin anything
        assert len(receiver.requests) == 2
        gate.set()
        await resumed
    assert each_once(receiver, 20)


async def test_a_breaker_that_opens_within_a_round_lets_nothing_more_begin(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.otherwise = status(500)
    subscription_id = await hold(bench, receiver, 100, max_concurrency=2)
    done = await round_of(bench, subscription_id)
    assert len(receiver.requests) <= drain.FIRST_WINDOW + PATIENT["breaker_failures"], "those begun until it was known"
    assert (await bench.statuses()) == {"held": 100}
    after_it = await round_of(bench, subscription_id, done)
    assert after_it.state == "breaker open"


@pytest.mark.usefixtures("short_rounds")
async def test_what_was_begun_when_a_round_was_broken_off_is_sent_by_nobody_else(
    bench: Workbench, receiver: Receiver, cleared_url: str
) -> None:
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    subscription_id = await hold(bench, receiver, 20, max_concurrency=3)
    broken_off = asyncio.create_task(round_of(bench, subscription_id))
    await receiver.wait_for(3)
    broken_off.cancel()
    with suppress(asyncio.CancelledError):
        await broken_off
    async with workbench(cleared_url, **PATIENT) as other:
        done = await round_of(other, subscription_id)
        assert (done.delivered, len(done.under_way), len(receiver.requests)) == (0, 3, 3)
        again = await round_of(bench, subscription_id, done)
        assert (again.delivered, again.under_way, len(receiver.requests)) == (0, done.under_way, 3)
        gate.set()
        while (done := await round_of(other, subscription_id, done)).next_in_seconds is not None:
            pass
    assert each_once(receiver, 20)
    assert await bench.statuses() == {"delivered": 20}


async def test_a_round_that_is_broken_off_leaves_a_manual_attempt_in_its_queue(
    bench: Workbench, receiver: Receiver
) -> None:
    gate = asyncio.Event()
    receiver.script(when(gate, status(200)))
    subscription_id = await hold(bench, receiver, 2, max_concurrency=1)
    rows = await bench.execute("SELECT message_id FROM delivery ORDER BY event_sequence")
    on_wire, queued = [await bench.load(row.message_id) for row in rows]
    bench.dispatcher.begin(on_wire, "manual")
    await receiver.wait_for(1)
    requested = bench.dispatcher.begin(queued, "manual")
    sending = asyncio.create_task(round_of(bench, subscription_id))
    await asyncio.sleep(4 * LOOK_SECONDS)  # some looks, in which the round joins both
    sending.cancel()
    with suppress(asyncio.CancelledError):
        await sending
    gate.set()
    assert (await requested).status == "delivered"
    assert each_once(receiver, 2)


@pytest.mark.usefixtures("long_rounds")
async def test_a_receiver_that_is_just_up_again_gets_a_few_at_first_and_then_more(
    bench: Workbench, receiver: Receiver
) -> None:
    gate = asyncio.Event()
    subscription_id = await hold(bench, receiver, 100, max_concurrency=50)
    receiver.script(*[when(gate, status(200))] * drain.FIRST_WINDOW)
    sending = asyncio.create_task(round_of(bench, subscription_id))
    await receiver.wait_for(drain.FIRST_WINDOW)
    await asyncio.sleep(4 * LOOK_SECONDS)  # some looks, of which none may begin anything
    assert len(receiver.requests) == drain.FIRST_WINDOW
    gate.set()
    done = await sending
    assert (done.delivered, done.window) == (100, drain.FIRST_WINDOW + 100)


async def test_workers_that_take_turns_keep_the_pace_together(
    bench: Workbench, receiver: Receiver, cleared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, turns = 4, 4
    monkeypatch.setattr(drain, "ROUND_SECONDS", 0.1)
    subscription_id = await hold(bench, receiver, 40, rate_limit_per_second=rate)
    ends = []
    async with workbench(cleared_url, **PATIENT) as other:
        done = None
        for turn in range(turns):
            done = await round_of(other if turn % 2 else bench, subscription_id, done)
            ends.append(len(receiver.requests))
    requests = receiver.requests
    between = [requests[end].arrived_at - requests[end - 1].arrived_after for end in ends[:-1]]
    assert len(between) == turns - 1
    assert min(between) > 0.5 / rate, "the first of a turn keeps its distance from the last of the one before"
