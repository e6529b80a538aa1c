"""The PostgreSQL server of a test run, when `TEST_POSTGRES_URL` names no other."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from local.data_directory import tail
from local.ports import hold_free
from local.postgres import PostgresServer, make_database
from local.processes import Component, spawn

START_SECONDS = 30.0
STOP_SECONDS = 10.0
FOR_TESTS = (
    "-c",
    "fsync=off",
    "-c",
    "synchronous_commit=off",
    "-c",
    "full_page_writes=off",
    "-c",
    "max_connections=400",
)  # gone after the run


class TestServer:
    """An empty server in a temporary directory. It ends with the test run, however that ends."""

    __test__ = False

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="loyalty-webhooks-tests-"))
        with closing(hold_free()) as port:
            self._server = PostgresServer(
                directory=self._directory / "postgres",
                port=port.getsockname()[1],
                password="tests",
                log=self._directory / "postgres.log",
                cluster=self._directory.name,
            )
            self._process = asyncio.run(self._start())

    async def _start(self) -> "subprocess.Popen[bytes]":
        server = self._server
        await make_database(server.directory, server.password, server.log)
        component = server.component()
        process = spawn(replace(component, command=(*component.command, *FOR_TESTS)))
        deadline = time.monotonic() + START_SECONDS
        while not await server.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no PostgreSQL server for the tests:\n{tail(server.log)}")
            await asyncio.sleep(0.05)
        return process

    @property
    def url(self) -> str:
        """postgresql:// address without a database."""
        return self._server.address("").rstrip("/")

    def stop(self) -> None:
        """Stop it and remove its data."""
        component: Component = self._server.component()
        self._process.send_signal(component.stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        shutil.rmtree(self._directory, ignore_errors=True)
