"""Fixtures every test may use: a migrated database of its own."""

from collections.abc import AsyncIterator

import pytest

from storage.database import Database
from tests.databases import cloned_database, migrated_template, sqlalchemy_url


@pytest.fixture(scope="session")
async def database_template() -> AsyncIterator[str]:
    async with migrated_template() as name:
        yield name


@pytest.fixture
async def database_url(database_template: str) -> AsyncIterator[str]:
    """postgresql:// address of a fresh database at head."""
    async with cloned_database(database_template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database at head."""
    database = Database(sqlalchemy_url(database_url), pool_size=5)
    yield database
    await database.close()
