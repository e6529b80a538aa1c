"""Keeping the schedules as stores and settings want them, and having late rows of expiry looked for.

Every worker does this; what several do at once comes to the same.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.service import RPCError

from domain.delivery.identity import expiry_schedule_id
from domain.expiry.rows import Kind
from storage.database import Database
from storage.events.days import make_coming_days
from storage.expiry.scans import covered_stores, stores_with_late_rows
from storage.operations.stores import list_stores
from temporal.expiry_schedules import ExpirySchedules, StoreSchedules, SyncResult
from temporal.retention_schedule import ensure_retention

logger = logging.getLogger(__name__)

ROUND_SECONDS = 60.0
"""A change made past the API, in the database or in Temporal, is mended after this; a late row waits so long."""

THOROUGH_SECONDS = 3600.0
"""Each schedule is looked at by itself so often, for what the list of them does not show; and so often are rows read
that do not say when they came."""

FAULT_PAUSE_SECONDS = 5.0
"""Until the next try while database or Temporal are away."""


async def sync_all(database: Database, schedules: ExpirySchedules, *, thorough: bool) -> SyncResult:
    """Make the schedules those of the stores in the database. Raises what database or Temporal raise."""
    async with database.transaction() as connection:
        stores = await list_stores(connection)
    result = await schedules.sync((StoreSchedules(store.code, store.timezone) for store in stores), thorough=thorough)
    if result.changed:
        logger.info(
            "schedules: %d made, %d mended, %d removed", len(result.created), len(result.updated), len(result.removed)
        )
    for schedule_id, reason in result.failed.items():
        logger.error("schedule %s is refused by Temporal: %s", schedule_id, reason)
    return result


class ScheduleKeeper:
    """Runs until cancelled. `late_notices`: look for late rows; `reads_all`: some rows do not say when they came."""

    def __init__(self, database: Database, schedules: ExpirySchedules, *, late_notices: bool, reads_all: bool) -> None:
        self._database = database
        self._schedules = schedules
        self._late_notices = late_notices
        self._reads_all = reads_all

    async def run(self) -> None:
        """Round after round; a fault of database or Temporal costs a round."""
        thorough_at = read_all_at = time.monotonic()
        read_all_at += THOROUGH_SECONDS  # the schedules' own runs read all too
        while True:
            now = time.monotonic()
            try:
                result = await sync_all(self._database, self._schedules, thorough=now >= thorough_at)
                if now >= thorough_at:
                    thorough_at = now + THOROUGH_SECONDS
                if self._late_notices:
                    read_all = self._reads_all and now >= read_all_at
                    await self._look_for_late(result.paused, read_all)
                    if read_all:
                        read_all_at = now + THOROUGH_SECONDS
            except (SQLAlchemyError, RPCError, OSError, TimeoutError) as error:
                logger.warning("schedules not looked after: %s", type(error).__name__)
                await asyncio.sleep(FAULT_PAUSE_SECONDS)
                continue
            await asyncio.sleep(ROUND_SECONDS)

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


async def watch_days(database: Database, client: Client, task_queue: str) -> None:
    """Until cancelled, see to it that the coming days can be filed, and that retention has its schedule."""
    while True:
        try:
            await make_coming_days(database)
            await ensure_retention(client, task_queue)
        except (SQLAlchemyError, RPCError, OSError, TimeoutError) as error:
            logger.warning("days not looked after: %s", type(error).__name__)
            await asyncio.sleep(FAULT_PAUSE_SECONDS)
            continue
        await asyncio.sleep(THOROUGH_SECONDS)
