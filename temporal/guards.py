"""What every activity stands under: heartbeats while it runs, and faults of ours told apart from expected failures."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

HEARTBEAT_SECONDS = 1.5
"""An attempt that takes longer says so; a third of the heartbeat time-out in `workflows/`."""


@asynccontextmanager
async def heartbeats() -> AsyncIterator[None]:
    """Say that the activity lives, for as long as the block runs."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            activity.heartbeat()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


@contextmanager
def own_faults() -> Iterator[None]:
    """A fault of ours is retried with a plain back-off; its text, which may quote data, stays in our log."""
    try:
        yield
    except ApplicationError:
        raise
    except Exception as error:
        expected = isinstance(error, SQLAlchemyError | RPCError | OSError | TimeoutError)
        activity.logger.warning("own fault: %s", error, exc_info=not expected)
        raise ApplicationError(f"own fault: {type(error).__name__}", type="OwnFault") from None
