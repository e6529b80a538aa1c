"""Lease of a worker: while it is renewed, no other worker repeats its attempts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database
from storage.operations.workers import LEASE_SECONDS, TOUCH_SECONDS, leave, touch
from temporal.periodic import run_periodically


@asynccontextmanager
async def lease(database_url: str, worker_id: UUID) -> AsyncIterator[None]:
    """Renew the worker's lease every second during the block, and give it up at the end. The lease has a connection of
    its own: behind the attempts in the pool, it could lapse although the worker is alive.

    The block begins once the lease is held, because other workers would repeat attempts made without one. While the
    database is away, it begins without the lease after `LEASE_SECONDS`.
    """
    database = Database(
        database_url, pool_size=1, name="loyalty-webhooks worker's lease", statement_seconds=TOUCH_SECONDS
    )

    held = asyncio.Event()

    async def renew() -> None:
        async with database.single_statements() as connection:  # a transaction's round trips may outlast the lease
            await touch(connection, worker_id)
        held.set()

    # Any error is retried: without the lease, other workers would repeat the attempts of this one.
    task = asyncio.create_task(
        run_periodically("renewal of this worker's lease", renew, every_seconds=TOUCH_SECONDS, outages=(Exception,))
    )
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(held.wait(), LEASE_SECONDS)
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        with suppress(SQLAlchemyError, OSError, TimeoutError):
            async with database.single_statements() as connection:
                await leave(connection, worker_id)
        await database.close()
