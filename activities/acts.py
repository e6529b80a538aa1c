"""What a person's acts need of a worker: one more attempt of what has ended, and pages of a recovery."""

import asyncio
from dataclasses import replace
from uuid import UUID

from temporalio import activity

from activities.dispatcher import AttemptTakenError, Dispatcher
from activities.guards import heartbeats, own_faults
from activities.keepers import Keepers
from activities.messages import DeliveryEnd, DeliveryRef, RecoverProgress, RecoverTask
from storage.acts import end_recover, open_page, page_before, recovered_waiting
from storage.database import Database
from storage.deliveries import load
from storage.keeping import subscription_for_keeper

AHEAD = 500
"""A recovery opens its next page when fewer than this of the last ones have not been attempted yet."""

POLL_SECONDS = 0.5
"""How often it looks."""

PAGES_PER_ACTIVITY_SECONDS = 30.0
"""After so long the activity answers with its progress, and the workflow asks again."""


class ActActivities:
    """Acts, with the worker's resources."""

    def __init__(self, database: Database, dispatcher: Dispatcher, keepers: Keepers) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._keepers = keepers

    @activity.defn(name="redeliver-once")
    async def redeliver_once(self, ref: DeliveryRef) -> DeliveryEnd:
        """One attempt of a delivery that has ended, which changes nothing but the log if it fails; or of a test."""
        async with heartbeats():
            with own_faults():
                async with self._database.transaction() as connection:
                    delivery = await load(connection, UUID(ref.message_id))
                if delivery is None:
                    return DeliveryEnd("unknown", reason="no such delivery")
                begins = delivery.is_test and delivery.status == "pending"
                if (delivery.status in ("pending", "held") and not begins) or self._dispatcher.taken(delivery):
                    return DeliveryEnd(delivery.status, delivery.number - 1, "it is being delivered")
                trigger = "test" if delivery.is_test else "manual"
                begun = self._dispatcher.begin(replace(delivery, redelivered=True), trigger)
                try:
                    step = await asyncio.shield(begun)
                except AttemptTakenError:
                    return DeliveryEnd(delivery.status, delivery.number - 1, "another attempt was under way")
        return DeliveryEnd(step.status, step.attempts, step.failure)

    @activity.defn(name="recover-pages")
    async def recover_pages(self, task: RecoverTask) -> RecoverProgress:
        """Open pages again, as fast as the keeper lets them go; may be repeated, for the cursor is in the database."""
        subscription_id = UUID(task.subscription_id)
        until = asyncio.get_running_loop().time() + PAGES_PER_ACTIVITY_SECONDS
        progress = RecoverProgress(0, 0, finished=False)
        async with heartbeats():
            with own_faults():
                while asyncio.get_running_loop().time() < until:
                    async with self._database.transaction() as connection:
                        waiting = await recovered_waiting(connection, subscription_id, limit=AHEAD)
                        if waiting < AHEAD:
                            page = await open_page(connection, UUID(task.recover_id))
                        else:
                            page = await page_before(connection, UUID(task.recover_id))
                        keeper = await subscription_for_keeper(connection, subscription_id)
                    if page is None:  # cancelled, or finished by an earlier run of this activity
                        return replace(progress, finished=True)
                    if keeper is not None:
                        await self._keepers.wake(*keeper)
                    if waiting >= AHEAD:
                        await asyncio.sleep(POLL_SECONDS)
                        continue
                    progress = RecoverProgress(page[0], page[1], finished=not page[2])
                    if progress.finished:
                        async with self._database.transaction() as connection:
                            await end_recover(connection, UUID(task.recover_id), "finished")
                        return progress
        return progress
