"""Durations counted by step: every one has a step, and quantiles are right to within it."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from domain.durations import UPPER_BOUNDS_MS, quantile_ms, step_of


def test_steps_grow_and_no_gap_between_two_is_wider_than_a_quarter_beyond_ten_milliseconds() -> None:
    assert list(UPPER_BOUNDS_MS) == sorted(set(UPPER_BOUNDS_MS))
    assert UPPER_BOUNDS_MS[-1] > 2 * 15_000
    assert all(after / before <= 1.25 for before, after in pairwise(UPPER_BOUNDS_MS) if before >= 10)


@pytest.mark.parametrize(
    ("duration_ms", "upper"), [(0, 1), (1, 1), (2, 2), (10, 10), (11, 12), (100, 100), (101, 120), (10**9, 56_000)]
)
def test_a_duration_falls_into_the_first_step_that_holds_it(duration_ms: int, upper: int) -> None:
    assert UPPER_BOUNDS_MS[step_of(duration_ms)] == upper


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile_ms({}, 0.5) is None
    assert quantile_ms({3: 0}, 0.5) is None


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 50_000])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 1.0])
def test_a_quantile_lies_in_the_step_of_the_true_one(count: int, share: float) -> None:
    chance = random.Random(count)
    durations = sorted(int(chance.lognormvariate(4, 1)) for _ in range(count))
    found = quantile_ms(Counter(map(step_of, durations)), share)
    assert found is not None
    true = durations[max(0, min(count - 1, round(share * count + 0.4999) - 1))]
    step = step_of(true)
    assert (UPPER_BOUNDS_MS[step - 1] if step else 0) <= found <= UPPER_BOUNDS_MS[step]
