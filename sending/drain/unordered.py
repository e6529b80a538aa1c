"""Order in which a drain sends unordered deliveries: retries at their instants, then fresh deliveries, oldest first."""

import time
from collections.abc import Collection
from uuid import UUID

from sending.drain.round import LOOK_SECONDS, READ_AGAIN_SECONDS, Found
from storage.database import Database
from storage.deliveries.held import next_due_seconds
from storage.deliveries.open import BEFORE_ALL, held_fresh, held_retries_due

OLDEST_AGAIN_SECONDS = 1.0
"""Interval at which reading starts again from the oldest fresh delivery. The oldest rows of a large backlog are mostly
in flight already, so in between it resumes from the cursor."""


class Backlog:
    """The held deliveries of one subscription without an order, and the cursor in the fresh ones."""

    def __init__(self, database: Database, subscription_id: UUID) -> None:
        self._database = database
        self._id = subscription_id
        self._after = BEFORE_ALL
        self._oldest_again_at = 0.0
        self._more_at = 0.0

    async def next(self, most: int, under_way: Collection[UUID]) -> Found:
        """Return at most `most` due deliveries; none soon after a read that found fewer, unless none is under way."""
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
