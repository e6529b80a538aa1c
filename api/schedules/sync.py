"""Background update of a store's schedules in Temporal after the store was created or changed.

An update that is lost because Temporal is unavailable is repaired by the workers within a minute
(`temporal/schedules.py`).
"""

import asyncio
import logging

from temporalio.service import RPCError

from storage.access.stores import find_store
from storage.database import Database
from storage.unavailable import is_unavailable
from temporal.outages import in_words
from temporal.schedules import ExpirySchedules

SYNC_SECONDS = 10.0
"""Timeout of the update of one store."""

_log = logging.getLogger(__name__)


class ScheduleSync:
    """Updates schedules in the background: `store_changed` never waits and never raises."""

    def __init__(self, database: Database, schedules: ExpirySchedules) -> None:
        self._database = database
        self._schedules = schedules
        self._changed: dict[str, None] = {}
        self._syncing: asyncio.Task[None] | None = None

    def store_changed(self, store_code: str) -> None:
        """Update the schedules of a store that was created or whose time zone changed."""
        self._changed[store_code] = None
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync_changed(), name="schedule-sync")

    async def close(self) -> None:
        """Cancel an update in progress."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])

    async def _sync_changed(self) -> None:
        while self._changed:
            store_code = next(iter(self._changed))
            del self._changed[store_code]
            try:
                async with asyncio.timeout(SYNC_SECONDS):
                    store = await self._database.run(find_store, store_code)
                    if store is not None:
                        await self._schedules.sync_store(store)
            except Exception as error:
                if not isinstance(error, RPCError | RuntimeError) and not is_unavailable(error):
                    raise
                message = "schedules of store %s not updated (%s), a worker repeats it within a minute"
                _log.warning(message, store_code, in_words(error))
