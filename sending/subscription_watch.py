"""Keeps queueing attempts up to date with their subscriptions, which may be paused, disabled or limited meanwhile."""

import asyncio
import logging
import time

from sqlalchemy.exc import SQLAlchemyError

from sending.dispatcher import Dispatcher
from storage.database import Database
from storage.subscriptions.state import live_workers, standings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How old what a queueing attempt knows of its subscription may be."""


async def watch_standing(database: Database, dispatcher: Dispatcher) -> None:
    """Until cancelled, tell the dispatcher how things stand."""
    while True:
        read_at = time.monotonic()
        try:
            async with database.transaction() as connection:
                found = await standings(connection, dispatcher.subscriptions())
                workers = await live_workers(connection)
            me = dispatcher.worker_id
            rank = workers.index(me) if me in workers else len(workers)
            dispatcher.stand(found, read_at=read_at, workers=len(workers), rank=rank)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            logger.warning("standing of subscriptions not read: %s", type(error).__name__)
        await asyncio.sleep(LOOK_SECONDS)
