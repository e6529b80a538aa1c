"""Batching: events start a workflow each at a low rate, and gather for one workflow at a higher rate."""

import time
from math import ceil, inf

SINGLES_PER_SECOND = 25.0
"""Rate of workflows with one event, per worker. At 35 ms of CPU each, this is under half of two cores."""

SINGLES_BURST = 10.0
"""Maximum number of workflows with one event that may start at once before batches begin."""

GATHER_SECONDS = 0.1
"""Time after a batch in which events gather for the next one, without a backlog: at most ten workflows a second."""

QUIET_SECONDS = 1.0
"""Time for which batches stay small after an event of a quiet store was claimed beside a backlog of another; and time
without a batch after which the next one is small."""

NEXT_BATCH_SECONDS = 0.3
"""Time after a small batch in which the events of a quiet store wait for the next one, which comes after some 50 ms
unless receivers are slow. Before they did, half of them started a workflow each, which took a fifth of the CPU."""

SMALLEST_SHARE = 1 / 6
"""Share of the batch size that a small batch may have, but at least as many events as may start a workflow each: the
next event of a quiet store waits for the batches in flight."""

GROWTH = 1.5
"""By how much each batch of a backlog may be larger than the one before, until one has an event of a quiet store."""


class Batching:
    """A token bucket for workflows with one event, and size and time of the next batch (`now`: a monotonic clock)."""

    def __init__(self) -> None:
        self._tokens = SINGLES_BURST
        self._refilled_at = time.monotonic()
        self._singles_at = 0.0
        self._batch_at = 0.0
        self._small_until = 0.0
        self._batched_at = -inf
        self._share = SMALLEST_SHARE

    def singles(self, now: float) -> int:
        """Return how many events may start a workflow each; 0 while events gather or a backlog is being claimed."""
        self._tokens = min(SINGLES_BURST, self._tokens + (now - self._refilled_at) * SINGLES_PER_SECOND)
        self._refilled_at = now
        return int(self._tokens) if now >= self._singles_at else 0

    def may_batch(self, now: float) -> bool:
        """Return True unless events are gathering for the next batch."""
        return now >= self._batch_at

    def batch_events(self, most: int, now: float) -> int:
        """Return how many events the next batch may have, at most `most`."""
        return min(most, max(int(SINGLES_BURST), ceil(most * self._share_at(now))))

    def _share_at(self, now: float) -> float:
        return self._share if now <= self._batched_at + QUIET_SECONDS else SMALLEST_SHARE

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
            self._share = SMALLEST_SHARE
        elif batch and now >= self._small_until:
            self._share = min(1.0, GROWTH * self._share_at(now))
        if batch:
            self._batched_at = now
        if batch or more:
            small = batch and more and now < self._small_until
            self._singles_at = now + (NEXT_BATCH_SECONDS if small else GATHER_SECONDS)
        if batch and not more:
            self._batch_at = now + GATHER_SECONDS
