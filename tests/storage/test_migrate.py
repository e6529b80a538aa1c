"""The migrations build what the code expects, from nothing and again."""

import asyncio

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlmodel import SQLModel

from storage.database import Database
from storage.migrate import current, head, migrate
from tests.databases import empty_database, sqlalchemy_url


async def test_tables_in_code_and_migrations_agree(database: Database) -> None:
    async with database.transaction() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), SQLModel.metadata)
        )
    assert differences == []


async def test_several_migrators_at_once_bring_an_empty_database_to_head() -> None:
    async with empty_database() as url:
        database = Database(sqlalchemy_url(url), pool_size=6)
        assert await current(database) is None
        await asyncio.gather(*(migrate(database) for _ in range(3)))
        assert await current(database) == head()
        assert await migrate(database) == (head(), head())
        await database.close()
