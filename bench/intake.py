"""How fast events are taken: `python -m bench.intake --server postgresql://…`.

Starts one API process on a fresh database, sends batches of NDJSON and then single events, and prints events per
second, the API's CPU per event and the time of an answer. Nothing delivers meanwhile. The sender shares the machine.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp
import asyncpg
import psutil
from cryptography.fernet import Fernet
from rich.console import Console
from rich.table import Table

from domain.access import Scope
from domain.catalogue import CATALOGUE
from domain.jsontext import dump
from storage.access import create_key
from storage.database import Database
from storage.migrate import migrate
from storage.stores import ensure_store

STORE = "default"
START_SECONDS = 20
HOLD_EVENTS = 10_000_000  # the limit of the backlog: nothing takes events out here


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def fresh_database(server: str) -> AsyncIterator[str]:
    """postgresql:// address of a new database with a store, dropped at the end."""
    name = f"bench_{uuid4().hex}"
    admin = await asyncpg.connect(f"{server}/postgres")
    await admin.execute(f'CREATE DATABASE "{name}"')
    try:
        yield f"{server}/{name}"
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


@asynccontextmanager
async def api_process(database_url: str) -> AsyncIterator[tuple[str, str, psutil.Process]]:
    """Root address, key and process of a running API."""
    key = str(uuid4())
    database = Database(database_url.replace("postgresql://", "postgresql+asyncpg://", 1), pool_size=2)
    await migrate(database)
    async with database.transaction() as connection:
        await ensure_store(connection, STORE, "A store")
        await create_key(connection, "bench", key, list(Scope), ["*"])
    await database.close()
    port = free_port()
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "JWT_SECRETS": "j" * 40,
        "API_PORT": str(port),
        "BACKLOG_LIMIT_EVENTS": str(HOLD_EVENTS),
    }
    process = subprocess.Popen([sys.executable, "-c", "from cli import main; main()", "api"], env=environment)
    try:
        async with aiohttp.ClientSession() as session:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/healthz"):
                        break
                except aiohttp.ClientError:
                    if time.monotonic() > until or process.poll() is not None:
                        raise
                    await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}", key, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def lines(names: list[str], count: int) -> bytes:
    """NDJSON of samples, each with an id of its own."""
    datas = {name: dump(CATALOGUE[name].sample) for name in names}
    parts = (
        f'{{"eventName":"{name}","eventId":"{uuid4()}","data":{datas[name]}}}'
        for name in (names[index % len(names)] for index in range(count))
    )
    return "\n".join(parts).encode()


async def measured(
    process: psutil.Process, jobs: list[bytes], in_flight: int, send: Callable[[bytes], Awaitable[None]]
) -> tuple[float, float, list[float]]:
    """Send every body; returns seconds, CPU seconds of the API and the sorted times of answers."""
    times: list[float] = []
    waiting = iter(jobs)

    async def sender() -> None:
        for body in waiting:
            began = time.perf_counter()
            await send(body)
            times.append(time.perf_counter() - began)

    before = sum(process.cpu_times()[:2])
    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(in_flight)))
    return time.perf_counter() - began, sum(process.cpu_times()[:2]) - before, sorted(times)


async def run(server: str, batches: int, singles: int) -> None:
    """Both measurements, as a table."""
    table = Table(title="Taking events, one API process")
    for column in ("what", "events/s", "API CPU µs/event", "answer p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "what" else "right")
    async with (
        fresh_database(server) as url,
        api_process(url) as (root, key, process),
        aiohttp.ClientSession(headers={"X-AUTH-TOKEN": key}, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):

        def sending(path: str, media_type: str) -> Callable[[bytes], Awaitable[None]]:
            async def send(body: bytes) -> None:
                headers = {"Content-Type": media_type}
                async with session.post(f"{root}/api/{STORE}/{path}", data=body, headers=headers) as answer:
                    if answer.status != 202:
                        raise RuntimeError(f"{answer.status}: {await answer.text()}")

            return send

        cases = {
            "NDJSON of 500, CustomerUpdated": (["CustomerUpdated"], 4),
            "NDJSON of 500, the seed's 17 in full": ([name for name, found in CATALOGUE.items() if found.seed], 4),
        }
        for what, (names, in_flight) in cases.items():
            jobs = [lines(names, 500) for _ in range(batches)]
            send = sending("event/batch", "application/x-ndjson")
            row = await measured(process, jobs, in_flight, send)
            table.add_row(what, *figures(batches * 500, *row))
        data = json.dumps({"event": {"eventName": "CustomerUpdated", "data": CATALOGUE["CustomerUpdated"].sample}})
        for in_flight in (1, 64):
            row = await measured(process, [data.encode()] * singles, in_flight, sending("event", "application/json"))
            table.add_row(f"single, {in_flight} in flight", *figures(singles, *row))
    Console(width=120).print(table)


def figures(events: int, seconds: float, cpu_seconds: float, times: list[float]) -> list[str]:
    """Cells of one row."""
    p50, p99 = (times[min(int(len(times) * share), len(times) - 1)] * 1e3 for share in (0.5, 0.99))
    return [f"{events / seconds:,.0f}", f"{cpu_seconds / events * 1e6:.1f}", f"{p50:.2f}", f"{p99:.2f}"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default=os.environ.get("TEST_POSTGRES_URL"), help="PostgreSQL, without a database")
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--singles", type=int, default=2000)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.server, arguments.batches, arguments.singles))


if __name__ == "__main__":
    main()
