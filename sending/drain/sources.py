"""Held deliveries of a subscription, in the order in which its drain sends them.

Unordered: retries at their instants, then fresh deliveries, oldest first. Ordered: one at a time of each FIFO group,
many groups at once; a group whose first delivery waits for its retry, or hangs, holds up no other.
"""

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database
from storage.deliveries.held import DrainState, next_due_seconds
from storage.deliveries.open import BEFORE_ALL, OpenDelivery, held_fresh, held_of, held_retries_due
from storage.deliveries.ordering import First, assign_missing_keys, first_of_groups, first_of_these, first_unmatched

LOOK_SECONDS = 0.05
"""Maximum wait of a round before it looks for more deliveries, also if less than a refill is free. While attempts are
under way, a read that found nothing is repeated only after READ_AGAIN_SECONDS."""

READ_AGAIN_SECONDS = 0.25
"""Maximum age of the held deliveries that were read, and of the list of those that another worker sends."""

OLDEST_AGAIN_SECONDS = 1.0
"""Interval at which reading starts again from the oldest fresh delivery. The oldest rows of a large backlog are mostly
in flight already, so in between it resumes from the cursor."""

GROUPS_READ = 200
"""Maximum number of FIFO groups read in one transaction, at some 15 µs each."""

PREFETCHED = 20
"""Number of deliveries prefetched from a single FIFO group, which are sent one after the other."""


@dataclass(slots=True)
class Found:
    """Result of a read of the held deliveries."""

    deliveries: list[OpenDelivery] = field(default_factory=list)
    """Deliveries to begin now."""
    early: bool = False
    """True if an event that precedes others is still being matched."""
    due_in_seconds: float | None = None
    """Seconds until the first retry, if there is nothing to begin; None if no retry waits."""

    @property
    def soon(self) -> bool:
        """Return True if the round waits for the next retry, so that retries that fall due one by one share a round."""
        return self.due_in_seconds is not None and self.due_in_seconds < READ_AGAIN_SECONDS


class Backlog:
    """The held deliveries of one subscription without an order, and the cursor in the fresh ones."""

    def __init__(self, database: Database, subscription_id: UUID) -> None:
        self._database = database
        self._id = subscription_id
        self._after = BEFORE_ALL
        self._oldest_again_at = 0.0
        self._more_at = 0.0

    async def next(self, most: int, under_way: Collection[UUID]) -> Found:
        """Return at most `most` due deliveries. Return none for a moment after a read that found fewer, unless nothing
        is under way."""
        now = time.monotonic()
        if under_way and now < self._more_at:
            return Found()
        if now >= self._oldest_again_at:
            self._after, self._oldest_again_at = BEFORE_ALL, now + OLDEST_AGAIN_SECONDS
        async with self._database.transaction() as connection:
            due = await held_retries_due(connection, self._id, most, under_way=under_way)
            if most > len(due):
                fresh = await held_fresh(connection, self._id, most - len(due), after=self._after, under_way=under_way)
                if not fresh and self._after != BEFORE_ALL:
                    fresh = await held_fresh(connection, self._id, most - len(due), under_way=under_way)
                if fresh:
                    self._after = fresh[-1].event_sequence, fresh[-1].message_id
                due += fresh
            wait = None if due or under_way else await next_due_seconds(connection, self._id)
        if len(due) < most:
            self.forget()
            self._more_at = now + (LOOK_SECONDS if due else READ_AGAIN_SECONDS)
        return Found(due, due_in_seconds=wait)

    def forget(self) -> None:
        """Read from the oldest delivery on again, because not all that were read have been begun."""
        self._oldest_again_at = 0.0


class OrderedBacklog:
    """The FIFO groups of one subscription, and the cursor of the scan over them."""

    def __init__(self, database: Database, subscription_id: UUID, state: DrainState) -> None:
        self._database = database
        self._id = subscription_id
        self._by_customer = state.by_customer
        self._holds = state.holds_groups
        self._after: int | None = None
        self._prefetched: deque[OpenDelivery] = deque()
        self._read_at = 0.0

    async def next(self, most: int, under_way: Collection[UUID]) -> Found:
        """Return deliveries to begin now; with a single FIFO group, the next prefetched one."""
        if self._by_customer:
            return await self.look(most, under_way)
        if self._prefetched and time.monotonic() - self._read_at < READ_AGAIN_SECONDS:
            return Found([self._prefetched.popleft()])
        self._read_at = time.monotonic()
        found = await self.look(PREFETCHED, under_way)
        self._prefetched = deque(found.deliveries[1:])
        return replace(found, deliveries=found.deliveries[:1])

    def forget(self) -> None:
        """Discard prefetched deliveries: none may precede one that failed or that another worker left undone."""
        self._prefetched.clear()

    async def look(self, most: int, under_way: Collection[UUID], *, due_only: bool = True) -> Found:
        """Find at most `most` deliveries to send, from the cursor on, at most once through all groups."""
        found = Found()
        last_lap = self._after is None
        while True:
            busy = {*under_way, *(one.message_id for one in found.deliveries)}
            async with self._database.transaction() as connection:
                whole = await self._look_on(connection, found, most - len(found.deliveries), busy, due_only)
            if len(found.deliveries) >= most or found.early or (whole and last_lap):
                return found
            last_lap = last_lap or whole

    async def _look_on(
        self, connection: AsyncConnection, found: Found, most: int, busy: Collection[UUID], due_only: bool
    ) -> bool:
        """Read the next FIFO groups. Return True if they were the last ones."""
        read = GROUPS_READ if self._by_customer else most
        firsts = await first_of_groups(
            connection, self._id, by_customer=self._by_customer, holds=self._holds, after=self._after, most=read
        )
        due = self._ready(firsts, busy, due_only)
        heads = firsts if self._by_customer else firsts[:1]
        waits = [one.due_in_seconds for one in heads if one.due_in_seconds > 0 and not one.stopped]
        found.due_in_seconds = min(
            [*waits, *(() if found.due_in_seconds is None else (found.due_in_seconds,))], default=None
        )
        chosen = due[:most]
        if not await self._confirm(connection, found, chosen, busy, due_only):
            return False
        if len(due) > most:
            self._after = chosen[-1].ordering_key
            return False
        whole = len(firsts) < GROUPS_READ or not self._by_customer
        self._after = None if whole else firsts[-1].ordering_key
        return whole

    async def _confirm(
        self, connection: AsyncConnection, found: Found, chosen: list[First], busy: Collection[UUID], due_only: bool
    ) -> bool:
        """Add the chosen deliveries that nothing can precede any more; return False if the groups must be read again.

        An earlier event may be matched between two reads. Therefore the first unmatched event is read after the
        groups, and the groups are read once more after it. A preceding delivery that appears even later belongs to an
        event that was accepted during this call, concurrently with the event it precedes."""
        bound = max((one.sequence for one in chosen), default=0)
        unmatched = await first_unmatched(connection, self._id, bound) if chosen else None
        if self._by_customer and await assign_missing_keys(connection, self._id):
            return False
        if not chosen:
            return True
        firsts = await first_of_these(connection, self._id, [one.ordering_key for one in chosen], holds=self._holds)
        sure = [one for one in firsts if one.sequence <= bound and (unmatched is None or one.sequence < unmatched)]
        found.early = len(sure) < min(len(firsts), len(chosen))
        ready = [one.message_id for one in self._ready(sure, busy, due_only)]
        found.deliveries += await held_of(connection, ready) if ready else []
        return True

    def _ready(self, firsts: Sequence[First], busy: Collection[UUID], due_only: bool) -> list[First]:
        """Return the deliveries that may be sent; in a single FIFO group none behind one that may not."""

        def may(one: First) -> bool:
            waits_seconds = one.due_in_seconds if due_only else one.allowed_in_seconds
            return not one.stopped and one.message_id not in busy and waits_seconds <= 0

        return [one for one in firsts if may(one)] if self._by_customer else list(takewhile(may, firsts))
