"""How much a worker takes on: places are taken by a hand-over and freed when the first attempts are over."""

from collections.abc import Collection

import pytest

from relay import backpressure as gates
from relay.backpressure import MOST_OPEN, Gate, Way


def full_of_batches() -> Gate:
    gate = Gate()
    for number in range(MOST_OPEN[Way.BATCH]):
        gate.handed_over(f"events/{number}", Way.BATCH, {"noisy"})
    return gate


@pytest.mark.parametrize("way", Way)
def test_each_hand_over_takes_a_place_and_each_that_leaves_frees_one(way: Way) -> None:
    gate = Gate()
    for number in range(MOST_OPEN[way]):
        assert gate.room(way) == MOST_OPEN[way] - number
        gate.handed_over(f"some/{number}", way, {"s"})
    assert gate.room(way) == 0
    gate.left("some/0")
    assert gate.room(way) == 1


def test_what_comes_one_by_one_finds_room_however_many_batches_are_open() -> None:
    gate = full_of_batches()
    assert gate.room(Way.BATCH) == 0
    assert gate.room(Way.SINGLE) == MOST_OPEN[Way.SINGLE]
    assert gate.room(Way.MIXED) == MOST_OPEN[Way.MIXED]


def test_what_is_handed_over_again_finds_places_though_new_ones_take_all_of_theirs() -> None:
    gate = full_of_batches()
    assert gate.room_again(Way.BATCH) == MOST_OPEN[Way.BATCH]
    for number in range(MOST_OPEN[Way.BATCH]):
        gate.handed_over(f"events/again/{number}", Way.BATCH, {"noisy"})
    assert gate.room_again(Way.BATCH) == gate.room(Way.BATCH) == 0
    gate.left("events/0")
    assert (gate.room_again(Way.BATCH), gate.room(Way.BATCH)) == (1, 0)


def test_the_relay_is_told_when_there_is_room_again_and_not_before() -> None:
    told: list[Way] = []
    gate = full_of_batches()
    gate.on_room = told.append
    gate.handed_over("event/s/1", Way.SINGLE, {"s"})
    gate.left("event/s/1")
    assert told == []
    gate.left("events/0")
    assert told == [Way.BATCH]


def test_it_says_of_which_quiet_stores_events_are_on_their_way() -> None:
    told: list[Collection[str]] = []
    gate = Gate()
    gate.on_expected = told.append
    gate.handed_over("events/1", Way.BATCH, {"noisy"})
    gate.handed_over("event/a/1", Way.SINGLE, {"a"})
    gate.handed_over("events/2", Way.MIXED, {"b", "c"})
    gate.begun("event/a/1")
    gate.left("event/a/1")
    gate.left("events/2")  # it was not started after all
    assert told == [{"a"}, {"a", "b", "c"}, {"b", "c"}, set()]


def test_what_another_worker_takes_is_expected_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Collection[str]] = []
    gate = Gate()
    gate.on_expected = told.append
    gate.handed_over("event/a/1", Way.SINGLE, {"a"})
    gate.started("event/a/1")
    monkeypatch.setattr(gates, "FOREIGN_AFTER_SECONDS", -1.0)
    gate.room(Way.SINGLE)
    assert told[-1] == set()


def test_what_temporal_has_not_taken_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FOREIGN_AFTER_SECONDS", 0.0)
    assert full_of_batches().room(Way.BATCH) == 0


def test_what_another_worker_takes_gives_its_place_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FOREIGN_AFTER_SECONDS", 0.0)
    gate = full_of_batches()
    gate.started("events/0")
    assert gate.room(Way.BATCH) == 1


def test_what_this_worker_takes_keeps_its_place_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FOREIGN_AFTER_SECONDS", 0.0)
    gate = full_of_batches()
    gate.entered("events/0")
    gate.started("events/0")  # started eagerly, it was entered before the answer came
    assert gate.room(Way.BATCH) == 0
    gate.left("events/0")
    assert gate.room(Way.BATCH) == 1


def test_what_was_never_handed_over_here_takes_no_place() -> None:
    gate = Gate()
    gate.entered("events/foreign")
    gate.started("events/foreign")
    gate.left("events/foreign")
    assert gate.room(Way.BATCH) == MOST_OPEN[Way.BATCH]
