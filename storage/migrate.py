"""Migrate the database, or render migrations as SQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

import storage.access.tables
import storage.deliveries.tables
import storage.events.tables
import storage.expiry.tables
import storage.operations.workers
import storage.subscriptions.tables  # noqa: F401  the imports fill METADATA
from storage import revisions
from storage.database import Database
from storage.events.days import make_coming_days

METADATA = SQLModel.metadata
"""Every table of the code."""
MIGRATION_LOCK = 0x10EA17  # an arbitrary constant, so that only one process migrates a database at a time

LOCK_RETRY_SECONDS = 0.2
"""Pause between two attempts to take the migration lock."""

LOCK_SECONDS = 5
"""Lock time-out of a migration. A statement that waits for a table blocks everyone who needs the table after it, so the
migration fails and has to be repeated."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(revisions.MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def sql_between(first: str | None, last: str) -> str:
    """Return the SQL that migrates from one revision (None: an empty database) to another, for review and linters."""
    config = _config()
    config.output_buffer = written = StringIO()
    command.upgrade(config, f"{first or 'base'}:{last}", sql=True)
    return written.getvalue()


async def migrate(database: Database) -> tuple[str | None, str]:
    """Migrate the schema to head and create the partitions of the coming days; return the revisions before and after.
    Safe to repeat and to run concurrently."""
    before = await revisions.current(database)
    async with database.engine.connect() as connection, _migration_lock(connection):
        await connection.run_sync(lambda sync: command.upgrade(_config(sync), "head"))
    await make_coming_days(database)
    return before, revisions.head()


@asynccontextmanager
async def _migration_lock(connection: AsyncConnection) -> AsyncIterator[None]:
    """Hold the migration lock. The lock belongs to the session, because each migration is a transaction. It is polled,
    because CREATE INDEX CONCURRENTLY would wait for a statement that waits for the lock."""
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}):
        await connection.rollback()
        await asyncio.sleep(LOCK_RETRY_SECONDS)
    await connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
    await connection.commit()
    try:
        yield
    finally:
        await connection.rollback()
        await connection.execute(text("RESET lock_timeout"))
        await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK})
        await connection.commit()
