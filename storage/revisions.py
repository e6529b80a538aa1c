"""Revisions of the schema: those of this code, by file name, and that of a database.

Read without Alembic, whose import would take 6 % of the start of each API process.
"""

from pathlib import Path

from sqlalchemy import text

from storage.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"


def revisions() -> list[str]:
    """Return every revision, oldest first."""
    return sorted(path.name.partition("_")[0] for path in MIGRATIONS.glob("versions/[0-9]*_*.py"))


def head() -> str:
    """Return the revision that this code needs."""
    return revisions()[-1]


def is_behind(revision: str | None) -> bool:
    """Return True if a database at this revision has to be migrated before this code can use it.

    A database at a revision unknown to this code is ahead: a newer version has migrated it, which the version before
    must support (CONTRIBUTING, migrations).
    """
    return revision is None or (revision in revisions() and revision != head())


async def current(database: Database) -> str | None:
    """Return the database's revision; None if the database is empty."""
    async with database.transaction() as connection:
        if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return None
        revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision
