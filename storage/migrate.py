"""Schema versions: to bring the database to head, to ask where it is, to read what a migration would do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database
from storage.events.days import make_coming_days

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x10EA17  # any constant: two migrators on one database take turns
TURN_PAUSE_SECONDS = 0.2
LOCK_SECONDS = 5
"""A statement that waits for a table keeps everybody waiting who comes for it later: it gives up, to be repeated."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The revision this code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError(f"no migration found in {MIGRATIONS}")
    return revision


def revisions() -> list[str]:
    """Every revision, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def is_behind(revision: str | None) -> bool:
    """Whether a database at this revision lacks what this code needs.

    One at a revision this code has never heard of is ahead: a newer version has migrated it, which the code before must
    bear (CONTRIBUTING, migrations).
    """
    return revision is None or (revision in revisions() and revision != head())


def sql_between(first: str | None, last: str) -> str:
    """What brings a database from a revision (none: empty) to another, as SQL for people and linters to read."""
    config = _config()
    config.output_buffer = written = StringIO()
    command.upgrade(config, f"{first or 'base'}:{last}", sql=True)
    return written.getvalue()


async def migrate(database: Database) -> tuple[str | None, str]:
    """Bring the schema to head, with the partitions of the coming days; the revisions before and after.

    Safe to run again and by several at once.
    """
    before = await current(database)
    async with database.engine.connect() as connection, _turn(connection):
        await connection.run_sync(lambda sync: command.upgrade(_config(sync), "head"))
    await make_coming_days(database)
    return before, head()


@asynccontextmanager
async def _turn(connection: AsyncConnection) -> AsyncIterator[None]:
    """While no other migrator is at work.

    The lock is the session's, since migrations are transactions of their own. It is asked for again and again, since an
    index made concurrently would wait for whoever waits for a lock within a statement.
    """
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}):
        await connection.rollback()
        await asyncio.sleep(TURN_PAUSE_SECONDS)
    await connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
    await connection.commit()
    try:
        yield
    finally:
        await connection.rollback()
        await connection.execute(text("RESET lock_timeout"))
        await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK})
        await connection.commit()


async def current(database: Database) -> str | None:
    """The revision the database is at; none when it is empty."""
    async with database.transaction() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
