"""A rate limit is kept on the wire, whatever held requests up, and by one worker at a time."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from domain.delivery.lifecycle import Reason
from sending.dispatcher import AttemptTakenError
from sending.rate_limit import LimiterLease, LimiterLeaseLostError, LimiterLeases, RateLimiter
from tests.chaos.verdict import most_in_a_second
from tests.deadlines import eventually
from tests.receiver import Receiver, status, when
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


async def test_requests_delayed_by_a_busy_process_do_not_go_out_as_a_burst() -> None:
    limiter, sent = RateLimiter(PER_SECOND), list[float]()
    limiter.lease = LimiterLease(time.monotonic() + 60)  # nobody renews it

    async def send() -> None:
        await limiter.wait()
        sent.append(time.monotonic())
        if len(sent) in (5, 40):
            time.sleep(0.3)  # blocks the event loop

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(PER_SECOND + 20):
            group.create_task(send())
    assert len(sent) == PER_SECOND + 20
    assert most_in_a_second(sent) <= PER_SECOND


async def test_a_process_that_was_stopped_sends_nothing_before_it_has_renewed_its_limiter_lease() -> None:
    limiter, lease = RateLimiter(PER_SECOND), LimiterLease(time.monotonic() - 60)
    limiter.lease = lease
    waiting = asyncio.create_task(limiter.wait())
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    lease.renewed_at = time.monotonic() + 60
    async with asyncio.timeout(30):
        await waiting
    lease.lost = True
    with pytest.raises(LimiterLeaseLostError):
        await limiter.wait()


async def test_one_worker_at_a_time_holds_the_limiter_lease_and_that_of_a_dead_one_lapses(bench: Workbench) -> None:
    subscription_id = uuid4()
    ours, theirs = LimiterLeases(bench.database, bench.worker_id), LimiterLeases(bench.database, uuid4())
    async with ours.hold(subscription_id) as lease:
        assert lease is not None
        assert lease.valid
        async with theirs.hold(subscription_id) as refused:
            assert refused is None
        lease.lost = True  # it is renewed no more
        await bench.execute("UPDATE limiter_lease SET seen_at = clock_timestamp() - interval '4 seconds'")
        async with theirs.hold(subscription_id) as taken:
            assert taken is not None
            async with ours.hold(subscription_id) as again:
                assert again is None
    async with ours.hold(subscription_id) as last:
        assert last is not None
    assert await bench.scalar("SELECT count(*) FROM limiter_lease") == 0


async def test_an_attempt_that_waits_when_the_limiter_lease_is_lost_is_not_sent_and_leaves_no_row(
    bench: Workbench, held: tuple[Receiver, UUID, UUID]
) -> None:
    receiver, subscription_id, message_id = held
    lease = LimiterLease(time.monotonic())
    lease.lost = True
    bench.dispatcher.queues.rate_limiters.limit(subscription_id, PER_SECOND, lease)
    delivery = replace(await bench.load(message_id), hold_again_as=Reason.RETRY)
    with pytest.raises(AttemptTakenError):
        await bench.dispatcher.begin(delivery, "automatic")
    assert receiver.requests == []
    assert await bench.scalar("SELECT count(*) FROM attempt") == 0
    bench.dispatcher.queues.rate_limiters.limit(subscription_id, PER_SECOND, LimiterLease(time.monotonic() + 60))
    assert (await bench.dispatcher.begin(delivery, "automatic")).status == "delivered"


DELETE = """
UPDATE subscription SET deleted_at = now(), updated_at = now(),
    sealed_headers = NULL, sealed_secret = NULL, sealed_previous_secret = NULL
"""


async def test_an_attempt_that_waits_for_its_rate_while_its_subscription_is_deleted_is_not_sent(
    bench: Workbench, held: tuple[Receiver, UUID, UUID]
) -> None:
    receiver, subscription_id, message_id = held
    queues, lease = bench.dispatcher.queues, LimiterLease(time.monotonic() + 60)
    queues.rate_limiters.limit(subscription_id, 0.01, lease)
    await queues.rate_limiters[subscription_id].wait()  # the next request is due in 100 s
    attempt = bench.dispatcher.begin(replace(await bench.load(message_id), hold_again_as=Reason.RETRY), "automatic")
    await bench.execute(DELETE)

    async def suspended() -> bool:
        return queues._queues[subscription_id].suspension is not None

    await eventually(suspended, 30, "the worker knows")
    queues.rate_limiters[subscription_id]._next_at = 0.0
    with pytest.raises(AttemptTakenError):
        await attempt
    assert receiver.requests == []
    assert await bench.scalar("SELECT count(*) FROM attempt") == 0


async def test_a_manual_attempt_queued_while_its_subscription_is_deleted_keeps_its_headers(bench: Workbench) -> None:
    async with Receiver() as receiver:
        gate = asyncio.Event()
        receiver.script(when(gate, status(200)))
        sealed = bench.sealer().seal('[["X-Api-Key", "key"]]')
        subscription_id = await bench.subscribe(
            "CustomerUpdated", receiver.url("/hook"), max_concurrency=1, sealed_headers=sealed
        )
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 2))
        held = [await bench.load(row.message_id) for row in await bench.deliveries()]
        attempts = [bench.dispatcher.begin(one, "manual") for one in held]
        await receiver.wait_for(1)
        await bench.execute(DELETE)

        async def read() -> bool:
            current = bench.dispatcher.queues._queues[subscription_id].subscription
            return current is not None and current.deleted

        await eventually(read, 30, "the worker knows")
        gate.set()
        assert [(await one).status for one in attempts] == ["delivered", "delivered"]
        assert [request.header("X-Api-Key") for request in receiver.requests] == ["key", "key"]


async def test_a_manual_attempt_needs_no_limiter_lease(bench: Workbench, held: tuple[Receiver, UUID, UUID]) -> None:
    _, subscription_id, message_id = held
    lease = LimiterLease(time.monotonic())
    lease.lost = True
    bench.dispatcher.queues.rate_limiters.limit(subscription_id, PER_SECOND, lease)
    assert (await bench.dispatcher.begin(await bench.load(message_id), "manual")).status == "delivered"
