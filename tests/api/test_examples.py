"""The programs of examples/: two with clients generated from the API's own description, one by hand."""

import asyncio
import json
import os
import shutil
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from tests.api.installation import RECEIVER, Shop, installation
from tests.api.serving import serving
from tests.client_generator import client_generator
from tests.house import ROOT
from tests.node_packages import node, node_modules
from tests.tcp_proxy import TcpProxy
from tests.test_receiving import php

EXAMPLES = ROOT / "examples"
EVENT = "AvailablePointsAmountChanged"
RUN_SECONDS = 120

pytestmark = [pytest.mark.usefixtures("programs"), pytest.mark.timeout(600)]  # the first run installs the generators


@dataclass
class Served:
    """A store of a served API."""

    shop: Shop
    root: str
    directory: Path

    async def start(self, *command: str | Path, root: str = "") -> Process:
        """Start a program in the directory, with the API's address, a key and the store in its environment."""
        environment = os.environ | {
            "LOYALTY_WEBHOOKS_API": root or self.root,
            "LOYALTY_WEBHOOKS_KEY": self.shop.installation.admin_key,
            "LOYALTY_WEBHOOKS_STORE": self.shop.store,
        }
        return await asyncio.create_subprocess_exec(
            *command, cwd=self.directory, env=environment, stdout=PIPE, stderr=PIPE
        )

    async def made(self, *command: str | Path) -> None:
        """Run a program that has to succeed."""
        code, output, errors = await ended(await self.start(*command))
        assert code == 0, output + errors


async def ended(process: Process) -> tuple[int | None, str, str]:
    """Wait until a program has ended; its exit code, output and errors."""
    try:
        async with asyncio.timeout(RUN_SECONDS):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, output.decode(), errors.decode()


@pytest.fixture
async def served(database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with installation(database_url) as installed, serving(installed.app) as root:
        yield Served(await installed.shop(), root, tmp_path)


async def python(api: Served) -> list[str | Path]:
    """The Python example with the client that openapi-python-client generates."""
    programs, client = client_generator(), api.directory / "loyalty_webhooks_client"
    generate = [programs / "openapi-python-client", "generate", "--url", f"{api.root}/openapi.json"]
    await api.made(*generate, "--meta", "none", "--output-path", client)
    paths = (await api.shop.client.get("/openapi.json")).json()["paths"].values()
    ids = {operation["operationId"].lower() for path in paths for operation in path.values()}
    assert {module.stem.replace("_", "") for module in (client / "api").glob("*/[!_]*.py")} == ids, "none is left out"
    shutil.copy(EXAMPLES / "emit.py", api.directory)
    return [programs / "python", "emit.py"]


async def typescript(api: Served) -> list[str | Path]:
    """The TypeScript example, compiled strictly with the types that openapi-typescript generates."""
    modules = node_modules()
    (api.directory / "node_modules").symlink_to(modules)
    shutil.copy(EXAMPLES / "emit.mts", api.directory)
    types = ["--default-non-nullable=false", "--output", "api.d.ts"]
    await api.made(node(), modules / ".bin" / "openapi-typescript", f"{api.root}/openapi.json", *types)
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"]
    await api.made(node(), modules / ".bin" / "tsc", *options, "emit.mts")
    return [node(), "emit.mjs"]


async def by_hand(api: Served) -> list[str | Path]:
    """The PHP example."""
    return [php(), EXAMPLES / "emit.php"]


@pytest.mark.parametrize("prepared", [python, typescript, by_hand], ids=["python", "typescript", "php"])
async def test_an_example_subscribes_emits_repeats_and_shows_a_refusal(
    served: Served, prepared: Callable[[Served], Awaitable[list[str | Path]]]
) -> None:
    command = await prepared(served)
    data = dump(CATALOGUE[EVENT].sample)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # refuses connections until it listens
        root = f"http://127.0.0.1:{closed.getsockname()[1]}"
        running = await served.start(*command, RECEIVER, EVENT, data, root=root)
        assert running.stderr is not None
        async with asyncio.timeout(RUN_SECONDS):
            assert b"again in 0.5 s" in await running.stderr.readline()
        host, _, port = served.root.removeprefix("http://").partition(":")
        async with await asyncio.start_server(TcpProxy(host, int(port)).serve, sock=closed):
            code, output, errors = await ended(running)
    assert code == 0, errors
    [subscribed, accepted] = (line.split() for line in output.splitlines())
    details = await served.shop.details(subscribed[1])
    assert (details["eventName"], details["url"], details["hmacEnabled"]) == (EVENT, RECEIVER, True)
    stored = await served.shop.client.get(f"/api/{served.shop.store}/event/{accepted[1]}")
    assert stored.json()["data"] == json.loads(data)
    code, output, errors = await ended(await served.start(*command, RECEIVER, EVENT, '{"amount": "much"}'))
    assert code == 1
    assert output.split() == subscribed, "the same subscription, and no event"
    shown = errors.strip().splitlines()[-1]
    assert shown.startswith('refused: 400 {"code":400,')
    assert shown in (EXAMPLES / "README.md").read_text()
