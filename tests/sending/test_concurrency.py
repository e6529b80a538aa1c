"""ConcurrencyLimiter on the wire: no subscription gets more than its own limit, and none what others need."""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from sending.concurrency import FIRST_REQUESTS, Admissions, ConcurrencyLimiter, SubscriptionQueue, WithdrawnError

ONE, OTHER = uuid4(), uuid4()


async def enqueue(limiter: ConcurrencyLimiter, queue: SubscriptionQueue, count: int) -> "list[asyncio.Task[None]]":
    """Let so many attempts ask for a slot."""
    tasks = [asyncio.create_task(limiter.acquire(queue, uuid4())) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("hanging", [1, 11, 15, 25])
async def test_however_many_subscriptions_hang_another_finds_a_slot(hanging: int) -> None:
    limiter = ConcurrencyLimiter(512)
    queues = [SubscriptionQueue("store", 50, 50) for _ in range(hanging)]
    tasks = [task for queue in queues for task in await enqueue(limiter, queue, 600)]
    healthy = SubscriptionQueue("store", 50, 50)
    mine = await enqueue(limiter, healthy, 1)
    assert mine[0].done()
    assert min(queue.in_flight for queue in queues) >= 1
    for task in [*tasks, *mine]:
        task.cancel()
    await settle()
    assert not any(queue.queue for queue in queues)


@pytest.mark.parametrize(("hanging", "each"), [(1, 50), (5, 50), (15, 27), (100, 4)])
async def test_those_that_hang_share_evenly_once_their_first_requests_have_ended(hanging: int, each: int) -> None:
    limiter = ConcurrencyLimiter(512)
    queues = [SubscriptionQueue("store", 50, 50) for _ in range(hanging)]
    tasks = [task for queue in queues for task in await enqueue(limiter, queue, 600)]
    for _ in range(500):
        limiter.release(max(queues, key=lambda queue: queue.in_flight))
        await settle()
    assert {queue.in_flight for queue in queues} <= {each - 1, each, each + 1}
    for task in tasks:
        task.cancel()


async def test_one_subscription_alone_gets_what_its_limit_says() -> None:
    limiter, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 50, 50)
    tasks = await enqueue(limiter, queue, 80)
    assert (queue.in_flight, limiter.free) == (50, 462)
    for _ in range(10):
        limiter.release(queue)
    await settle()
    assert (queue.in_flight, sum(task.done() for task in tasks)) == (50, 60)
    for task in tasks:
        task.cancel()


async def test_a_subscription_starts_with_few_requests_and_gets_one_more_for_each_success() -> None:
    limiter, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 50)
    tasks = await enqueue(limiter, queue, 80)
    assert queue.in_flight == FIRST_REQUESTS
    for successes in range(1, 11):
        queue.window += 1
        limiter.release(queue)
        await settle()
        assert queue.in_flight == FIRST_REQUESTS + successes
    for task in tasks:
        task.cancel()


async def test_a_windowless_attempt_passes_those_that_wait_for_the_window_and_keeps_the_limit() -> None:
    limiter, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", FIRST_REQUESTS + 2)
    tasks = await enqueue(limiter, queue, FIRST_REQUESTS + 1)
    passing = [asyncio.create_task(limiter.acquire(queue, uuid4(), windowless=True)) for _ in range(4)]
    await settle()
    assert [task.done() for task in passing] == [True, True, False, False]
    limiter.release(queue)
    await settle()
    assert [task.done() for task in passing] == [True, True, True, False]
    passing[3].cancel()
    for _ in range(3):
        limiter.release(queue)
    await settle()
    assert all(task.done() for task in tasks)
    assert (queue.in_flight, queue.queue, queue.windowless) == (FIRST_REQUESTS, {}, {})


async def test_freed_slots_are_given_round_robin() -> None:
    limiter = ConcurrencyLimiter(40)
    first, second = SubscriptionQueue("store", 50, 50), SubscriptionQueue("store", 50, 50)
    tasks = [*await enqueue(limiter, first, 20), *await enqueue(limiter, second, 20)]
    for _ in range(12):
        limiter.release(max(first, second, key=lambda queue: queue.in_flight))
        await settle()
    assert abs(first.in_flight - second.in_flight) <= 1
    for task in tasks:
        task.cancel()


async def test_a_raised_limit_lets_go_at_once_and_a_lowered_one_waits_for_those_on_the_wire() -> None:
    limiter, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 2)
    tasks = await enqueue(limiter, queue, 20)
    limiter.limit(queue, 5)
    await settle()
    assert sum(task.done() for task in tasks) == 5
    limiter.limit(queue, 1)
    for _ in range(4):
        limiter.release(queue)
    await settle()
    assert (queue.in_flight, sum(task.done() for task in tasks)) == (1, 5)
    limiter.release(queue)
    await settle()
    assert sum(task.done() for task in tasks) == 6
    for task in tasks:
        task.cancel()


async def test_an_attempt_that_is_withdrawn_or_cancelled_leaves_no_slot_taken() -> None:
    limiter, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 1)
    held, waiting = uuid4(), uuid4()
    await limiter.acquire(queue, held)
    task = asyncio.create_task(limiter.acquire(queue, waiting))
    await asyncio.sleep(0)
    assert not limiter.withdraw(queue, held)
    assert limiter.withdraw(queue, waiting)
    with pytest.raises(WithdrawnError):
        await task
    late = asyncio.create_task(limiter.acquire(queue, waiting))
    await asyncio.sleep(0)
    limiter.release(queue)  # the slot goes to an attempt that is cancelled before it could use it
    late.cancel()
    await settle()
    assert (queue.in_flight, limiter.free, queue.queue) == (0, 512, {})


async def test_one_store_alone_gets_its_slots_at_once() -> None:
    limiter, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 50, 50)
    tasks = await enqueue(limiter, queue, 20)
    assert queue.in_flight == 20
    for task in tasks:
        task.cancel()


async def test_stores_are_served_round_robin_however_many_subscriptions_one_of_them_has() -> None:
    limiter = ConcurrencyLimiter(8)
    others = [SubscriptionQueue("other", 1) for _ in range(8)]
    noisy, small = [SubscriptionQueue("noisy", 1) for _ in range(20)], [SubscriptionQueue("small", 1) for _ in range(4)]
    tasks = [task for queue in (*others, *noisy, *small) for task in await enqueue(limiter, queue, 1)]
    assert limiter.free == 0
    for queue in others:
        limiter.release(queue)
    assert [sum(queue.in_flight for queue in store) for store in (noisy, small)] == [4, 4]
    for task in tasks:
        task.cancel()


def test_all_admitted_attempts_of_a_subscription_count_and_those_of_another_do_not() -> None:
    admissions = Admissions(3, Counter({ONE: 1}).__getitem__)
    with admissions.begin() as first, admissions.begin() as second:
        assert first.may_begin(ONE)
        assert second.may_begin(ONE)
        assert not first.may_begin(ONE)
        assert not second.may_begin(ONE)
        assert second.may_begin(OTHER)


def test_an_attempt_that_was_begun_is_not_counted_twice() -> None:
    under_way = Counter[object]()
    admissions = Admissions(4, under_way.__getitem__)
    with admissions.begin() as first, admissions.begin() as second:
        assert [first.may_begin(ONE) for _ in range(2)] == [True, True]
        for _ in range(2):
            under_way[ONE] += 1
            first.begun(ONE)
        assert [second.may_begin(ONE) for _ in range(3)] == [True, True, False]


def test_admissions_that_were_not_used_are_returned_at_the_end_of_the_block() -> None:
    admissions = Admissions(2, Counter[object]().__getitem__)
    with admissions.begin() as first:
        assert [first.may_begin(ONE) for _ in range(2)] == [True, True]
        first.begun(ONE)
        first.begun(OTHER)  # begun without having asked
    with admissions.begin() as again:
        assert [again.may_begin(ONE) for _ in range(3)] == [True, True, False]
