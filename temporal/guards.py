"""Guards of activities: heartbeats while one runs, and internal errors told from outages and expected failures."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from temporal.outages import in_words, is_outage

HEARTBEAT_SECONDS = 1.5
"""Interval of heartbeats, 30 % of the heartbeat time-out in `temporal/retries.py`."""


@asynccontextmanager
async def guarded() -> AsyncIterator[None]:
    """Send heartbeats of the activity during the block, and turn its exceptions into errors that Temporal retries."""
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
    """Turn an exception into an error that Temporal retries with a plain back-off: an outage of PostgreSQL or Temporal
    into `Unavailable`, any other into `InternalError`. The text of an exception may quote data, so that of an internal
    error is logged here and not passed to Temporal."""
    try:
        yield
    except ApplicationError:
        raise
    except Exception as error:
        name = activity.info().activity_type
        if is_outage(error):
            activity.logger.warning("activity %s interrupted (%s), Temporal repeats it", name, in_words(error))
            raise ApplicationError(in_words(error), type="Unavailable") from None
        activity.logger.warning(
            "activity %s failed by an internal error (%s), Temporal repeats it",
            *(name, error),
            exc_info=not isinstance(error, SQLAlchemyError),
        )
        raise ApplicationError(f"internal error: {type(error).__name__}", type="InternalError") from None
