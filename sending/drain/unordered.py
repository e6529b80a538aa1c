"""What a keeper sends next of what has no order: the oldest first, as much at once as there is room for."""

import time
from collections.abc import Collection
from uuid import UUID

from sending.drain.round import LOOK_SECONDS, READ_AGAIN_SECONDS, Found
from storage.database import Database
from storage.deliveries.held import next_due_seconds
from storage.deliveries.open import BEFORE_ALL, held_due

OLDEST_AGAIN_SECONDS = 1.0
"""So often the oldest are looked at again, of which some have become due. In between one reads on from where one was:
at the beginning of a mountain lies what has been sent of it already."""


class Backlog:
    """The held deliveries of one subscription without an order, and how far they have been read."""

    def __init__(self, database: Database, subscription_id: UUID) -> None:
        self._database = database
        self._id = subscription_id
        self._after = BEFORE_ALL
        self._oldest_again_at = 0.0
        self._more_at = 0.0

    async def next(self, room: int, under_way: Collection[UUID]) -> Found:
        """What is due, at most so many. Soon after there was too little, nothing, unless nothing is under way."""
        now = time.monotonic()
        if under_way and now < self._more_at:
            return Found()
        if now >= self._oldest_again_at:
            self._after, self._oldest_again_at = BEFORE_ALL, now + OLDEST_AGAIN_SECONDS
        async with self._database.transaction() as connection:
            due = await held_due(connection, self._id, room, after=self._after, under_way=under_way)
            if not due and self._after != BEFORE_ALL:
                due = await held_due(connection, self._id, room, under_way=under_way)
            wait = None if due or under_way else await next_due_seconds(connection, self._id)
        if len(due) < room:
            self.forget()
            self._more_at = now + (LOOK_SECONDS if due else READ_AGAIN_SECONDS)
        else:
            self._after = due[-1].event_sequence, due[-1].message_id
        return Found(due, due_in_seconds=wait)

    def forget(self) -> None:
        """Read from the oldest on again: not all of what was read has been begun."""
        self._oldest_again_at = 0.0
