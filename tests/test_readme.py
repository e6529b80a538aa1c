"""The README's tour and its Python example, run as they stand there against a stack; the output is what it shows."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
import uuid
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from temporalio.testing import WorkflowEnvironment

from local.stack_file import Stack
from storage.database import Database
from tests.commands.running import lines_until
from tests.databases import empty_database, sqlalchemy_url
from tests.deadlines import eventually
from tests.house import ROOT
from tests.stack import FREE_PORTS, up

README = (ROOT / "README.md").read_text()
PORT = "9000"  # of the receiver in the tour
PATIENCE_SECONDS = 60
SHOWN_LAST = '"amountChangeType"'
END = "@@@ end of block"

# What differs from run to run, in the order in which it is looked for.
VARYING = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"whsec_[A-Za-z0-9+/]{43}=", "KEY"),
    (r"\b[0-9a-f]{64}\b", "HEX"),
    (r"v1,[A-Za-z0-9+/]{43}=", "SIGNATURE"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "INSTANT"),
    (r"\b\d\d:\d\d:\d\d\.\d+", "TIME"),
    (r"\b1\d{9}\b", "SECONDS"),
)


def blocks(heading: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block below a heading of the README."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def comparable(text: str, port: str = PORT) -> list[str]:
    """Its lines without what differs from run to run, without trailing and without empty ones."""
    text = text.replace(f":{port}", f":{PORT}")
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])


class Terminal:
    """A shell that runs one block of the README after the other, in a directory where `.venv` and a stack are."""

    def __init__(self, shell: Process, port: str) -> None:
        self.shell = shell
        self._port = port

    def type(self, block: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(block.replace(PORT, self._port).encode())

    async def run(self, block: str, within: float = PATIENCE_SECONDS) -> list[str]:
        """What the block prints, to its end."""
        self.type(f"{block}\necho; echo '{END}'\n")
        return comparable("\n".join((await lines_until(self.shell, END, within))[:-1]), self._port)

    async def wait_for(self, last_line: str) -> list[str]:
        """What a command that goes on running prints, up to a line."""
        return comparable("\n".join(await lines_until(self.shell, last_line, PATIENCE_SECONDS)), self._port)


@asynccontextmanager
async def terminal(directory: Path, port: str) -> AsyncIterator[Terminal]:
    shell = await asyncio.create_subprocess_exec(
        "bash", "--norc", cwd=directory, stdin=PIPE, stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    try:
        yield Terminal(shell, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)  # what it started in the background too
        await shell.wait()


@dataclass(frozen=True)
class Home:
    """A directory in which `make install` and `make run` were called, as far as the README's reader can tell."""

    directory: Path
    stack: Stack
    started: str
    """What `up` printed."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    directory = tmp_path_factory.mktemp("home")
    (directory / ".venv").symlink_to(sys.prefix)
    with up(directory / ".loyalty-webhooks", *FREE_PORTS) as running:
        stack = running.stack()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "Stop with" not in running.output:
            assert time.monotonic() < deadline, running.output
            time.sleep(0.05)
        yield Home(directory, stack, running.output)


@pytest.mark.stack
def test_make_run_prints_what_the_readme_shows(home: Home) -> None:
    (language, shown), *_ = blocks("Five minutes")
    assert language == "console"

    def known(text: str) -> list[str]:
        text = text.replace(f"{home.directory}/", "")
        text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", re.sub(r"\d+\.\d s", "N s", re.sub(r"\d+ ms", "N ms", text)))
        return [" ".join(line.split()) for line in text.splitlines()]

    by_make = ("$ make run", "Making .venv", "Installing the packages", "…")
    lines = [line for line in known(shown) if not line.startswith(by_make)]
    printed = known(home.started)
    assert [line for line in lines if line not in printed] == []


@pytest.mark.stack
async def test_the_tour_works_and_prints_what_it_shows(home: Home) -> None:
    port = free_port()
    _, (_, listen), *steps = blocks("Five minutes")
    async with terminal(home.directory, port) as second, terminal(home.directory, port) as third:
        second.type(listen.replace("loyalty-webhooks listen", "exec loyalty-webhooks listen"))
        listening = await second.wait_for("Listening on")
        printed: list[str] = []
        for language, block in steps:
            if language == "sh":
                printed = await third.run(block)
            elif block.startswith("Listening on"):
                shown = comparable(block)
                assert listening + await second.wait_for(SHOWN_LAST) == shown[:-2]  # two lines of braces are left
            else:
                assert printed == comparable(block)
        assert any(line.startswith("Worker") for line in printed)
        for _ in range(20):
            await second.wait_for("AvailablePointsAmountChanged modern")


@pytest.mark.stack
async def test_the_python_example_emits_one_event_however_often_it_is_called(home: Home) -> None:
    stack = home.stack
    ((language, code),) = blocks("Emitting from Python")
    assert language == "python"
    names: dict[str, object] = {}
    exec(code, names)
    emit = names["emit"]
    assert callable(emit)
    headers = {"X-AUTH-TOKEN": stack.api_key}

    def twice(event_id: str) -> tuple[str, str]:
        with httpx.Client(base_url=f"{stack.api}/api/{stack.store}/", headers=headers, trust_env=False) as client:
            return emit(client, "CustomerUpdated", {}, event_id), emit(client, "CustomerUpdated", {}, event_id)

    event_id = str(uuid.uuid4())
    assert await asyncio.to_thread(twice, event_id) == (event_id, event_id)
    with httpx.Client(base_url=stack.api, headers=headers, trust_env=False) as client:
        found = await asyncio.to_thread(client.get, f"/api/{stack.store}/event/{event_id}")
    assert found.json()["eventName"] == "CustomerUpdated"


@pytest.mark.stack
async def test_the_commands_for_servers_of_ones_own_bring_up_a_working_installation(tmp_path: Path) -> None:
    ((_, block),) = blocks("On servers of your own")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    port = free_port()
    async with (
        empty_database() as database_url,
        await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(Path(sys.executable).with_name("temporal")), dev_server_log_level="error"
        ) as temporal,
        terminal(tmp_path, port) as shell,
    ):
        block = re.sub(r"postgresql://\S+", database_url, block)
        block = block.replace("temporal.example.com:7233", temporal.client.service_client.config.target_host)
        assert "example.com" not in block
        printed = await shell.run(f"export API_PORT={port}\n{block}")
        keys = [line for line in printed if re.fullmatch(r"lwk_\S+", line)]
        assert len(keys) == 1, printed
        shell.type(f"loyalty-webhooks emit --sample --api http://127.0.0.1:{port} --key {keys[0]} --patience 60\n")
        await shell.wait_for("17           0          0")
        database = Database(sqlalchemy_url(database_url), pool_size=1)

        async def taken() -> bool:
            async with database.transaction() as connection:
                result = await connection.execute(text("SELECT count(*) FROM event WHERE matched_at IS NOT NULL"))
                return result.scalar_one() == 17

        await eventually(taken, PATIENCE_SECONDS, "the worker has taken every event")
        await database.close()
        await shell.run("kill %1 %2; wait")
