"""What a drain sends next of what is ordered: of each FIFO group one after the other, of many FIFO groups many at once.

A FIFO group whose first delivery waits for its retry holds up no other, nor does one whose first delivery hangs.
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

LINES_READ = 200
"""FIFO groups looked at in one transaction, at some 15 µs each."""

SENT_AHEAD = 20
"""Deliveries of an only FIFO group that are read at once and sent one after the other."""


class OrderedBacklog:
    """The FIFO groups of one subscription, and where the look at them has got to."""

    def __init__(self, database: Database, subscription_id: UUID, state: DrainState) -> None:
        self._database = database
        self._id = subscription_id
        self._by_customer = state.by_customer
        self._holds = state.holds_groups
        self._after: int | None = None
        self._ahead: deque[OpenDelivery] = deque()
        self._read_at = 0.0

    async def next(self, room: int, under_way: Collection[UUID]) -> Found:
        """What is to be begun now; of an only FIFO group the next of those that were read together."""
        if self._by_customer:
            return await self.look(room, under_way)
        if self._ahead and time.monotonic() - self._read_at < READ_AGAIN_SECONDS:
            return Found([self._ahead.popleft()])
        self._read_at = time.monotonic()
        found = await self.look(SENT_AHEAD, under_way)
        self._ahead = deque(found.deliveries[1:])
        return replace(found, deliveries=found.deliveries[:1])

    def forget(self) -> None:
        """Read again before anything more is begun: nothing goes before what failed, or another worker left undone."""
        self._ahead.clear()

    async def look(self, most: int, under_way: Collection[UUID], *, due_only: bool = True) -> Found:
        """Find at most so many deliveries to send, going on where the last look ended, once round at most."""
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
        """Look at the next FIFO groups; whether those were the last."""
        read = LINES_READ if self._by_customer else most
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
        whole = len(firsts) < LINES_READ or not self._by_customer
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
        """Those that may be sent: of an only FIFO group none behind one that may not."""

        def may(one: First) -> bool:
            waits_seconds = one.due_in_seconds if due_only else one.allowed_in_seconds
            return not one.stopped and one.message_id not in busy and waits_seconds <= 0

        return [one for one in firsts if may(one)] if self._by_customer else list(takewhile(may, firsts))
