"""Guards of activities: heartbeats while one runs, and the product's own faults separated from expected failures."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

HEARTBEAT_SECONDS = 1.5
"""Interval of heartbeats, 30 % of the heartbeat time-out in `temporal/retries.py`."""


@asynccontextmanager
async def guarded() -> AsyncIterator[None]:
    """Send heartbeats of the activity during the block, and turn its exceptions into own faults."""
    beating = asyncio.create_task(_beat())
    try:
        with own_faults():
            yield
    finally:
        beating.cancel()


async def _beat() -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        activity.heartbeat()


@contextmanager
def own_faults() -> Iterator[None]:
    """Turn an exception into an error that Temporal retries with a plain back-off. The text of the exception may quote
    data, so it is logged here and not passed to Temporal."""
    try:
        yield
    except ApplicationError:
        raise
    except Exception as error:
        expected = isinstance(error, SQLAlchemyError | RPCError | OSError | TimeoutError)
        activity.logger.warning("own fault: %s", error, exc_info=not expected)
        raise ApplicationError(f"own fault: {type(error).__name__}", type="OwnFault") from None
