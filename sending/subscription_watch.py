"""Refresh of the subscriptions of queued attempts, which may be paused, disabled or limited after they were queued."""

import time

from sending.dispatcher import Dispatcher
from storage.database import Database
from storage.subscriptions.state import live_workers, subscription_states
from temporal.periodic import run_periodically

LOOK_SECONDS = 1.0
"""Maximum age of the subscription state that a queued attempt is checked against."""


async def watch_subscriptions(database: Database, dispatcher: Dispatcher) -> None:
    """Keep the dispatcher's subscription states and its rank among the live workers up to date,
    until cancelled."""

    async def refresh() -> None:
        read_at = time.monotonic()
        async with database.transaction() as connection:
            found = await subscription_states(connection, dispatcher.subscriptions())
            workers = await live_workers(connection)
        me = dispatcher.worker_id
        rank = workers.index(me) if me in workers else len(workers)
        dispatcher.stand(found, read_at=read_at, workers=len(workers), rank=rank)

    await run_periodically("refresh of subscription states", refresh, every_seconds=LOOK_SECONDS)
