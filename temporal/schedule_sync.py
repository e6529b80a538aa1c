"""Periodic maintenance: schedules, late rows of expiry, partitions of the coming days.

Every worker runs it. It is idempotent.
"""

import logging
import time
from datetime import UTC, datetime

from temporalio.client import Client

from domain.delivery.identity import expiry_schedule_id
from domain.expiry.rows import Kind
from storage.access.stores import list_stores
from storage.database import Database
from storage.events.days import make_coming_days
from storage.expiry.scans import covered_stores, stores_with_late_rows
from temporal.expiry_schedules import ExpirySchedules, StoreSchedules, SyncResult
from temporal.periodic import run_periodically
from temporal.schedules import ensure_retention

logger = logging.getLogger(__name__)

ROUND_SECONDS = 60.0
"""Interval of schedule maintenance: maximum delay until a change made outside the API takes effect, or a late row is
found."""

THOROUGH_SECONDS = 3600.0
"""Interval at which each schedule is described by itself, for settings that the list of schedules does not show, and
at which rows without a time of arrival are read."""

FAULT_PAUSE_SECONDS = 5.0
"""Delay before the next try while PostgreSQL or Temporal are away."""


async def sync_all(database: Database, schedules: ExpirySchedules, *, thorough: bool) -> SyncResult:
    """Bring the schedules in line with the stores in the database. Raises the errors of database and Temporal."""
    async with database.transaction() as connection:
        stores = await list_stores(connection)
    result = await schedules.sync((StoreSchedules(store.code, store.timezone) for store in stores), thorough=thorough)
    if result.changed:
        logger.info(
            "schedules synchronised: %d created, %d updated, %d removed",
            len(result.created),
            len(result.updated),
            len(result.removed),
        )
    for schedule_id, reason in result.failed.items():
        logger.error("Temporal refuses schedule %s: %s", schedule_id, reason)
    return result


class ScheduleMaintenance:
    """Maintenance of the Temporal schedules and start of the scans for late rows of expiry.

    `late_notices`: look for late rows; `reads_all`: some rows have no time of arrival, so all are read once an hour.
    """

    def __init__(self, database: Database, schedules: ExpirySchedules, *, late_notices: bool, reads_all: bool) -> None:
        self._database = database
        self._schedules = schedules
        self._late_notices = late_notices
        self._reads_all = reads_all
        self._thorough_at = time.monotonic()
        self._read_all_at = self._thorough_at + THOROUGH_SECONDS  # scheduled runs read everything as well

    async def run(self) -> None:
        """Maintain the schedules until cancelled."""
        await run_periodically(
            "schedule maintenance", self._maintain, every_seconds=ROUND_SECONDS, retry_seconds=FAULT_PAUSE_SECONDS
        )

    async def _maintain(self) -> None:
        now = time.monotonic()
        result = await sync_all(self._database, self._schedules, thorough=now >= self._thorough_at)
        if now >= self._thorough_at:
            self._thorough_at = now + THOROUGH_SECONDS
        if self._late_notices:
            read_all = self._reads_all and now >= self._read_all_at
            await self._look_for_late(result.paused, read_all)
            if read_all:
                self._read_all_at = now + THOROUGH_SECONDS

    async def _look_for_late(self, paused: set[str], read_all: bool) -> None:
        for kind in Kind:
            async with self._database.transaction() as connection:
                if read_all:
                    stores = await covered_stores(connection, kind)
                else:
                    stores = await stores_with_late_rows(connection, kind, datetime.now(UTC))
            for store_code in stores:
                if expiry_schedule_id(store_code, kind) not in paused:
                    await self._schedules.look_for_late(store_code, kind, thorough=read_all)


async def maintain_partitions(database: Database, client: Client, task_queue: str) -> None:
    """Create the partitions of the coming days, and the schedule of retention if it is missing, until cancelled."""

    async def maintain() -> None:
        await make_coming_days(database)
        await ensure_retention(client, task_queue)

    await run_periodically(
        "partition maintenance", maintain, every_seconds=THOROUGH_SECONDS, retry_seconds=FAULT_PAUSE_SECONDS
    )
