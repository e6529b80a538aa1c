"""The programs of examples/, run by the commands of its page: two with generated clients, one by hand."""

import asyncio
import json
import os
import re
import shutil
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from tests.api.installation import Shop, installation
from tests.api.serving import serving
from tests.client_generator import client_generator
from tests.house import ROOT
from tests.node_packages import node, node_modules
from tests.tcp_proxy import TcpProxy
from tests.test_receiving import php

EXAMPLES = ROOT / "examples"
PAGE = (EXAMPLES / "README.md").read_text()
EVENT, URL = "AvailablePointsAmountChanged", "http://127.0.0.1:9000/points"
"""Event and receiver of the page's commands."""
INSTALLING = ("pip install ", "npm install ")
"""Lines of the page that the tests replace by the packages of their lock files."""
RUN_SECONDS = 120

pytestmark = [pytest.mark.usefixtures("programs"), pytest.mark.timeout(600)]  # the first run installs the generators


@dataclass
class Served:
    """A store of a served API, and a folder with the examples."""

    shop: Shop
    root: str
    directory: Path

    async def start(self, line: str, data: str = "", root: str = "") -> Process:
        """Start a command line of the page, with the variables that the page names, and the store."""
        environment = os.environ | {
            "LOYALTY_WEBHOOKS_API": root or self.root,
            "LOYALTY_WEBHOOKS_KEY": self.shop.installation.admin_key,
            "LOYALTY_WEBHOOKS_STORE": self.shop.store,
            "DATA": data,
            "PATH": f"{client_generator()}:{os.environ['PATH']}",
        }
        return await asyncio.create_subprocess_exec(
            "sh", "-c", f"exec {line}", cwd=self.directory, env=environment, stdout=PIPE, stderr=PIPE
        )

    async def prepare(self, program: str) -> str:
        """Run the page's commands before the one that runs the program, and return that one."""
        blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        [[*before, run]] = [block.splitlines() for block in blocks if program in block]
        for line in before:
            if not line.startswith(INSTALLING):
                code, output, errors = await ended(await self.start(line))
                assert code == 0, output + errors
                assert "warning" not in (output + errors).lower()
        return run


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
    node(), php()
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "node_modules").symlink_to(node_modules())
    rules = {"allow_http": True, "allowed_ports": (), "allowed_networks": ("127.0.0.0/8",)}
    async with installation(database_url, **rules) as installed, serving(installed.app) as root:
        shop = await installed.shop()
        await shop.client.get("/openapi.json")  # the first costs a second or two, and the generators wait for five
        yield Served(shop, root, tmp_path)


async def test_the_examples_subscribe_once_emit_repeat_and_show_a_refusal(served: Served) -> None:
    commands = [await served.prepare(program) for program in ("emit.py", "emit.mts", "emit.php")]
    paths = (await served.shop.client.get("/openapi.json")).json()["paths"].values()
    ids = {operation["operationId"].lower() for path in paths for operation in path.values()}
    modules = (served.directory / "loyalty_webhooks_client" / "api").glob("*/[!_]*.py")
    assert {module.stem.replace("_", "") for module in modules} == ids, "the Python client leaves none out"
    data, subscribed = dump(CATALOGUE[EVENT].sample), set()
    for command in commands:
        subscription_id, event_id = await emitted_by(served, command, data)
        subscribed.add(subscription_id)
        stored = await served.shop.client.get(f"/api/{served.shop.store}/event/{event_id}")
        assert stored.json()["data"] == json.loads(data)
        code, output, errors = await ended(await served.start(command, '{"amount": "much"}'))
        assert code == 1
        assert output.split() == ["subscribed", subscription_id], "the same subscription, and no event"
        shown = errors.strip().splitlines()[-1]
        assert shown.startswith('refused: 400 {"code":400,')
        assert shown in PAGE
    assert len(subscribed) == 1, "each program repeats the others' call"
    details = await served.shop.details(subscribed.pop())
    assert (details["eventName"], details["url"], details["hmacEnabled"]) == (EVENT, URL, True)


async def emitted_by(served: Served, command: str, data: str) -> tuple[str, str]:
    """Run a program that reaches the API at its second attempt; the ids of its webhook and its event."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # refuses connections until it listens
        root = f"http://127.0.0.1:{closed.getsockname()[1]}"
        running = await served.start(command, data, root)
        assert running.stderr is not None
        async with asyncio.timeout(RUN_SECONDS):
            assert b"again in 0.5 s" in await running.stderr.readline(), command
        host, _, port = served.root.removeprefix("http://").partition(":")
        async with await asyncio.start_server(TcpProxy(host, int(port)).serve, sock=closed):
            code, output, errors = await ended(running)
    assert code == 0, errors
    [[_, subscription_id], [_, event_id]] = (line.split() for line in output.splitlines())
    return subscription_id, event_id
