"""The lease of a worker: as long as it is seen, its attempts are its own."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database
from storage.operations.workers import TOUCH_SECONDS, leave, touch

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lease(sqlalchemy_url: str, worker_id: UUID) -> AsyncIterator[None]:
    """Say every second that this worker lives; on leaving, give up its leases.

    Over a connection of its own: were it to wait behind attempts for one of theirs, others would take it for dead.
    """
    database = Database(
        sqlalchemy_url,
        pool_size=1,
        name="loyalty-webhooks worker's lease",
        statement_seconds=TOUCH_SECONDS,
    )

    async def touching() -> None:
        while True:
            try:
                async with database.transaction() as connection:
                    await touch(connection, worker_id)
            except Exception as error:  # whatever it is, a worker that lives must go on saying so
                logger.warning("the lease of this worker was not renewed: %s", type(error).__name__)
            await asyncio.sleep(TOUCH_SECONDS)

    task = asyncio.create_task(touching())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        with suppress(SQLAlchemyError, OSError, TimeoutError):
            async with database.transaction() as connection:
                await leave(connection, worker_id)
        await database.close()
