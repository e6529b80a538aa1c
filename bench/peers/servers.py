"""The servers that peers need, each on a free port of the loopback address and data of its own."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.stack import free_port
from local.component import Component, ended, spawn
from local.log_files import tail
from local.postgres import PostgresServer, make_database
from local.temporal import TemporalServer

START_SECONDS = 60.0
PASSWORD = "bench"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: the environment by which a peer finds it, and its process."""

    environment: dict[str, str]
    pid: int


def redis_server() -> str:
    """The program. Ends with what to do when it is missing."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed. Debian and Ubuntu: apt-get install redis-server. Or leave out the "
                 "peers on Redis with --only.")  # fmt: skip
    return program


@asynccontextmanager
async def _run(component: Component) -> AsyncIterator[int]:
    """Start a component and wait until it is ready; stop it at the end."""
    process = spawn(component)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not await component.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{component.title} did not start:\n{tail(component.log)}")
            await asyncio.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(component.stop_signal)
        if not await ended(process, time.monotonic() + component.stop_seconds + 5):
            process.kill()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def redis(directory: Path) -> AsyncIterator[Server]:
    """Redis without persistence: to the peers' favour."""
    port = free_port()

    component = Component(
        name="redis",
        title="Redis",
        command=(redis_server(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"),
        environment={"PATH": os.defpath},
        directory=directory,
        log=directory / "redis.log",
        ready=partial(_listens, port),
        stop_signal=signal.SIGTERM,
    )
    async with _run(component) as pid:
        yield Server({"BENCH_REDIS": f"redis://127.0.0.1:{port}/0"}, pid)


@asynccontextmanager
async def postgres(directory: Path) -> AsyncIterator[Server]:
    """PostgreSQL with the very settings of `loyalty-webhooks up`."""
    server = PostgresServer(directory / "postgres", free_port(), PASSWORD, directory / "postgres.log", directory.name)
    await make_database(server.directory, server.password, server.log)
    async with _run(server.component()) as pid:
        await server.ensure_database()
        yield Server({"BENCH_POSTGRES": server.address()}, pid)


@asynccontextmanager
async def temporal(directory: Path) -> AsyncIterator[Server]:
    """Temporal with the very settings of `loyalty-webhooks up`."""
    server = TemporalServer(
        database=directory / "temporal.db",
        port=free_port(),
        ui_port=free_port(),
        http_port=free_port(),
        metrics_port=free_port(),
        log=directory / "temporal.log",
    )
    async with _run(server.component()) as pid:
        yield Server({"BENCH_TEMPORAL": server.address}, pid)


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, int]]:
    """Root address and process of a receiver."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.receiver", str(port)])
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _listens(port):
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(10)


SERVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Server]]] = {
    "redis": redis,
    "postgres": postgres,
    "temporal": temporal,
}


@asynccontextmanager
async def servers(names: tuple[str, ...]) -> AsyncIterator[list[Server]]:
    """Those servers."""
    directory = Path(tempfile.mkdtemp(prefix="loyalty-webhooks-peers-"))
    directory.chmod(0o711)  # PostgreSQL runs as somebody else when we are root
    try:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(SERVERS[name](directory)) for name in names]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
