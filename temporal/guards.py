"""Guards of activities: heartbeats while one runs, and internal errors told from expected failures."""

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
    """Send heartbeats of the activity during the block, and turn its exceptions into internal errors."""
    beating = asyncio.create_task(_beat())
    try:
        with internal_errors():
            yield
    finally:
        beating.cancel()


async def _beat() -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        activity.heartbeat()


@contextmanager
def internal_errors() -> Iterator[None]:
    """Turn an exception into an error that Temporal retries with a plain back-off. The text of the exception may quote
    data, so it is logged here and not passed to Temporal."""
    try:
        yield
    except ApplicationError:
        raise
    except Exception as error:
        expected = isinstance(error, SQLAlchemyError | RPCError | OSError | TimeoutError)
        activity.logger.warning(
            "activity %s failed by an internal error (%s), Temporal repeats it",
            *(activity.info().activity_type, error),
            exc_info=not expected,
        )
        raise ApplicationError(f"internal error: {type(error).__name__}", type="InternalError") from None
