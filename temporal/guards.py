"""Guards of activities: heartbeats while one runs, and internal errors told from outages and expected failures."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

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
    into `Unavailable`, any other into `InternalError`. The text of an exception may quote data, so only its class is
    passed to Temporal."""
    try:
        yield
    except ApplicationError:
        raise
    except Exception as error:
        name = activity.info().activity_type
        if is_outage(error):
            activity.logger.warning("activity %s interrupted (%s), Temporal repeats it", name, in_words(error))
            raise _logged(in_words(error), "Unavailable") from None
        activity.logger.error(
            "activity %s failed with an internal error (%s), Temporal retries it; report this defect",
            *(name, in_words(error)),
            exc_info=not isinstance(error, SQLAlchemyError),  # whose traceback quotes the row
        )
        raise _logged(f"internal error: {in_words(error)}", "InternalError") from None


def _logged(message: str, kind: str) -> ApplicationError:
    """Return the error for Temporal. Benign ones are not logged again by the SDK, with a traceback."""
    return ApplicationError(message, type=kind, category=ApplicationErrorCategory.BENIGN)
