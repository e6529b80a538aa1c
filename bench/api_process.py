"""One API process over a database of its own, for measurements that need neither worker nor Temporal."""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import aiohttp
import asyncpg
import psutil
from cryptography.fernet import Fernet

from bench.servers import free_port
from bench.stack import PROGRAM
from domain.access import Scope
from storage.access.queries import create_key
from storage.access.stores import create_store
from storage.database import Database
from storage.migrate import migrate

STORE = "default"
START_SECONDS = 20
HOLD_EVENTS = 10_000_000  # the limit of the backlog: nothing takes events out here


def add_server_argument(parser: argparse.ArgumentParser) -> None:
    """Where the databases are made: as named, or as `python -m bench.postgres` names it to the command it runs."""
    variable = "TEST_POSTGRES_URL"
    parser.add_argument(
        "--server",
        default=os.environ.get(variable),
        required=variable not in os.environ,
        help=f"PostgreSQL, without a database ({variable}); `python -m bench.postgres COMMAND` starts one",
    )


@dataclass(frozen=True)
class RunningApi:
    """Root address, key and process of a running API, and its database."""

    root: str
    key: str
    process: psutil.Process
    database: Database


@asynccontextmanager
async def fresh_database(server: str) -> AsyncIterator[str]:
    """postgresql:// address of a new, migrated database with a store, dropped at the end."""
    name = f"bench_{uuid4().hex}"
    admin = await asyncpg.connect(f"{server}/postgres")
    await admin.execute(f'CREATE DATABASE "{name}"')
    try:
        yield f"{server}/{name}"
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


@asynccontextmanager
async def running_api(server: str) -> AsyncIterator[RunningApi]:
    """An API on a fresh database of that PostgreSQL server (`postgresql://user@host:port`)."""
    async with fresh_database(server) as url:
        database = Database(url, pool_size=2)
        key = str(uuid4())
        await migrate(database)
        async with database.transaction() as connection:
            await create_store(connection, STORE, "A store")
            await create_key(connection, "bench", key, list(Scope), ["*"])
        port = free_port()
        environment = os.environ | {
            "DATABASE_URL": url,
            "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "JWT_SECRETS": str(uuid4()),
            "API_PORT": str(port),
            "BACKLOG_LIMIT_EVENTS": str(HOLD_EVENTS),
            "LOG_LEVEL": "WARNING",
        }
        process = subprocess.Popen([PROGRAM, "api"], env=environment, stdout=sys.stderr)
        try:
            root = f"http://127.0.0.1:{port}"
            await _answers(root, process)
            yield RunningApi(root, key, psutil.Process(process.pid), database)
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)
            await database.close()


async def _answers(root: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{root}/healthz"):
                    return
            except aiohttp.ClientError:
                if time.monotonic() > until or process.poll() is not None:
                    raise
                await asyncio.sleep(0.05)


def share(times: list[float], part: float) -> float:
    """The time in milliseconds within which that part of the sorted times (in seconds) lies."""
    return times[min(int(len(times) * part), len(times) - 1)] * 1e3
