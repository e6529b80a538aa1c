"""A real, migrated PostgreSQL database for each test that asks for one.

The server is the one of `TEST_POSTGRES_URL`, else an embedded one started for the run. Each pytest-xdist worker
migrates one template and clones it.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database
from storage.migrate import migrate


def server_url() -> str:
    """postgresql://user@host:port of the server under test, without a database name."""
    return os.environ["TEST_POSTGRES_URL"].rstrip("/")


async def blocks_another(connection: AsyncConnection) -> bool:
    """True while another transaction waits for a lock of this one's."""
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
    return bool(await connection.scalar(text(waiting)))


async def _administer(statement: str) -> None:
    connection = await asyncpg.connect(f"{server_url()}/postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def empty_database() -> AsyncIterator[str]:
    """The address of a new database without any table, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    await _administer(f'CREATE DATABASE "{name}"')
    try:
        yield f"{server_url()}/{name}"
    finally:
        await _administer(f'DROP DATABASE "{name}" WITH (FORCE)')


@asynccontextmanager
async def migrated_template() -> AsyncIterator[str]:
    """The name of a database at head, to clone."""
    async with empty_database() as url:
        database = Database(url, pool_size=2)
        await migrate(database)
        await database.close()
        yield url.rsplit("/", 1)[1]


@asynccontextmanager
async def cloned_database(template: str) -> AsyncIterator[str]:
    """The address of a clone of the template, dropped afterwards.

    Copying the 630 relations as files takes 0.1 s, the default strategy, which writes each block to the WAL, 0.6 s.
    """
    name = f"test_{uuid4().hex}"
    await _administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    try:
        yield f"{server_url()}/{name}"
    finally:
        await _administer(f'DROP DATABASE "{name}" WITH (FORCE)')
