"""ConcurrencyLimiter on the wire: no subscription gets more than its own limit, and none what others need."""

import asyncio
from uuid import uuid4

import pytest

from sending.concurrency import ConcurrencyLimiter, SubscriptionQueue, WithdrawnError


async def queued(places: ConcurrencyLimiter, queue: SubscriptionQueue, count: int) -> "list[asyncio.Task[None]]":
    """Let so many attempts ask for a place."""
    tasks = [asyncio.create_task(places.acquire(queue, uuid4())) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("hanging", [1, 11, 15, 25])
async def test_however_many_subscriptions_hang_another_finds_a_place(hanging: int) -> None:
    places = ConcurrencyLimiter(512)
    queues = [SubscriptionQueue("store", 50) for _ in range(hanging)]
    tasks = [task for queue in queues for task in await queued(places, queue, 600)]
    healthy = SubscriptionQueue("store", 50)
    mine = await queued(places, healthy, 1)
    assert mine[0].done()
    assert min(queue.in_flight for queue in queues) >= 1
    for task in [*tasks, *mine]:
        task.cancel()
    await settle()
    assert not any(queue.queue for queue in queues)


@pytest.mark.parametrize(("hanging", "each"), [(1, 50), (5, 50), (15, 27), (100, 4)])
async def test_those_that_hang_share_evenly_once_their_first_requests_have_ended(hanging: int, each: int) -> None:
    places = ConcurrencyLimiter(512)
    queues = [SubscriptionQueue("store", 50) for _ in range(hanging)]
    tasks = [task for queue in queues for task in await queued(places, queue, 600)]
    for _ in range(500):
        places.release(max(queues, key=lambda queue: queue.in_flight))
        await settle()
    assert {queue.in_flight for queue in queues} <= {each - 1, each, each + 1}
    for task in tasks:
        task.cancel()


async def test_one_subscription_alone_gets_what_its_limit_says() -> None:
    places, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 50)
    tasks = await queued(places, queue, 80)
    assert (queue.in_flight, places.free) == (50, 462)
    for _ in range(10):
        places.release(queue)
    await settle()
    assert (queue.in_flight, sum(task.done() for task in tasks)) == (50, 60)
    for task in tasks:
        task.cancel()


async def test_places_that_come_free_go_round() -> None:
    places = ConcurrencyLimiter(40)
    first, second = SubscriptionQueue("store", 50), SubscriptionQueue("store", 50)
    tasks = [*await queued(places, first, 20), *await queued(places, second, 20)]
    for _ in range(12):
        places.release(max(first, second, key=lambda queue: queue.in_flight))
        await settle()
    assert abs(first.in_flight - second.in_flight) <= 1
    for task in tasks:
        task.cancel()


async def test_a_raised_limit_lets_go_at_once_and_a_lowered_one_waits_for_those_on_the_wire() -> None:
    places, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 2)
    tasks = await queued(places, queue, 20)
    places.limit(queue, 5)
    await settle()
    assert sum(task.done() for task in tasks) == 5
    places.limit(queue, 1)
    for _ in range(4):
        places.release(queue)
    await settle()
    assert (queue.in_flight, sum(task.done() for task in tasks)) == (1, 5)
    places.release(queue)
    await settle()
    assert sum(task.done() for task in tasks) == 6
    for task in tasks:
        task.cancel()


async def test_who_leaves_the_queue_or_is_cancelled_with_a_place_leaves_none_behind() -> None:
    places, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 1)
    held, waiting = uuid4(), uuid4()
    await places.acquire(queue, held)
    task = asyncio.create_task(places.acquire(queue, waiting))
    await asyncio.sleep(0)
    assert not places.withdraw(queue, held)
    assert places.withdraw(queue, waiting)
    with pytest.raises(WithdrawnError):
        await task
    late = asyncio.create_task(places.acquire(queue, waiting))
    await asyncio.sleep(0)
    places.release(queue)  # its place is given to the one that is cancelled before it could take it up
    late.cancel()
    await settle()
    assert (queue.in_flight, places.free, queue.queue) == (0, 512, {})


async def test_one_store_alone_gets_its_places_at_once() -> None:
    places, queue = ConcurrencyLimiter(512), SubscriptionQueue("store", 50)
    tasks = await queued(places, queue, 20)
    assert queue.in_flight == 20
    for task in tasks:
        task.cancel()


async def test_stores_are_served_round_robin_however_many_subscriptions_one_of_them_has() -> None:
    places = ConcurrencyLimiter(8)
    others = [SubscriptionQueue("other", 1) for _ in range(8)]
    noisy, small = [SubscriptionQueue("noisy", 1) for _ in range(20)], [SubscriptionQueue("small", 1) for _ in range(4)]
    tasks = [task for queue in (*others, *noisy, *small) for task in await queued(places, queue, 1)]
    assert places.free == 0
    for queue in others:
        places.release(queue)
    assert [sum(queue.in_flight for queue in store) for store in (noisy, small)] == [4, 4]
    for task in tasks:
        task.cancel()
