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


def shared() -> Places:
    """Places of a worker that has had an event of a quiet store just now."""
    places = Places(512)
    places.let_first({"quiet"})
    places.let_first(())
    return places


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


async def test_while_quiet_stores_have_events_only_so_many_places_are_given_in_one_turn_of_the_event_loop() -> None:
    places, lane = shared(), Lane("store", 50)
    tasks = await queue(places, lane, 20)
    counts = [lane.in_flight]
    for _ in range(5):
        await asyncio.sleep(0)
        counts.append(lane.in_flight)
    assert counts == [4, 8, 12, 16, 20, 20]
    for task in tasks:
        task.cancel()


async def test_stores_take_turns_however_many_subscriptions_one_of_them_has() -> None:
    places = shared()
    noisy = [Lane("noisy", 50) for _ in range(20)]
    tasks = [task for lane in noisy for task in await queue(places, lane, 10)]
    small = Lane("small", 50)
    mine = await queue(places, small, 3)
    await asyncio.sleep(0)
    assert small.in_flight == 2, "half of the four places of a turn"
    await asyncio.sleep(0)
    assert small.in_flight == 3
    for task in [*tasks, *mine]:
        task.cancel()


async def test_subscriptions_of_a_store_take_turns() -> None:
    places = shared()
    first, second = Lane("store", 50), Lane("store", 50)
    tasks = [*await queue(places, first, 20), *await queue(places, second, 20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert abs(first.in_flight - second.in_flight - 4) <= 4  # the first had a turn alone
    for task in tasks:
        task.cancel()


async def test_others_make_way_for_what_is_expected_until_it_has_come() -> None:
    places = shared()
    noisy, small = Lane("noisy", 50), Lane("small", 50)
    places.let_first({"small"})
    tasks = await queue(places, noisy, 10)
    await settle()
    assert noisy.in_flight == 0
    await places.take(small, uuid4())
    assert small.in_flight == 1
    places.let_first(())
    await settle()
    assert noisy.in_flight == 10
    for task in tasks:
        task.cancel()


async def test_others_make_way_for_a_moment_only_and_then_go_on_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sending.concurrency.MAKE_WAY_SECONDS", 0.01)
    monkeypatch.setattr("sending.concurrency.GO_ON_SECONDS", 30.0)
    places = shared()
    noisy = Lane("noisy", 50)
    places.let_first({"small"})
    [task] = await queue(places, noisy, 1)
    async with asyncio.timeout(5):
        await task
    places.let_first({"small", "another"})
    await asyncio.wait_for(places.take(noisy, uuid4()), 5)
