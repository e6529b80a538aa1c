"""A rate limit is kept on the wire, whatever held requests up, and by one worker at a time."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from domain.delivery.lifecycle import Reason
from sending.dispatcher import AttemptTakenError
from sending.rate_limit import LimiterLeaseLostError, RateLimiter, Turn, Turns
from tests.chaos.verdict import most_in_a_second
from tests.receiver import Receiver
from tests.workbench import Workbench, workbench

PER_SECOND = 50


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url) as bench:
        yield bench


@pytest.fixture
async def held(bench: Workbench) -> AsyncIterator[tuple[Receiver, UUID, UUID]]:
    """A receiver, a subscription of it with a limit, and a delivery that waits for its drain."""
    async with Receiver() as receiver:
        subscription_id = await bench.subscribe(
            "CustomerUpdated", receiver.url("/hook"), rate_limit_per_second=PER_SECOND
        )
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
        [row] = await bench.execute("SELECT message_id, status FROM delivery")
        assert row.status == "held"
        yield receiver, subscription_id, row.message_id


async def test_what_a_busy_process_held_up_does_not_go_at_once() -> None:
    pace, sent = RateLimiter(PER_SECOND), list[float]()
    pace.turn = Turn(time.monotonic())

    async def send() -> None:
        await pace.wait()
        sent.append(time.monotonic())
        if len(sent) in (5, 40):
            time.sleep(0.3)  # nothing else in this process gets its turn meanwhile

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(PER_SECOND + 20):
            group.create_task(send())
    assert len(sent) == PER_SECOND + 20
    assert most_in_a_second(sent) <= PER_SECOND


async def test_a_process_that_was_stopped_sends_nothing_before_it_has_asked_whose_turn_it_is() -> None:
    pace, turn = RateLimiter(PER_SECOND), Turn(time.monotonic() - 60)
    pace.turn = turn
    waiting = asyncio.create_task(pace.wait())
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    turn.seen_at = time.monotonic()
    async with asyncio.timeout(5):
        await waiting
    turn.over = True
    with pytest.raises(LimiterLeaseLostError):
        await pace.wait()


async def test_one_worker_at_a_time_has_the_turn_and_a_dead_ones_lapses(bench: Workbench) -> None:
    subscription_id = uuid4()
    ours, theirs = Turns(bench.database, bench.worker_id), Turns(bench.database, uuid4())
    async with ours.turn(subscription_id) as turn:
        assert turn is not None
        assert turn.steady
        async with theirs.turn(subscription_id) as refused:
            assert refused is None
        await bench.execute("UPDATE limiter_lease SET seen_at = clock_timestamp() - interval '4 seconds'")
        async with theirs.turn(subscription_id) as taken:
            assert taken is not None
            async with ours.turn(subscription_id) as again:
                assert again is None
    async with ours.turn(subscription_id) as last:
        assert last is not None
    assert await bench.scalar("SELECT count(*) FROM limiter_lease") == 0


async def test_what_waits_when_the_turn_is_lost_is_not_sent_and_leaves_no_attempt(
    bench: Workbench, held: tuple[Receiver, UUID, UUID]
) -> None:
    receiver, subscription_id, message_id = held
    turn = Turn(time.monotonic())
    turn.over = True
    bench.dispatcher.limit_rate(subscription_id, PER_SECOND, turn)
    delivery = replace(await bench.load(message_id), hold_again_as=Reason.RETRY)
    with pytest.raises(AttemptTakenError):
        await bench.dispatcher.begin(delivery, "automatic")
    assert receiver.requests == []
    assert await bench.scalar("SELECT count(*) FROM attempt") == 0
    bench.dispatcher.limit_rate(subscription_id, PER_SECOND, Turn(time.monotonic()))
    assert (await bench.dispatcher.begin(delivery, "automatic")).status == "delivered"


async def test_what_a_person_asks_for_waits_for_nobodys_turn(
    bench: Workbench, held: tuple[Receiver, UUID, UUID]
) -> None:
    _, subscription_id, message_id = held
    turn = Turn(time.monotonic())
    turn.over = True
    bench.dispatcher.limit_rate(subscription_id, PER_SECOND, turn)
    assert (await bench.dispatcher.begin(await bench.load(message_id), "manual")).status == "delivered"
