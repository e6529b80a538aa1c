"""Reconciliation: starts missing activities of overdue deliveries."""

import logging
from uuid import UUID

from storage.database import Database
from storage.deliveries.retries import overdue
from storage.deliveries.transitions import own_retries
from storage.subscriptions.state import live_workers
from telemetry.tracing import of_no_trace
from temporal.periodic import run_periodically
from temporal.retries import Retries

logger = logging.getLogger(__name__)

ROUND_SECONDS = 60.0
"""Interval of the rounds. A delivery that lost its activity is attempted within two minutes of its instant."""

MOST_IN_A_ROUND = 500
"""Deliveries restarted in one round: some seconds of starts, so that a restore does not hold up new events."""


async def watch_overdue(database: Database, retries: Retries, worker_id: UUID) -> None:
    """Start the activities of overdue deliveries now and every minute, until cancelled.

    Only the first of the live workers does it. A round ends early while Temporal is away.
    """

    async def restart() -> None:
        async with database.transaction() as connection:
            ours = (await live_workers(connection))[:1] == [worker_id]
        found = await restart_overdue(database, retries) if ours else 0
        if found:
            logger.warning("%d deliveries are overdue by a minute, their retries were started where missing", found)

    await run_periodically("check for overdue deliveries", restart, every_seconds=ROUND_SECONDS)


async def restart_overdue(database: Database, retries: Retries, *, most: int = MOST_IN_A_ROUND) -> int:
    """Start the activities of at most so many overdue deliveries, under the ids in their rows, and return how many.

    An activity that runs already stays as it is. Raises RPCError while Temporal is away.
    """
    async with database.transaction() as connection:
        waiting = await own_retries(connection, await overdue(connection, most=most))
    with of_no_trace():
        await retries.start_all(waiting)
    return len(waiting)
