"""Batching: events start a workflow each at a low rate, and gather for one workflow at a higher rate."""

import time
from math import ceil

SINGLES_PER_SECOND = 25.0
"""Rate of workflows with one event. At 35 ms of CPU each, this is under half of two cores."""

SINGLES_BURST = 10.0
"""Maximum number of workflows with one event that may start at once before batches begin."""

GATHER_SECONDS = 0.1
"""Time after a batch in which events gather for the next one, without a backlog: at most ten workflows a second."""

QUIET_SECONDS = 1.0
"""Time for which batches stay small after an event of a quiet store was claimed beside a backlog of another."""

BUSY_SHARE = 1 / 6
"""Share of the batch size used while a quiet store is active, whose next event waits for the batches in flight."""


class Batching:
    """A token bucket for workflows with one event, and size and time of the next batch (`now`: a monotonic clock)."""

    def __init__(self) -> None:
        self._tokens = SINGLES_BURST
        self._refilled_at = time.monotonic()
        self._singles_at = 0.0
        self._batch_at = 0.0
        self._small_until = 0.0

    def singles(self, now: float) -> int:
        """Return how many events may start a workflow each; 0 while events gather or a backlog is being claimed."""
        self._tokens = min(SINGLES_BURST, self._tokens + (now - self._refilled_at) * SINGLES_PER_SECOND)
        self._refilled_at = now
        return int(self._tokens) if now >= self._singles_at else 0

    def may_batch(self, now: float) -> bool:
        """Return True unless events are gathering for the next batch."""
        return now >= self._batch_at

    def batch_events(self, most: int, now: float) -> int:
        return ceil(most * BUSY_SHARE) if now < self._small_until else most

    def pause(self, now: float) -> float | None:
        """Return the seconds until the next gathering of events ends, or None if none is active."""
        later = [at - now for at in (self._singles_at, self._batch_at) if at > now]
        return min(later) if later else None

    def claimed(self, now: float, *, singles: int, batch: bool, more: bool, quiet: bool = False) -> None:
        """Take tokens for `singles`; after a batch let events gather, unless there are `more` waiting already. `quiet`:
        the claim took events of a quiet store beside the backlog of another."""
        self._tokens -= singles
        if quiet:
            self._small_until = now + QUIET_SECONDS
        if batch or more:
            self._singles_at = now + GATHER_SECONDS
        if batch and not more:
            self._batch_at = now + GATHER_SECONDS
