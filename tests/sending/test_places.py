"""Places on the wire: no subscription gets more than its own limit, and none what others need."""

import asyncio
from uuid import uuid4

import pytest

from sending.concurrency import Lane, LeftQueueError, Places


async def queue(places: Places, lane: Lane, count: int) -> "list[asyncio.Task[None]]":
    """Let so many attempts ask for a place."""
    tasks = [asyncio.create_task(places.take(lane, uuid4())) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("hanging", [1, 11, 15, 25])
async def test_however_many_subscriptions_hang_another_finds_a_place(hanging: int) -> None:
    places = Places(512)
    lanes = [Lane("store", 50) for _ in range(hanging)]
    tasks = [task for lane in lanes for task in await queue(places, lane, 600)]
    healthy = Lane("store", 50)
    mine = await queue(places, healthy, 1)
    assert mine[0].done()
    assert min(lane.in_flight for lane in lanes) >= 1
    for task in [*tasks, *mine]:
        task.cancel()
    await settle()
    assert not any(lane.queue for lane in lanes)


@pytest.mark.parametrize(("hanging", "each"), [(1, 50), (5, 50), (15, 27), (100, 4)])
async def test_those_that_hang_share_evenly_once_their_first_requests_have_ended(hanging: int, each: int) -> None:
    places = Places(512)
    lanes = [Lane("store", 50) for _ in range(hanging)]
    tasks = [task for lane in lanes for task in await queue(places, lane, 600)]
    for _ in range(500):
        places.leave(max(lanes, key=lambda lane: lane.in_flight))
        await settle()
    assert {lane.in_flight for lane in lanes} <= {each - 1, each, each + 1}
    for task in tasks:
        task.cancel()


async def test_one_subscription_alone_gets_what_its_limit_says() -> None:
    places, lane = Places(512), Lane("store", 50)
    tasks = await queue(places, lane, 80)
    assert (lane.in_flight, places.free) == (50, 462)
    for _ in range(10):
        places.leave(lane)
    await settle()
    assert (lane.in_flight, sum(task.done() for task in tasks)) == (50, 60)
    for task in tasks:
        task.cancel()


async def test_places_that_come_free_go_round() -> None:
    places = Places(40)
    first, second = Lane("store", 50), Lane("store", 50)
    tasks = [*await queue(places, first, 20), *await queue(places, second, 20)]
    for _ in range(12):
        places.leave(max(first, second, key=lambda lane: lane.in_flight))
        await settle()
    assert abs(first.in_flight - second.in_flight) <= 1
    for task in tasks:
        task.cancel()


async def test_a_raised_limit_lets_go_at_once_and_a_lowered_one_waits_for_those_on_the_wire() -> None:
    places, lane = Places(512), Lane("store", 2)
    tasks = await queue(places, lane, 20)
    places.limit(lane, 5)
    await settle()
    assert sum(task.done() for task in tasks) == 5
    places.limit(lane, 1)
    for _ in range(4):
        places.leave(lane)
    await settle()
    assert (lane.in_flight, sum(task.done() for task in tasks)) == (1, 5)
    places.leave(lane)
    await settle()
    assert sum(task.done() for task in tasks) == 6
    for task in tasks:
        task.cancel()


async def test_who_leaves_the_queue_or_is_cancelled_with_a_place_leaves_none_behind() -> None:
    places, lane = Places(512), Lane("store", 1)
    held, waiting = uuid4(), uuid4()
    await places.take(lane, held)
    task = asyncio.create_task(places.take(lane, waiting))
    await asyncio.sleep(0)
    assert not places.withdraw(lane, held)
    assert places.withdraw(lane, waiting)
    with pytest.raises(LeftQueueError):
        await task
    late = asyncio.create_task(places.take(lane, waiting))
    await asyncio.sleep(0)
    places.leave(lane)  # its place is given to the one that is cancelled before it could take it up
    late.cancel()
    await settle()
    assert (lane.in_flight, places.free, lane.queue) == (0, 512, {})


async def test_one_store_alone_gets_its_places_at_once() -> None:
    places, lane = Places(512), Lane("store", 50)
    tasks = await queue(places, lane, 20)
    assert lane.in_flight == 20
    for task in tasks:
        task.cancel()


async def test_stores_are_served_round_robin_however_many_subscriptions_one_of_them_has() -> None:
    places = Places(8)
    others = [Lane("other", 1) for _ in range(8)]
    noisy, small = [Lane("noisy", 1) for _ in range(20)], [Lane("small", 1) for _ in range(4)]
    tasks = [task for lane in (*others, *noisy, *small) for task in await queue(places, lane, 1)]
    assert places.free == 0
    for lane in others:
        places.leave(lane)
    assert [sum(lane.in_flight for lane in store) for store in (noisy, small)] == [4, 4]
    for task in tasks:
        task.cancel()
