"""The Temporal server keeps what it acknowledged, and our search attributes, over kill -9."""

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client

from local.health import fetch
from local.ports import hold_free
from local.processes import Supervisor
from local.temporal import TemporalServer
from tests.deadlines import eventually


@contextmanager
def server_in(directory: Path) -> Iterator[TemporalServer]:
    """A server that is not started, its ports held."""
    with ExitStack() as stack:
        api, ui, http, metrics = (stack.enter_context(hold_free()).getsockname()[1] for _ in range(4))
        yield TemporalServer(
            database=directory / "temporal.db",
            port=api,
            ui_port=ui,
            http_port=http,
            metrics_port=metrics,
            log=directory / "temporal.log",
        )


@pytest.fixture(scope="module")
async def server(
    programs: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[TemporalServer, Supervisor]]:
    directory = tmp_path_factory.mktemp("private") / "it's 100% #1?"  # each of these means something in a URL
    directory.mkdir()
    supervisor = Supervisor(print, lambda: None)
    with server_in(directory) as server:
        await supervisor.start(replace(server.component(), stop_seconds=30))
        assert {path.name for path in directory.iterdir()} >= {"temporal.db", "temporal.log"}
        yield server, supervisor
        assert await supervisor.stop(time.monotonic() + 60) == []


async def test_the_web_ui_answers(server: tuple[TemporalServer, Supervisor]) -> None:
    page = await fetch(server[0].ui)
    assert page is not None
    assert page.status_code == 200
    assert b"<title>Temporal" in page.content or b"<html" in page.content


async def test_everything_listens_on_the_loopback_address_alone(server: tuple[TemporalServer, Supervisor]) -> None:
    pid = server[1].pids()["temporal"]
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            sockets.add(str(entry.readlink()))
    listening = [
        fields[1]
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    ]
    assert len(listening) >= 4
    assert {address.partition(":")[0] for address in listening} == {"0100007F"}


async def test_after_kill_9_started_workflows_and_search_attributes_are_there(
    server: tuple[TemporalServer, Supervisor],
) -> None:
    temporal, supervisor = server
    workflow_id = f"kept/{uuid4()}"
    client = await Client.connect(temporal.address)
    await client.start_workflow("no-worker-has-it", id=workflow_id, task_queue="none")
    old = supervisor.pids()["temporal"]
    os.kill(old, signal.SIGKILL)

    async def back() -> bool:
        return supervisor.pids()["temporal"] != old and await temporal.ready()  # with our search attributes

    await eventually(back, 20, "Temporal is back")
    assert (await client.get_workflow_handle(workflow_id).describe()).id == workflow_id


async def test_nothing_is_ready_where_nothing_listens(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        assert not await server.ready()
        assert await fetch(server.ui) is None
