"""Calls of Temporal from a handler: bounded, and a 503 when it is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.service import RPCError, RPCStatusCode

from api.errors import Unavailable

TEMPORAL_SECONDS = 5.0
"""A call takes milliseconds; the client itself would go on trying for longer than a caller waits."""

TEMPORAL_IS_DOWN = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


@asynccontextmanager
async def temporal_call() -> AsyncIterator[None]:
    """Raises Unavailable when Temporal does not answer within the block's time."""
    away = Unavailable("Temporal cannot be reached at the moment; try again.")
    try:
        async with asyncio.timeout(TEMPORAL_SECONDS):
            yield
    except (TimeoutError, RuntimeError) as error:  # RuntimeError: the first connection of a lazy client failed
        raise away from error
    except RPCError as error:
        if error.status not in TEMPORAL_IS_DOWN:
            raise
        raise away from error
