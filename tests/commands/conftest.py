"""Fixtures of commands that speak to an API: one is served for all tests of a module, each with a store of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn

from tests.api.installation import installation
from tests.commands.filed import Filed, Served


@pytest.fixture(scope="module")
async def served(module_database_url: str) -> AsyncIterator[Served]:
    async with installation(module_database_url) as installed:
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(installed.app, lifespan="off", log_level="warning", access_log=False))
        server.install_signal_handlers = lambda: None
        serving = asyncio.create_task(server.serve([listening]))
        yield Served(installed, f"http://127.0.0.1:{listening.getsockname()[1]}")
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@pytest.fixture
async def filed(served: Served, tmp_path: Path) -> Filed:
    return Filed(await served.installed.shop(), served.root, served.installed.admin_key, tmp_path)
