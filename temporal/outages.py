"""Outages of PostgreSQL and Temporal: the errors that loops survive, and their words for an operator."""

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from temporalio.service import RPCError

from storage.unavailable import BROKEN_CONNECTION, driver_error, is_unavailable

OUTAGES = (SQLAlchemyError, RPCError, *BROKEN_CONNECTION)
"""Errors while PostgreSQL or Temporal are away. Any other error is a bug and ends the loop."""


def is_outage(error: BaseException) -> bool:
    """Return True if PostgreSQL or Temporal is away, False for a defect."""
    return isinstance(error, RPCError) or is_unavailable(error)


def in_words(error: BaseException) -> str:
    """Return what is away, such as "PostgreSQL: the database system is starting up". Of an error that is no outage only
    its class is returned, since its text may quote data."""
    if isinstance(error, RPCError):
        return f"Temporal: {error.message}"
    if not is_unavailable(error):
        return type(error).__name__
    if isinstance(error, PoolTimeoutError):
        return "PostgreSQL: no connection in the pool became free"
    if isinstance(error, DBAPIError):
        return f"PostgreSQL: {_text(driver_error(error))}"
    return f"PostgreSQL: {_text(error)}" if isinstance(error, asyncpg.PostgresError) else _text(error)


def _text(error: BaseException | None) -> str:
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return "the connection was lost"  # the driver's texts are about its own states
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0] or type(error).__name__
