"""Classification of database errors: outages, which pass, as opposed to programming errors; and their words."""

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

BROKEN_CONNECTION = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""Errors after which a connection of the driver (LISTEN, NOTIFY) is closed and reopened. The driver raises
InternalClientError for a statement given to a connection whose server is just ending it."""

_UNAVAILABLE_CLASSES = (
    "08",  # connection exceptions
    "28",  # refused log-in: user, password, pg_hba.conf
    "3D000",  # no such database
    "53",  # insufficient resources: disk full, too many connections, out of memory
    "57P",  # operator intervention: shutting down, starting up, terminated
    "58",  # system errors outside PostgreSQL itself, such as I/O
    "25006",  # read-only transaction: a standby, or a server that refuses writes
)

_PASSING = {
    "40P01": "deadlock with another session",
    "55P03": "another session holds a lock on the table (see pg_stat_activity)",
    "57014": "a statement took too long and was cancelled",
}
"""Errors of a statement that will do later, and their words. To an API caller they are faults."""

_REPAIRED_BY = {
    "42P01": "a table is missing; run `loyalty-webhooks migrate`",
    "42703": "a column is missing; run `loyalty-webhooks migrate`",
    "42501": "the role of DATABASE_URL lacks a right",
}
"""Words for errors of a schema or role that does not fit the code."""

_STAYING_CLASSES = ("28", "3D000", "53", "58", "25006")
"""Classes of errors of a running server, which last until an operator acts."""


def is_unavailable(error: BaseException) -> bool:
    """Return True for an outage that passes by itself or by an operator's action. Such outages are: no connection, a
    restart, a full disk, an exhausted pool."""
    if isinstance(error, DBAPIError):
        return (
            error.connection_invalidated
            or isinstance(error, (InterfaceError, OperationalError))
            or _refuses_work(_sqlstate(error))
            or isinstance(driver_error(error), asyncpg.InternalClientError)
        )
    if isinstance(error, asyncpg.PostgresError):
        return _refuses_work(error.sqlstate)
    broken = (OSError, TimeoutError, PoolTimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return isinstance(error, broken)


def driver_error(error: DBAPIError) -> BaseException | None:
    """Return the error of the driver that SQLAlchemy has wrapped twice."""
    return None if error.orig is None else error.orig.__cause__ or error.orig


def passes(error: BaseException) -> bool:
    """Return True for an outage, and for a statement that another one was in the way of."""
    return is_unavailable(error) or _sqlstate(error) in _PASSING


def in_words(error: BaseException) -> str:
    """Return what an operator is told of a database error, such as "PostgreSQL: the database system is starting up".

    Of an error that is no outage, only its class and SQLSTATE: its text may quote data.
    """
    state = _sqlstate(error)
    if state is not None and (words := _PASSING.get(state) or _REPAIRED_BY.get(state)) is not None:
        return f"PostgreSQL: {words}"
    if not is_unavailable(error):
        return type(error).__name__ + ("" if state is None else f", SQLSTATE {state}")
    if isinstance(error, PoolTimeoutError):
        return "PostgreSQL: no connection in the pool became free"
    return f"PostgreSQL: {outage_text(driver_error(error) if isinstance(error, DBAPIError) else error)}"


def outage_text(error: BaseException | None) -> str:
    """Return the text of an outage's error, such as "the database system is starting up"."""
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return "the connection was lost"  # the driver's texts are about its own states
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Only the message itself: details and hints may quote data.
    return str(error.args[0] if error is not None and error.args else error).partition("\n")[0] or type(error).__name__


def _sqlstate(error: BaseException) -> str | None:
    state = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_away(error: BaseException) -> bool:
    """Return True for an outage of the server itself, which is soon over if it died or was restarted."""
    return is_unavailable(error) and not (_sqlstate(error) or "").startswith(_STAYING_CLASSES)


def _refuses_work(sqlstate: object) -> bool:
    return isinstance(sqlstate, str) and sqlstate.startswith(_UNAVAILABLE_CLASSES)
