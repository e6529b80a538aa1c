"""How fast a relay hands events over: one by one while quiet, in batches that gather while many come."""

import time

from relay.backpressure import Way

SINGLES_PER_SECOND = 25.0
"""Events that may have a workflow each: at 35 ms of CPU that is under half of two cores."""

SINGLES_BURST = 10.0
"""How many may come at once before batches begin."""

FEW_EVENTS = 10
"""A store with no more of them waiting is quiet: they go one by one, or mixed with those of other quiet stores."""

MOST_REMEMBERED = 2 * SINGLES_BURST
"""Of what a store had handed over: less than a second after its last batch it is quiet again."""

LINGER_SECONDS = 0.1
"""Between two batches that are not full: ten workflows a second at most, whatever the rate."""

QUIET_SECONDS = 1.0
"""For so long after an event of a quiet store a busy one's batches hold less, and one less is open: what is begun for
many at once is what the quiet one's next event waits for."""

LESS = 1 / 6
"""Of what a batch may hold, then."""

FULL = LESS
"""A batch that holds so much of what it may hold shows a backlog: the next one follows at once."""


class Pace:
    """How many events may be handed over singly, and when the next batch may go (seconds on a monotonic clock)."""

    def __init__(self) -> None:
        self._tokens = SINGLES_BURST
        self._quiet_at = -QUIET_SECONDS
        self._refilled_at = time.monotonic()
        self._next_at = {Way.MIXED: 0.0, Way.BATCH: 0.0}
        self._recent: dict[str, float] = {}
        self._recent_at = self._refilled_at

    def singles(self, now: float) -> int:
        """Whole tokens at hand."""
        self._tokens = min(SINGLES_BURST, self._tokens + (now - self._refilled_at) * SINGLES_PER_SECOND)
        self._refilled_at = now
        return int(self._tokens)

    def busy_stores(self, now: float) -> list[str]:
        """Those that have had more handed over, in the last moments, than may go singly of all stores together."""
        gone = (now - self._recent_at) * SINGLES_PER_SECOND
        self._recent = {store: left for store, events in self._recent.items() if (left := events - gone) > 0}
        self._recent_at = now
        return [store for store, events in self._recent.items() if events > SINGLES_BURST]

    def took_of(self, store_code: str, events: int) -> None:
        """Remember that so many events of a store were handed over."""
        self._recent[store_code] = min(self._recent.get(store_code, 0.0) + events, MOST_REMEMBERED)

    def lingers(self, way: Way, now: float) -> float:
        """Seconds to let events gather before the next batch of this way."""
        return max(0.0, self._next_at[way] - now)

    def share(self, way: Way, now: float) -> float:
        """How much of what a batch may hold the next one of this way holds."""
        return LESS if self.spares(way, now) else 1.0

    def spares(self, way: Way, now: float) -> float:
        """Seconds for which batches of this way hold less, and one less is open."""
        return max(0.0, self._quiet_at + QUIET_SECONDS - now) if way is Way.BATCH else 0.0

    def took(self, way: Way, now: float, *, full: bool) -> None:
        """Use up a token, or let events gather for the next batch; after a full one there is a backlog already."""
        if way is not Way.BATCH:
            self._quiet_at = now
        if way is Way.SINGLE:
            self._tokens = max(0.0, self._tokens - 1)
        else:
            self._next_at[way] = now if full else now + LINGER_SECONDS
