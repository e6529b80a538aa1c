"""The migrations build what the code expects, from nothing and again, while others use the database."""

import asyncio
import shutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from storage import migrate as migrating
from storage import revisions
from storage.database import Database
from storage.events.tables import OUTBOX_VACUUM
from storage.migrate import migrate
from storage.revisions import current, head
from tests.databases import empty_database


async def test_tables_in_code_and_migrations_agree(database: Database) -> None:
    async with database.transaction() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), SQLModel.metadata)
        )
    assert differences == []


async def test_the_outbox_is_vacuumed_as_the_code_says(database: Database) -> None:
    async with database.transaction() as connection:
        options = await connection.scalar(text("SELECT reloptions FROM pg_class WHERE oid = 'event'::regclass"))
    assert dict(option.split("=") for option in options) == OUTBOX_VACUUM


async def test_several_migrators_at_once_bring_an_empty_database_to_head(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.events.days.LOCK_TIMEOUT", "60s")
    async with empty_database() as url:
        database = Database(url, pool_size=6)
        assert await current(database) is None
        await asyncio.gather(*(migrate(database) for _ in range(3)))
        assert await current(database) == head()
        assert await migrate(database) == (head(), head())
        await database.close()


def test_revisions_are_known_by_the_names_of_their_files() -> None:
    scripts = ScriptDirectory(str(revisions.MIGRATIONS)).walk_revisions()
    assert [script.revision for script in scripts] == revisions.revisions()[::-1]


NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{before}"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index("trial", "event", ["name"], postgresql_concurrently=True, if_not_exists=True)
    op.add_column("event", sa.Column("trial", sa.Text()))
"""


@pytest.fixture
def next_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after head, of the kind that large tables need: an index made concurrently, and a column that may be null."""
    before = head()
    folder = tmp_path / "migrations"
    shutil.copytree(revisions.MIGRATIONS, folder)
    (folder / "versions" / "9999_trial.py").write_text(NEXT.format(before=before))
    monkeypatch.setattr(revisions, "MIGRATIONS", folder)


async def test_an_index_is_made_concurrently_while_other_migrators_wait_for_their_turn(
    database: Database, next_migration: None
) -> None:
    await asyncio.gather(*(migrate(database) for _ in range(3)))
    assert await current(database) == "9999"


async def test_a_migration_that_would_keep_others_waiting_gives_up_and_can_be_repeated(
    database: Database, next_migration: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "LOCK_SECONDS", 1)
    before = await current(database)
    async with database.transaction() as reading:
        await reading.execute(text("LOCK TABLE event IN SHARE UPDATE EXCLUSIVE MODE"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            await migrate(database)
    assert await current(database) == before
    await migrate(database)
    assert await current(database) == "9999"
