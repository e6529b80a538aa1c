"""Outages of PostgreSQL and Temporal: the errors that loops survive, and their words for an operator."""

from sqlalchemy.exc import SQLAlchemyError
from temporalio.service import RPCError, RPCStatusCode

from storage import unavailable
from storage.unavailable import BROKEN_CONNECTION

OUTAGES = (SQLAlchemyError, RPCError, *BROKEN_CONNECTION)
"""Errors while PostgreSQL or Temporal are away. Any other error is a bug and ends the loop."""

AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
"""Statuses of a Temporal that cannot be reached. With any other one it has answered."""


def is_outage(error: BaseException) -> bool:
    """Return True if PostgreSQL or Temporal is away or busy, False for a defect."""
    return isinstance(error, RPCError) or unavailable.passes(error)


def is_refused(error: RPCError) -> bool:
    """Return True if Temporal refuses this one start, and may well take the next."""
    return error.status is RPCStatusCode.INVALID_ARGUMENT


def in_words(error: BaseException) -> str:
    """Return the error in words, such as "Temporal: UNAVAILABLE: connection refused". Errors of PostgreSQL are in the
    words of `storage.unavailable.in_words`."""
    if isinstance(error, RPCError):
        return f"Temporal: {error.status.name}: {error.message}".rstrip(": ")
    return unavailable.in_words(error)
