"""The even load of `kills` and `hour`: what it counts, and when the hour is disturbed."""

from collections import Counter

import pytest

from tests.chaos import hour, kills
from tests.chaos.even_load import Instants
from tests.chaos.hour import DISTURBANCES, actions


def request(number: int) -> bytes:
    return b'{"data":{"customer":{"customerId":"5a1c2f3e-0000-4000-8000-%012x"}}}' % number


def test_a_request_that_comes_twice_is_a_repeat_and_one_that_never_comes_is_lost() -> None:
    instants = Instants()
    instants.accepted.extend([1.0, 1.0, 0.0, 1.0])
    instants.arrived.extend([0.0] * 4)
    for number in (0, 2, 3, 3):
        instants.add(request(number))
    assert instants.repeated == 1
    assert instants.lost(range(4)) == 1
    assert len(instants.latenesses(range(4))) == 2, "of what was accepted and came"


def test_the_hour_has_a_disturbance_a_minute_and_every_other_minute_is_quiet() -> None:
    planned = actions(60)
    assert len(planned) == 60
    assert all(action.at // 60 % 2 for action in planned)
    assert Counter((action.kind, action.target) for action in planned) == {one[:2]: 6 for one in DISTURBANCES}


@pytest.mark.parametrize(
    ("name", "lost", "p99", "slowest", "goals"),
    [
        ("worker", 0, 1.9, 4.9, 0),
        ("worker", 1, 1.9, 4.9, 1),
        ("PostgreSQL", 0, 2.1, 5.1, 2),
        ("Temporal", 0, 2.1, 5.1, 0),
        ("Temporal", 1, 2.1, 5.1, 1),
    ],
)
def test_kills_say_what_was_lost_and_what_came_too_late_after_a_kill_of_ours(
    name: str, lost: int, p99: float, slowest: float, goals: int
) -> None:
    assert len(kills.missed({name: {"lost": lost, "p99_seconds": p99, "max_seconds": slowest}})) == goals


@pytest.mark.parametrize(
    ("lost", "quiet", "everything", "goals"), [(0, 99.9, 98.0, 0), (2, 99.9, 98.0, 1), (0, 99.8, 97.9, 2)]
)
def test_the_hour_says_what_was_lost_and_which_share_came_too_late(
    lost: int, quiet: float, everything: float, goals: int
) -> None:
    found = {"lost": lost, "quiet": {"within_5": quiet}, "all": {"within_5": everything}}
    assert len(hour.missed(found)) == goals
