"""What a person's acts need of a worker: one more attempt of what has ended, and pages of a window."""

import asyncio
from dataclasses import replace
from uuid import UUID

from temporalio import activity

from storage.database import Database
from storage.deliveries.held import subscription_for_drain
from storage.operations.bulk_pages import go_on
from temporal.drains import Drains
from temporal.guards import heartbeats, own_faults
from temporal.messages import BulkActionStep, BulkActionTask

WINDOW_SECONDS = 30.0
"""After so long the activity answers with how far it is, and the workflow asks again."""


class BulkActionActivities:
    """OperatorActions, with the worker's resources."""

    def __init__(self, database: Database, drains: Drains) -> None:
        self._database = database
        self._drains = drains

    @activity.defn(name="recover-pages")
    async def recover_pages(self, task: BulkActionTask) -> BulkActionStep:
        """Open again what ended, as fast as the drain sends it; may be repeated, for the cursor is in the database."""
        return await self._go_on(task)

    @activity.defn(name="backfill-pages")
    async def backfill_pages(self, task: BulkActionTask) -> BulkActionStep:
        """The same with deliveries of events that had none."""
        return await self._go_on(task)

    async def _go_on(self, task: BulkActionTask) -> BulkActionStep:
        until = asyncio.get_running_loop().time() + WINDOW_SECONDS
        step = BulkActionStep(0, 0, finished=False)
        async with heartbeats():
            with own_faults():
                while asyncio.get_running_loop().time() < until:
                    async with self._database.transaction() as connection:
                        stretch = await go_on(connection, UUID(task.action_id))
                        drain = await subscription_for_drain(connection, UUID(task.subscription_id))
                    if stretch is None:  # cancelled, or finished by an earlier run of this activity
                        return replace(step, finished=True)
                    if drain is not None and not stretch.paused:
                        await (self._drains.probe_now(*drain) if stretch.first else self._drains.wake(*drain))
                    step = BulkActionStep(stretch.opened, stretch.count, stretch.finished)
                    if stretch.finished:
                        return step
                    await asyncio.sleep(stretch.wait_seconds)
        return step
