"""Activities of bulk actions: pages of a recovery or backfill."""

import asyncio
import time
from dataclasses import dataclass, replace
from uuid import UUID

from temporalio import activity

from storage.database import Database
from storage.deliveries.bulk_pages import go_on
from storage.deliveries.held import subscription_for_drain
from temporal.drains import Drains
from temporal.guards import guarded
from temporal.messages import BulkActionStep, BulkActionTask

PAGES_SECONDS = 30.0
"""Duration after which the activity returns its progress, and the workflow calls it again."""


@dataclass(eq=False)
class BulkActionActivities:
    """Bulk actions, with the resources of the worker."""

    database: Database
    drains: Drains

    @activity.defn(name="recover-pages")
    async def recover_pages(self, task: BulkActionTask) -> BulkActionStep:
        """Recover ended deliveries, as fast as the drain sends them. May be repeated: the cursor is in the database."""
        return await self._run_pages(task)

    @activity.defn(name="backfill-pages")
    async def backfill_pages(self, task: BulkActionTask) -> BulkActionStep:
        """Create deliveries of events that have none, in the same way."""
        return await self._run_pages(task)

    async def _run_pages(self, task: BulkActionTask) -> BulkActionStep:
        until = time.monotonic() + PAGES_SECONDS
        step = BulkActionStep(0, 0, finished=False)
        async with guarded():
            while time.monotonic() < until:
                async with self.database.transaction() as connection:
                    page = await go_on(connection, UUID(task.action_id))
                    drain = await subscription_for_drain(connection, UUID(task.subscription_id))
                if page is None:  # cancelled, or finished by an earlier run of this activity
                    return replace(step, finished=True)
                if drain is not None and not page.paused:
                    await (self.drains.probe_now(*drain) if page.first else self.drains.wake(*drain))
                step = BulkActionStep(page.opened, page.count, page.finished)
                if page.finished:
                    return step
                await asyncio.sleep(page.wait_seconds)
        return step
