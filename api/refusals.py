"""Foreign errors as refusals: what a broken database, seal or Temporal means to whoever asked."""

import logging

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from temporalio.service import RPCError, RPCStatusCode

from api.body import problem_of
from api.errors import ApiError, Unavailable, ValidationFailed
from storage.sealing import SealBrokenError
from storage.unavailable import is_unavailable

logger = logging.getLogger(__name__)

SEAL_RETRY_SECONDS = 60  # somebody has to set the key first
DATABASE_ERRORS = (DBAPIError, PoolTimeoutError, OSError)
TEMPORAL_IS_DOWN = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})

REFUSED = (ApiError, RequestValidationError, SealBrokenError, RPCError, *DATABASE_ERRORS)
"""Errors that `refusal_of` knows."""


def refusal_of(error: Exception) -> ApiError | None:
    """What the caller is told; None where the error is a mistake of ours."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            # A path, query or header parameter that FastAPI validated; its path starts with where it was found.
            return ValidationFailed(
                [problem_of({**details, "loc": tuple(details["loc"])[1:]}) for details in error.errors()]
            )
        case SealBrokenError():
            # Stored with a key this process was not given: passes as soon as an operator gives it.
            logger.error("cannot decrypt what is stored: %s", error)
            return Unavailable("What is stored cannot be decrypted: ENCRYPTION_KEYS lacks a key.", SEAL_RETRY_SECONDS)
        case RPCError() if error.status in TEMPORAL_IS_DOWN:
            return Unavailable("Temporal cannot be reached at the moment; try again.")
        case DBAPIError() | PoolTimeoutError() | OSError() if is_unavailable(error):
            return Unavailable("The database cannot be reached or cannot write at the moment; try again.")
    return None
