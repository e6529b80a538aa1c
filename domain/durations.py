"""Histogram of attempt durations. Counts per step can be added over minutes and workers; lists of durations cannot."""

from bisect import bisect_left
from collections.abc import Mapping

_SERIES = (10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82)  # E12 series: each step is about 21 % longer
UPPER_BOUNDS_MS: tuple[int, ...] = (
    *range(1, 10),
    *(value * 10**power for power in range(4) for value in _SERIES if value * 10**power <= 56_000),
)
"""Inclusive upper bound of each step. The last is far beyond an attempt's timeout and takes all longer durations."""


def step_of(duration_ms: int) -> int:
    """Return the index of the step that a duration in milliseconds falls into."""
    return min(bisect_left(UPPER_BOUNDS_MS, duration_ms), len(UPPER_BOUNDS_MS) - 1)


def quantile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """Return the quantile `share` (0.95 for p95) in milliseconds, to within its step; None without any attempt.
    `counts` has the number of attempts by step. Durations are assumed to be spread evenly within a step."""
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
