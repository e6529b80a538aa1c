"""Database connection of a command, with messages for an unreachable or empty database."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import typer
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from commands.complaints import complain
from commands.configuration import read_settings
from settings import Settings
from storage.database import Database
from storage.unavailable import is_unavailable

R = TypeVar("R")

EXIT_FAILED = 1
UNDEFINED_TABLE = "42P01"
LOCK_NOT_AVAILABLE = "55P03"


def in_database(work: Callable[[Database], Awaitable[R]]) -> R:
    """Run `work` with a database connection. Raises typer.Exit if the database is unreachable or has no tables."""
    settings = read_settings()
    try:
        return asyncio.run(_connected(settings, work))
    except (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        message = _message(error)
        if message is None:
            raise
        complain(message)
        raise typer.Exit(EXIT_FAILED) from None


async def _connected(settings: Settings, work: Callable[[Database], Awaitable[R]]) -> R:
    database = Database(settings.sqlalchemy_url, pool_size=1, name="loyalty-webhooks command")
    try:
        return await work(database)
    finally:
        await database.close()


def _message(error: Exception) -> str | None:
    if is_unavailable(error):
        return f"The database of DATABASE_URL cannot be reached: {error}"
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
        return "The database has no tables yet; run `loyalty-webhooks migrate` first."
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
        return "A table is locked by another session (see pg_stat_activity); the command was rolled back. Run it again."
    return None


def operator() -> str:
    """Return the actor of the audit log for the current user."""
    return f"cli:{getpass.getuser()}"
