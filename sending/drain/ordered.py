"""Order in which a drain sends ordered deliveries: one at a time of each FIFO group, many groups at once.

A FIFO group whose first delivery waits for its retry, or hangs, holds up no other group.
"""

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import takewhile
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sending.drain.round import READ_AGAIN_SECONDS, Found
from storage.database import Database
from storage.deliveries.held import DrainState
from storage.deliveries.open import OpenDelivery, held_of
from storage.deliveries.ordering import First, assign_missing_keys, first_of_groups, first_of_these, first_unmatched

GROUPS_READ = 200
"""Maximum number of FIFO groups read in one transaction, at some 15 µs each."""

PREFETCHED = 20
"""Number of deliveries prefetched from a single FIFO group, which are sent one after the other."""


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
        """Add the deliveries before which no other can come any more; return False if the groups must be read again.

        An event that was accepted earlier may be matched between two readings. So the first unmatched event is read
        after the groups, and then the groups are read again: a delivery that appears only now and belongs before one of
        these was accepted while this ran, by an emitter that did not wait for the other event.
        """
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
