"""`loyalty-webhooks up`: everything runs, keeps running, stops in order, and comes back as it was.

One stack serves the tests in the order they stand; the later ones stop it, kill it and start it again.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from local.data_directory import DataDirectory
from local.health import stack_health
from local.processes import ProcessIdentity, titled
from local.stack import own_command
from local.stack_file import Stack, read_stack
from tests.deadlines import eventually
from tests.stack import FREE_PORTS, Up, up

pytestmark = pytest.mark.stack

COMPONENTS = ("api", "worker", "temporal", "postgres")
ARGUMENTS = ("--no-demo", *FREE_PORTS)
BACK_SECONDS = 30.0  # of a component that was killed, to be well again while other tests run


class Runs:
    """The `up` of the moment, on one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._held = contextlib.ExitStack()
        self.up = self.start()

    def start(self) -> Up:
        """Start it (again) and wait until all is healthy."""
        self.up = self._held.enter_context(up(self.data_dir, *ARGUMENTS))
        self.up.stack()
        return self.up

    def close(self) -> None:
        self._held.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("up") / "stack")
    yield runs
    runs.close()


@pytest.fixture
def stack(runs: Runs) -> Stack:
    return runs.up.stack()


def identities(stack: Stack) -> list[ProcessIdentity]:
    found = [ProcessIdentity.of(name, pid) for name, pid in stack.pids.model_dump().items()]
    assert None not in found
    return [identity for identity in found if identity]


def run_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(own_command(*arguments), capture_output=True, text=True, check=False, timeout=60)


async def is_ready(stack: Stack) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            return (await client.get(f"{stack.api}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def until_all_gone(runs: Runs, processes: list[ProcessIdentity], seconds: float) -> None:
    async def gone() -> bool:
        return not any(process.is_alive() for process in processes) and not postgres_processes(runs)

    await eventually(gone, seconds, f"all of {[process.name for process in processes]} have ended")


def postgres_processes(runs: Runs) -> list[int]:
    return titled(f"postgres: {DataDirectory.at(runs.data_dir).cluster}")


def without_pids(stack: Stack) -> dict[str, object]:
    return stack.model_dump(exclude={"pids"})


def test_it_says_at_once_what_a_local_stack_allows(runs: Runs) -> None:
    assert "http://" in runs.up.output.splitlines()[0]
    assert "127.0.0.0/8 and ::1/128" in runs.up.output.splitlines()[0]


def test_stack_json_says_where_everything_is_and_only_its_owner_may_read_it(runs: Runs, stack: Stack) -> None:
    assert runs.up.data.stack.stat().st_mode & 0o777 == 0o600
    assert runs.up.data.secrets.stat().st_mode & 0o777 == 0o600
    assert runs.data_dir.stat().st_mode & 0o777 == 0o700
    headers = {"X-AUTH-TOKEN": stack.api_key}
    with httpx.Client(trust_env=False, timeout=20) as client:
        for url in (f"{stack.api}/healthz", f"{stack.api}/readyz", f"{stack.api}/openapi.json", stack.docs):
            assert client.get(url).status_code == 200, url
        assert client.get(stack.temporal_ui).status_code == 200
        subscriptions = f"{stack.api}/api/{stack.store}/webhook/subscription"
        assert client.get(subscriptions, headers=headers).status_code == 200
        login = client.post(f"{stack.api}/api/admin/login_check", json=stack.admin.model_dump())
        assert login.status_code == 200
        bearer = {"Authorization": f"Bearer {login.json()['token']}"}
        assert client.get(subscriptions, headers=bearer).status_code == 200


async def test_its_database_takes_connections(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.database)
    assert await connection.fetchval("SELECT count(*) FROM store WHERE code = $1", stack.store) == 1
    await connection.close()


def test_the_components_lead_sessions_of_their_own(runs: Runs, stack: Stack) -> None:
    """Ctrl-C at a terminal goes to its foreground group: that is `up` alone."""
    for pid in stack.pids.model_dump().values():
        assert os.getsid(pid) == pid
        assert os.getpgid(pid) != os.getpgid(runs.up.process.pid)


def test_no_secret_is_in_a_command_line_or_in_the_output(runs: Runs, stack: Stack) -> None:
    password = stack.database.split(":")[2].split("@")[0]
    secrets = (password, stack.api_key, stack.admin.password)
    for pid in (runs.up.process.pid, *stack.pids.model_dump().values()):
        command_line = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(secret in command_line for secret in secrets)
    assert not any(secret in runs.up.output for secret in secrets)


def test_status_shows_the_components_and_the_backlog(runs: Runs, stack: Stack) -> None:
    shown = run_command("status", "--data-dir", str(runs.data_dir))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for title in ("PostgreSQL", "Temporal", "API", "Worker", "Backlog"):
        assert title in shown.stdout
    for_programs = run_command("status", "--data-dir", str(runs.data_dir), "--json")
    content = json.loads(for_programs.stdout)
    assert content["healthy"] is True
    assert {name: part["pid"] for name, part in content["components"].items()} == stack.pids.model_dump()
    assert content["backlog"] == {"events": 0, "oldest_seconds": 0}


def test_a_second_up_on_the_directory_is_refused_and_disturbs_nothing(runs: Runs, stack: Stack) -> None:
    second = run_command("up", "--data-dir", str(runs.data_dir), *ARGUMENTS)
    assert second.returncode == 1
    assert f"(pid {runs.up.process.pid})" in second.stderr
    assert runs.up.stack() == stack


@pytest.mark.parametrize("name", COMPONENTS)
async def test_a_killed_component_is_back_at_once_with_its_port_and_a_new_pid(runs: Runs, name: str) -> None:
    before = runs.up.stack()
    lines = runs.up.output.count("\n")
    old = before.pids.model_dump()[name]
    os.kill(old, signal.SIGKILL)
    killed = time.monotonic()

    async def replaced() -> bool:
        return bool(runs.up.stack().pids.model_dump()[name] != old)

    await eventually(replaced, 5, f"stack.json names the new {name}")
    assert time.monotonic() - killed < 2  # one second is promised; the machine may be busy with other tests
    after = runs.up.stack()
    assert without_pids(after) == without_pids(before)
    assert {other for other in COMPONENTS if getattr(after.pids, other) != getattr(before.pids, other)} == {name}

    async def said() -> bool:
        new_lines = runs.up.output.splitlines()[lines:]
        return len(new_lines) == 1 and f"(pid {old}) was killed by SIGKILL; started again" in new_lines[0]

    await eventually(said, 5, "it was said in one line")

    async def well() -> bool:
        return (await stack_health(runs.up.data, runs.up.stack())).healthy

    await eventually(well, BACK_SECONDS, f"all is well after {name} was killed")


async def test_after_ctrl_c_nothing_is_left_but_the_data(runs: Runs) -> None:
    processes = identities(runs.up.stack())
    assert runs.up.stop(signal.SIGINT) < 10
    assert not any(process.is_alive() for process in processes)
    await until_all_gone(runs, processes, 1)
    left = {path.name for path in runs.data_dir.iterdir()}
    assert left <= {
        "logs",
        "postgres",
        "ports.json",
        "secrets.json",
        "temporal.db",
        "temporal.db-shm",
        "temporal.db-wal",
    }
    assert "did not stop in time" not in runs.up.output


def test_when_nothing_runs_down_is_content_and_status_is_not(runs: Runs) -> None:
    assert run_command("down", "--data-dir", str(runs.data_dir)).returncode == 0
    assert run_command("status", "--data-dir", str(runs.data_dir)).returncode == 1


async def test_the_next_start_finds_data_secrets_and_ports(runs: Runs) -> None:
    before = runs.up.data.secrets.read_text(), runs.up.data.ports.read_text()
    runs.start()
    stack = runs.up.stack()
    assert (runs.up.data.secrets.read_text(), runs.up.data.ports.read_text()) == before
    connection = await asyncpg.connect(stack.database)
    assert await connection.fetchval("SELECT count(*) FROM store") == 1
    assert await connection.fetchval("SELECT count(*) FROM administrator") == 1
    assert await connection.fetchval("SELECT count(*) FROM api_key") == 1
    await connection.close()


async def test_everything_ends_when_up_is_killed_and_the_next_start_cleans_up(runs: Runs) -> None:
    stack = runs.up.stack()
    processes = identities(stack)
    runs.up.process.kill()
    runs.up.process.wait()
    await until_all_gone(runs, processes, 10)
    assert read_stack(runs.up.data.stack) == stack  # nobody was left to remove it
    assert run_command("status", "--data-dir", str(runs.data_dir)).returncode == 1

    runs.start()
    again = runs.up.stack()
    assert without_pids(again) == without_pids(stack)
    assert await is_ready(again)


async def test_down_stops_it_from_outside(runs: Runs) -> None:
    processes = identities(runs.up.stack())
    stopped = run_command("down", "--data-dir", str(runs.data_dir))
    assert stopped.returncode == 0, stopped.stderr
    assert runs.up.process.wait(1) == 0
    await until_all_gone(runs, processes, 1)
    assert not DataDirectory.at(runs.data_dir).lock.exists()
    assert not runs.up.data.stack.exists()


async def test_asked_to_stop_while_starting_it_stops_and_leaves_nothing(runs: Runs) -> None:
    with up(runs.data_dir, *ARGUMENTS) as starting:

        async def begun() -> bool:
            return "Starting PostgreSQL" in starting.output

        await eventually(begun, 30, "the servers are being started")
        assert starting.stop(signal.SIGTERM) < 10
    assert not starting.data.lock.exists()
    assert not starting.data.processes.exists()
    assert postgres_processes(runs) == []
