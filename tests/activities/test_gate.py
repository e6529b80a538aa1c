"""How much a worker takes on: places are taken by a hand-over and freed when the first attempts are over."""

import asyncio

import pytest

from activities import gate as gates
from activities.gate import BATCHES_OPEN, SINGLES_OPEN, Gate


def full_of_batches() -> Gate:
    gate = Gate()
    for number in range(BATCHES_OPEN):
        gate.handed_over(f"events/{number}", batch=True)
    return gate


async def test_a_new_gate_is_open() -> None:
    gate = Gate()
    assert await gate.open()
    assert gate.free_singles() == SINGLES_OPEN


async def test_as_many_batches_as_may_be_open_close_it_and_one_that_leaves_opens_it() -> None:
    gate = full_of_batches()
    waiting = asyncio.create_task(gate.open())
    await asyncio.sleep(0)
    gate.left("events/0")
    assert await waiting


async def test_single_events_take_places_of_their_own() -> None:
    gate = Gate()
    for number in range(SINGLES_OPEN):
        assert gate.free_singles() == SINGLES_OPEN - number
        gate.handed_over(f"event/s/{number}", batch=False)
    assert gate.free_singles() == 0
    gate.left("event/s/3")
    assert gate.free_singles() == 1
    assert await gate.open()


async def test_waiting_for_room_ends_so_that_a_stop_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FOREIGN_AFTER_SECONDS", 0.05)
    async with asyncio.timeout(2):
        assert not await full_of_batches().open()


async def test_what_temporal_has_not_taken_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FOREIGN_AFTER_SECONDS", 0.0)
    gate = full_of_batches()
    assert not await gate.open()


async def test_what_another_worker_takes_gives_its_place_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FOREIGN_AFTER_SECONDS", 0.0)
    gate = full_of_batches()
    gate.started("events/0")
    assert await gate.open()


async def test_what_this_worker_takes_keeps_its_place_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FOREIGN_AFTER_SECONDS", 0.0)
    gate = full_of_batches()
    gate.entered("events/0")
    gate.started("events/0")  # started eagerly, it was entered before the answer came
    assert not await gate.open()
    gate.left("events/0")
    assert await gate.open()


async def test_what_was_never_handed_over_here_takes_no_place() -> None:
    gate = Gate()
    gate.entered("events/foreign")
    gate.started("events/foreign")
    gate.left("events/foreign")
    assert gate.free_singles() == SINGLES_OPEN
