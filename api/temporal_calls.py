"""Temporal calls of a handler: with a timeout, and answered with 503 while Temporal is unavailable."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.service import RPCError, RPCStatusCode

from api.errors import Unavailable

TEMPORAL_SECONDS = 5.0
"""Timeout of the calls in one block. A call takes milliseconds; the client alone would retry for longer than a caller
waits."""

TEMPORAL_IS_DOWN = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


@asynccontextmanager
async def temporal_call() -> AsyncIterator[None]:
    """Limit the block to TEMPORAL_SECONDS. Raises Unavailable if Temporal does not answer in time."""
    unavailable = Unavailable("Temporal cannot be reached at the moment; try again.")
    try:
        async with asyncio.timeout(TEMPORAL_SECONDS):
            yield
    except (TimeoutError, RuntimeError) as error:  # RuntimeError: the first connection of a lazy client failed
        raise unavailable from error
    except RPCError as error:
        if error.status not in TEMPORAL_IS_DOWN:
            raise
        raise unavailable from error
