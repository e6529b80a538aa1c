"""Classification of database errors: outages, which pass, as opposed to programming errors."""

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

BROKEN_CONNECTION = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""Errors after which a connection of the driver (LISTEN, NOTIFY) is closed and reopened. The driver raises
InternalClientError for a statement given to a connection whose server is just ending it."""

_UNAVAILABLE_CLASSES = (
    "08",  # connection exceptions
    "53",  # insufficient resources: disk full, too many connections, out of memory
    "57P",  # operator intervention: shutting down, starting up, terminated
    "58",  # system errors outside PostgreSQL itself, such as I/O
    "25006",  # read-only transaction: a standby, or a server that refuses writes
)

_STAYING_CLASSES = ("53", "58", "25006")
"""Classes of errors of a running server, which last until an operator acts."""


def is_unavailable(error: BaseException) -> bool:
    """Return True for an outage that passes by itself or by an operator's action. Such outages are: no connection, a
    restart, a full disk, an exhausted pool."""
    if isinstance(error, DBAPIError):
        return (
            error.connection_invalidated
            or isinstance(error, (InterfaceError, OperationalError))
            or _refuses_work(getattr(error.orig, "sqlstate", None))
            or isinstance(driver_error(error), asyncpg.InternalClientError)
        )
    if isinstance(error, asyncpg.PostgresError):
        return _refuses_work(error.sqlstate)
    broken = (OSError, TimeoutError, PoolTimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return isinstance(error, broken)


def driver_error(error: DBAPIError) -> BaseException | None:
    """Return the error of the driver that SQLAlchemy has wrapped twice."""
    return None if error.orig is None else error.orig.__cause__ or error.orig


def is_away(error: BaseException) -> bool:
    """Return True for an outage of the server itself, which is soon over if it died or was restarted."""
    sqlstate = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
    return is_unavailable(error) and not (isinstance(sqlstate, str) and sqlstate.startswith(_STAYING_CLASSES))


def _refuses_work(sqlstate: object) -> bool:
    return isinstance(sqlstate, str) and sqlstate.startswith(_UNAVAILABLE_CLASSES)
