"""Mapping of database, encryption and Temporal errors to errors of the API."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from temporalio.service import RPCError

from api.body import problem_of
from api.errors import ApiError, Unavailable, ValidationFailed
from storage.sealing import SealBrokenError
from storage.unavailable import is_unavailable
from temporal.outages import AWAY

logger = logging.getLogger(__name__)

SEAL_RETRY_SECONDS = 60
"""Retry-After when an encryption key is missing: an operator has to set it first."""

DATABASE_ERRORS = (DBAPIError, PoolTimeoutError, OSError)
TEMPORAL_SECONDS = 5.0
"""Timeout of the calls in one block. A call takes milliseconds; the client alone would retry for longer than a caller
waits."""

REFUSED = (ApiError, RequestValidationError, SealBrokenError, RPCError, *DATABASE_ERRORS)
"""Errors that `refusal_of` handles."""


def refusal_of(error: Exception) -> ApiError | None:
    """Return the error to send to the client, or None if the error is a bug."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            # FastAPI validated a path, query or header parameter; the first step of `loc` names which of these it is.
            return ValidationFailed(
                [problem_of({**details, "loc": tuple(details["loc"])[1:]}) for details in error.errors()]
            )
        case SealBrokenError():
            # The data was encrypted with a key this process does not have. The error ends when an operator adds it.
            logger.error("stored data cannot be decrypted, check ENCRYPTION_KEYS: %s", error)
            return Unavailable("Stored data cannot be decrypted: ENCRYPTION_KEYS lacks a key.", SEAL_RETRY_SECONDS)
        case RPCError():
            return _of_temporal(error)
        case DBAPIError() | PoolTimeoutError() | OSError() if is_unavailable(error):
            return Unavailable("The database cannot be reached or cannot write at the moment; try again.")
    return None


def _temporal_unavailable() -> Unavailable:
    return Unavailable("Temporal cannot be reached at the moment; try again.")


def _of_temporal(error: RPCError) -> Unavailable:
    if error.status in AWAY:
        return _temporal_unavailable()
    logger.error("Temporal refuses a call of the API with %s: %s", error.status.name, error.message)
    return Unavailable(f"Temporal refuses the call ({error.status.name}); the log of the API says why.")


@asynccontextmanager
async def temporal_call() -> AsyncIterator[None]:
    """Limit Temporal calls to TEMPORAL_SECONDS. Raises Unavailable if Temporal refuses or does not answer in time."""
    try:
        async with asyncio.timeout(TEMPORAL_SECONDS):
            yield
    except (TimeoutError, RuntimeError) as error:  # RuntimeError: the first connection of a lazy client failed
        raise _temporal_unavailable() from error
    except RPCError as error:
        raise _of_temporal(error) from error
