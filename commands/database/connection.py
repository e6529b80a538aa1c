"""Database connection of a command, with messages for an unreachable or empty database."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from commands.configuration import Installation
from commands.terminal import failed
from storage.database import Database
from storage.unavailable import in_words, is_unavailable

R = TypeVar("R")

UNDEFINED_TABLE = "42P01"
LOCK_NOT_AVAILABLE = "55P03"


def in_database(installation: Installation, work: Callable[[Database], Awaitable[R]]) -> R:
    """Run `work` with a database connection. Raises typer.Exit if the database is unreachable or has no tables."""

    async def connected() -> R:
        address = installation.settings.database_url.get_secret_value()
        async with Database(address, pool_size=1, name="loyalty-webhooks command") as database:
            return await work(database)

    try:
        return asyncio.run(connected())
    except (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        message = _message(error, installation)
        if message is None:
            raise
        raise failed(message) from None


def in_transaction(installation: Installation, work: Callable[[AsyncConnection], Awaitable[R]]) -> R:
    """Run `work` in a transaction. Raises as `in_database`."""
    return in_database(installation, lambda database: database.run(work))


def _message(error: Exception, installation: Installation) -> str | None:
    if is_unavailable(error):
        where = installation.data.root if installation.data else "DATABASE_URL"
        return f"The database of {where} cannot be reached or used: {in_words(error)}"
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    if state == UNDEFINED_TABLE:
        return "The database has no tables yet; run `loyalty-webhooks migrate` first."
    if state == LOCK_NOT_AVAILABLE:
        return "A table is locked by another session (see pg_stat_activity); the command was rolled back. Run it again."
    return None


def operator() -> str:
    """Return the actor of the audit log for the current user."""
    return f"cli:{getpass.getuser()}"
