"""Schema versions: to bring the database to head, to ask where it is, to write a new migration."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from storage.database import Database
from storage.days import make_coming_days

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x10EA17  # any constant: two migrators on one database take turns


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The revision this code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError(f"no migration found in {MIGRATIONS}")
    return revision


def is_behind(revision: str | None) -> bool:
    """Whether a database at this revision lacks what this code needs.

    One at a revision this code has never heard of is ahead: a newer version has migrated it, which the code before must
    bear (CONTRIBUTING, migrations).
    """
    if revision is None:
        return True
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    return revision in known and revision != head()


def _locked(connection: Connection, action: Callable[[Config], object]) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    action(_config(connection))


async def migrate(database: Database) -> tuple[str | None, str]:
    """Bring the schema to head, with the partitions of the coming days; the revisions before and after.

    Safe to run again and by several at once.
    """
    before = await current(database)
    async with database.transaction() as connection:
        await connection.run_sync(_locked, lambda config: command.upgrade(config, "head"))
    await make_coming_days(database)
    return before, head()


async def current(database: Database) -> str | None:
    """The revision the database is at; none when it is empty."""
    async with database.transaction() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def write_revision(database: Database, message: str, revision: str) -> None:
    """Write a new migration file from the difference between the tables in code and the database."""
    async with database.transaction() as connection:
        await connection.run_sync(
            _locked, lambda config: command.revision(config, message, autogenerate=True, rev_id=revision)
        )
