"""The servers that peers need, each on a free port of the loopback address and data of its own."""

import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from bench.servers import Server, data_directory, free_port, listens, postgres, running
from local.processes import Component
from local.temporal import TemporalServer


def redis_server() -> str:
    """The program. Ends with what to do when it is missing."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed. Debian and Ubuntu: apt-get install redis-server. Or leave out the "
                 "peers on Redis with --only.")  # fmt: skip
    return program


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
        ready=partial(listens, port),
        stop_signal=signal.SIGTERM,
    )
    async with running(component) as pid:
        yield Server({"BENCH_REDIS": f"redis://127.0.0.1:{port}/0"}, pid)


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
    async with running(server.component()) as pid:
        yield Server({"BENCH_TEMPORAL": server.address}, pid)


SERVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Server]]] = {
    "redis": redis,
    "postgres": postgres,
    "temporal": temporal,
}


@asynccontextmanager
async def servers(names: tuple[str, ...]) -> AsyncIterator[list[Server]]:
    """Those servers."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory("peers"))
        yield [await stack.enter_async_context(SERVERS[name](directory)) for name in names]
