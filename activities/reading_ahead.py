"""What a single event's match needs is read while Temporal starts its workflow: the match is one statement then.

What was read is no decision: the match takes the event out of the outbox, or finds that somebody else has, and it alone
is what the workflow asks for. A webhook changed in the few milliseconds between is sent to as it was when the event
came, as it would be had it been changed a moment after the match.
"""

import asyncio
import time
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database
from storage.matching import ReadAhead, read_ahead

FRESH_SECONDS = 0.25
"""What was read earlier than that is read anew: webhooks may have changed. A workflow starts within some 5 ms."""


class ReadingAhead:
    """Of one worker: begun by its relay, taken by the match of the same event."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._begun: dict[UUID, tuple[float, asyncio.Task[ReadAhead | None]]] = {}

    def begin(self, store_code: str, event_id: UUID) -> None:
        """Read an event that was just claimed for a workflow of its own."""
        now = time.monotonic()
        for stale in [one for one, (begun_at, _) in self._begun.items() if now - begun_at > FRESH_SECONDS]:
            self._begun.pop(stale)[1].cancel()
        self._begun[event_id] = now, asyncio.create_task(self._read(store_code, event_id), name="read-ahead")

    async def take(self, event_id: UUID) -> ReadAhead | None:
        """What was read of an event, once; None when nothing was, or not lately."""
        begun_at, reading = self._begun.pop(event_id, (0.0, None))
        if reading is None:
            return None
        ahead = await reading
        return ahead if time.monotonic() - begun_at <= FRESH_SECONDS else None

    async def _read(self, store_code: str, event_id: UUID) -> ReadAhead | None:
        try:
            return await read_ahead(self._database.quick, store_code, event_id)
        except (SQLAlchemyError, OSError, TimeoutError):
            return None  # the match tells whoever waits
