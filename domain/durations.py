"""How long attempts take, in steps: counts by step add up over minutes and workers, lists of durations would not."""

from bisect import bisect_left
from collections.abc import Mapping

_SERIES = (10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82)  # E12: each step is about 21 % longer than the one before
UPPER_BOUNDS_MS: tuple[int, ...] = (
    *range(1, 10),
    *(value * 10**power for power in range(4) for value in _SERIES if value * 10**power <= 56_000),
)
"""The longest duration of each step, inclusive, far beyond an attempt's time-out; what is longer is in the last."""


def step_of(duration_ms: int) -> int:
    """The step that a duration falls into."""
    return min(bisect_left(UPPER_BOUNDS_MS, duration_ms), len(UPPER_BOUNDS_MS) - 1)


def quantile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """The duration within which that share of the counted attempts lies, to within its step; None when there are none.

    Within a step durations are taken to be spread evenly.
    """
    total = sum(counts.values())
    if total == 0:
        return None
    wanted, before = share * total, 0
    for step in sorted(counts):
        if counts[step] and before + counts[step] >= wanted:
            lower = UPPER_BOUNDS_MS[step - 1] if step > 0 else 0
            return lower + (UPPER_BOUNDS_MS[step] - lower) * (wanted - before) / counts[step]
        before += counts[step]
    return float(UPPER_BOUNDS_MS[max(counts)])
