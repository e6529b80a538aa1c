"""A command's work in the database, and what is said when that cannot be reached."""

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
    """Run the work with a connected database; an unreachable or empty one is said and ends the command."""
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
        return "Somebody holds a table for long (pg_stat_activity says who); what was begun was undone. Run it again."
    return None


def operator() -> str:
    """Whoever types the command, as the audit names them."""
    return f"cli:{getpass.getuser()}"
