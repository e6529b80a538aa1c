"""`loyalty-webhooks up` and the tour of the README: everything runs, keeps running, stops in order, and comes back.

One stack, in a directory like the one of the README's reader, serves all tests, in any order. Each test requests the
state it needs, which costs nothing if the stack is in it already: `foreground`, `detached`, `stack` (either of them) or
`nothing_runs`. The order in which the tests stand changes the state least often.
"""

import asyncio
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from domain.events.catalogue import CATALOGUE
from local.data_directory import DataDirectory
from local.health import stack_health
from local.ports import HOST
from local.processes import ProcessIdentity, titled
from local.stack import own_command
from local.stack_file import Stack, read_stack
from tests.commands.running import run
from tests.deadlines import eventually
from tests.e2e.expiring import DUE, Scanned
from tests.pages import blocks, comparable, free_port, typing_shell
from tests.stack import FREE_PORTS, Up, up
from tests.terminal import CTRL_C, terminal

pytestmark = pytest.mark.stack

COMPONENTS = ("api", "worker", "temporal", "postgres")
BACK_SECONDS = 30.0  # of a component that was killed, to be well again while other tests run
SEED_EVENTS = [name for name, event_type in CATALOGUE.items() if event_type.seed]
SUBSCRIPTIONS = 2 * len(SEED_EVENTS)
DELIVERIES = SUBSCRIPTIONS + 1  # an automatic change of level makes two legacy webhooks
DEMO_SECONDS = 90.0
SHOWN_LAST = '"amountChangeType"'
REMAINS = {"logs", "postgres", "ports.json", "secrets.json", "temporal.db", "temporal.db-shm", "temporal.db-wal"}
"""The data, which is all that is left of a stack that has stopped."""

TRAPS = {
    "cli.py": "raise SystemExit('this is not ours')",
    ".env": "DATABASE_URL=postgresql://nobody@127.0.0.1:1/nothing\nTEMPORAL_ADDRESS=127.0.0.1:1\n",
}
"""Files that stand in the directory while the stack is started and stopped, which must not read them."""


@dataclass
class Detached:
    """The stack, started with `--detach`, and the output of the command."""

    output: str
    stack: Stack


@dataclass
class Home:
    """A directory in which `make install` and `make run` were called, as far as the README's reader can tell."""

    directory: Path
    data: DataDirectory
    modes_before: dict[Path, int]
    """Modes of the directory and all above it before the first start."""

    first_output: str = ""
    """Output of the first start, which was in the foreground."""

    _foreground: Up | None = None
    _detached: Detached | None = None
    _closing: ExitStack = field(default_factory=ExitStack)

    def in_foreground(self) -> Up:
        """Return the `up` in the foreground; start it unless it runs."""
        if self._foreground is None or self._foreground.process.poll() is not None:
            self.stop()
            with self._traps():
                running = self._closing.enter_context(up(self.data.root, *FREE_PORTS, cwd=self.directory))
                running.stack()
            deadline = time.monotonic() + DEMO_SECONDS
            while "Stop with" not in running.output:
                assert time.monotonic() < deadline, running.output
                time.sleep(0.05)
            self._foreground = running
            self.first_output = self.first_output or running.output
        return self._foreground

    def in_background(self) -> Detached:
        """Return the detached stack; start it unless it runs."""
        if self._detached is None or not self.data.stack.exists():
            self.stop()
            started = self._run("up", "--detach", *FREE_PORTS)
            assert started.returncode == 0, started.stdout + started.stderr
            stack = read_stack(self.data.stack)
            assert stack is not None
            self._detached = Detached(started.stdout, stack)
        return self._detached

    def running(self) -> Stack:
        """Return the stack, however it runs; start it in the foreground unless it runs."""
        if self._detached is not None and self.data.stack.exists():
            return self._detached.stack
        return self.in_foreground().stack()

    def stop(self) -> None:
        """Stop the stack, if it runs."""
        self._closing.close()
        if self.data.stack.exists():
            self._run("down")
        self._foreground = self._detached = None

    def left(self) -> set[str]:
        """Names in the data directory."""
        return {path.name for path in self.data.root.iterdir()}

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        with self._traps():
            return subprocess.run(
                own_command(*arguments), cwd=self.directory, capture_output=True, text=True, check=False, timeout=120
            )

    @contextmanager
    def _traps(self) -> Iterator[None]:
        for name, content in TRAPS.items():
            (self.directory / name).write_text(content)
        try:
            yield
        finally:
            for name in TRAPS:
                (self.directory / name).unlink()


def modes(path: Path) -> dict[Path, int]:
    """The modes of the directory and all above it."""
    return {directory: directory.stat().st_mode for directory in (path, *path.parents)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A directory that only its owner, root where we are root, may enter; the stack was started there."""
    directory = tmp_path_factory.mktemp("up") / "a home"
    directory.mkdir(mode=0o700)
    (directory / ".venv").symlink_to(sys.prefix)
    home = Home(directory, DataDirectory.at(directory / ".loyalty-webhooks"), modes(directory))
    try:
        home.in_foreground()
        yield home
    finally:
        home.stop()


@pytest.fixture
def foreground(home: Home) -> Up:
    """The `up` in the foreground of nobody's terminal."""
    return home.in_foreground()


@pytest.fixture
def detached(home: Home) -> Detached:
    """The stack, detached."""
    return home.in_background()


@pytest.fixture
def stack(home: Home) -> Stack:
    """The stack, in the foreground or detached."""
    return home.running()


@pytest.fixture
def nothing_runs(home: Home) -> None:
    """The stack is stopped."""
    home.stop()


def identities(stack: Stack) -> list[ProcessIdentity]:
    found = [ProcessIdentity.of(name, pid) for name, pid in stack.pids.model_dump().items()]
    assert None not in found
    return [identity for identity in found if identity]


def get(stack: Stack, path: str, **query: str) -> list[dict[str, object]]:
    answer = httpx.get(
        f"{stack.api}/api/{stack.store}{path}",
        params=query,
        headers={"X-AUTH-TOKEN": stack.api_key},
        trust_env=False,
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    items: list[dict[str, object]] = answer.json()["items"]
    return items


def demo_subscriptions(stack: Stack) -> list[dict[str, object]]:
    return get(stack, "/webhook/subscription", **{"name[like]": "Demo: ", "_itemsOnPage": "50"})


async def until_ready(stack: Stack) -> None:
    async def ready() -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            return (await client.get(f"{stack.api}/readyz")).status_code == 200

    await eventually(ready, BACK_SECONDS, "the stack is ready")


def postgres_processes(home: Home) -> list[int]:
    return titled(f"postgres: {home.data.cluster}")


async def until_all_gone(home: Home, processes: list[ProcessIdentity], seconds: float) -> None:
    async def gone() -> bool:
        return not any(process.is_alive() for process in processes) and not postgres_processes(home)

    await eventually(gone, seconds, f"all of {[process.name for process in processes]} have ended")


def without_pids(stack: Stack) -> dict[str, object]:
    return stack.model_dump(exclude={"pids"})


def test_make_run_prints_what_the_readme_shows(home: Home) -> None:
    (language, shown), *_ = blocks("Five minutes")
    assert language == "console"

    def known(text: str) -> list[str]:
        text = text.replace(f"{home.directory}/", "")
        text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", re.sub(r"\d+\.\d s", "N s", re.sub(r"\d+ ms", "N ms", text)))
        return [" ".join(line.split()) for line in text.splitlines()]

    by_make = ("$ make run", "Making .venv", "Installing the packages", "…")
    lines = [line for line in known(shown) if not line.startswith(by_make)]
    printed = known(home.first_output)
    assert printed[0] == lines[0]
    assert [line for line in lines if line not in printed] == []


async def test_the_demo_says_plain_lines_and_each_kind_of_schedule_has_scanned(home: Home, stack: Stack) -> None:
    assert "\x1b" not in home.first_output
    for event_name in SEED_EVENTS:
        assert re.search(rf"^ +\d+ ms  {event_name}, modern$", home.first_output, re.MULTILINE)
        assert re.search(rf"^ +\d+ ms  {event_name}, legacy$", home.first_output, re.MULTILINE)
    assert re.search(r"^ +\d+ ms  CustomerLevelChanged, legacy, automatic$", home.first_output, re.MULTILINE)
    assert len(demo_subscriptions(stack)) == SUBSCRIPTIONS

    async def all_recorded() -> bool:
        delivered = {"status": "delivered", "url[like]": "/demo/", "_itemsOnPage": "50"}
        return len(get(stack, "/webhook/delivery", **delivered)) >= DELIVERIES

    await eventually(all_recorded, 30, "the outcome of each delivery is recorded")
    schedules = get(stack, "/schedule")
    assert [(one["kind"], one["state"]) for one in schedules] == [
        (kind, "active") for kind in ("points", "levels", "coupons")
    ]
    for schedule in schedules:
        assert schedule["lastScan"]["origin"] == "manual"  # type: ignore[index]
        assert schedule["lastScan"]["emitted"] == 1  # type: ignore[index] # of each start's demo
        assert str(schedule["temporalUrl"]).startswith(f"{stack.temporal_ui}/namespaces/default/schedules/")


async def test_the_tour_works_and_prints_what_it_shows(home: Home, foreground: Up) -> None:
    port = free_port()
    _, (_, listen), *steps = blocks("Five minutes")
    async with typing_shell(home.directory, port) as second, typing_shell(home.directory, port) as third:
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

        async def both_workers_live() -> bool:
            return any(line.startswith("Live workers: 2.") for line in await third.run("loyalty-webhooks status"))

        await eventually(both_workers_live, 60, "status lists the second worker of the tour")
        for _ in range(20):
            await second.wait_for("AvailablePointsAmountChanged modern")
    assert "received AvailablePointsAmountChanged, modern" in foreground.output


async def test_the_python_example_emits_one_event_however_often_it_is_called(stack: Stack) -> None:
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


def test_stack_json_says_where_everything_is_and_only_its_owner_may_read_it(home: Home, stack: Stack) -> None:
    assert home.data.stack.stat().st_mode & 0o777 == 0o600
    assert home.data.secrets.stat().st_mode & 0o777 == 0o600
    assert home.data.root.stat().st_mode & 0o777 == 0o700
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


def test_the_components_lead_sessions_of_their_own(foreground: Up) -> None:
    """Ctrl-C at a terminal goes to its foreground group: that is `up` alone."""
    for pid in foreground.stack().pids.model_dump().values():
        assert os.getsid(pid) == pid
        assert os.getpgid(pid) != os.getpgid(foreground.process.pid)


def test_no_secret_is_in_a_command_line_or_in_the_output(foreground: Up) -> None:
    stack = foreground.stack()
    password = stack.database.split(":")[2].split("@")[0]
    secrets = (password, stack.api_key, stack.admin.password)
    for pid in (foreground.process.pid, *stack.pids.model_dump().values()):
        command_line = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(secret in command_line for secret in secrets)
    assert not any(secret in foreground.output for secret in secrets)


async def test_status_shows_the_components_and_the_backlog(home: Home, stack: Stack) -> None:
    shown = await run("status", directory=home.directory)
    assert shown.code == 0, shown.output + shown.errors
    for title in ("PostgreSQL", "Temporal", "API", "Worker", "Backlog"):
        assert title in shown.output

    async def for_programs() -> Any:
        shown = await run("status", "--data-dir", str(home.data.root), "--json", directory=home.directory)
        return json.loads(shown.output)

    async def all_well() -> bool:
        content = await for_programs()
        return bool(content["healthy"] and content["backlog"] == {"events": 0, "oldest_seconds": 0})

    await eventually(all_well, BACK_SECONDS, "all is well and the backlog is empty")
    content = await for_programs()
    assert {name: part["pid"] for name, part in content["components"].items()} == stack.pids.model_dump()


@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["in the foreground", "detached"])
async def test_a_second_up_on_the_directory_is_refused_and_disturbs_nothing(
    home: Home, foreground: Up, detach: tuple[str, ...]
) -> None:
    stack = foreground.stack()
    second = await run("up", *FREE_PORTS, *detach, directory=home.directory)
    assert second.code == 1
    assert f"(pid {foreground.process.pid})" in second.errors
    assert foreground.stack() == stack


async def kill(foreground: Up, name: str) -> None:
    """Kill a component, which is back at once with its port and a new pid, and `up` says so."""
    before = foreground.stack()
    lines = foreground.output.count("\n")
    old = before.pids.model_dump()[name]
    os.kill(old, signal.SIGKILL)

    async def replaced() -> bool:
        return bool(foreground.stack().pids.model_dump()[name] != old)

    await eventually(replaced, BACK_SECONDS, f"stack.json names the new {name}")
    after = foreground.stack()
    assert without_pids(after) == without_pids(before)
    assert {other for other in COMPONENTS if getattr(after.pids, other) != getattr(before.pids, other)} == {name}

    async def said() -> bool:
        new_lines = [line for line in foreground.output.splitlines()[lines:] if "(pid" in line]
        return len(new_lines) == 1 and f"(pid {old}) was killed by SIGKILL; started again" in new_lines[0]

    await eventually(said, BACK_SECONDS, "it was said in one line")


async def until_well(foreground: Up) -> None:
    async def well() -> bool:
        return (await stack_health(foreground.data, foreground.stack())).healthy

    await eventually(well, BACK_SECONDS, "all is well again")


@pytest.mark.parametrize("name", ["api", "postgres"])
async def test_a_killed_component_is_back_at_once_with_its_port_and_a_new_pid(foreground: Up, name: str) -> None:
    await kill(foreground, name)
    await until_well(foreground)


@pytest.mark.timeout(150)
async def test_each_due_row_makes_one_event_although_worker_and_temporal_are_killed_meanwhile(
    foreground: Up,
) -> None:
    async with Scanned.in_store_of_its_own(foreground.stack()) as scanned:
        await scanned.fill()
        await scanned.begin()
        for component, events in (("worker", DUE // 6), ("temporal", DUE // 2)):
            await scanned.until_emitted(events)
            await kill(foreground, component)
        await scanned.until_finished()
        await scanned.assert_each_once_and_delivered()
    await until_well(foreground)


async def test_everything_ends_when_up_is_killed_and_the_next_start_finds_it_again(home: Home, foreground: Up) -> None:
    """The next start is at a terminal, where Ctrl-C leaves nothing but the data."""
    left_behind = foreground.stack()
    processes = identities(left_behind)
    foreground.process.kill()
    foreground.process.wait()
    await until_all_gone(home, processes, 60)
    assert read_stack(home.data.stack) == left_behind  # nobody was left to remove it
    assert (await run("status", directory=home.directory)).code == 2
    before = home.data.secrets.read_text(), home.data.ports.read_text()
    with terminal(*own_command("up", "--data-dir", str(home.data.root), *FREE_PORTS)) as shown:
        shown.until_shown("Stop with Ctrl-C.")
        stack = read_stack(home.data.stack)
        assert stack is not None
        assert without_pids(stack) == without_pids(left_behind)
        assert (home.data.secrets.read_text(), home.data.ports.read_text()) == before
        assert f"{DELIVERIES} of {DELIVERIES}" in shown.shown
        for url in (stack.api, stack.docs, stack.panel, stack.temporal_ui):
            assert url in shown.shown
        assert len(demo_subscriptions(stack)) == SUBSCRIPTIONS  # nothing is made twice
        await assert_made_once(stack)
        processes = identities(stack)
        shown.press(CTRL_C)
        shown.until(lambda: shown.process.poll() is not None, "Ctrl-C ended it")
        assert shown.process.returncode == 0
        assert "Stopped" in shown.shown
        assert "PostgreSQL did not stop in time" not in shown.shown
    await until_all_gone(home, processes, 1)
    assert home.left() <= REMAINS


async def assert_made_once(stack: Stack) -> None:
    """Store, administrator and key of the first start are the only ones."""
    connection = await asyncpg.connect(stack.database)
    assert await connection.fetchval("SELECT count(*) FROM store WHERE code = $1", stack.store) == 1
    assert await connection.fetchval("SELECT count(*) FROM administrator") == 1
    assert await connection.fetchval("SELECT count(*) FROM api_key") == 1
    await connection.close()


@pytest.mark.usefixtures("nothing_runs")
async def test_when_nothing_runs_down_is_content_and_status_is_not(home: Home) -> None:
    assert (await run("down", directory=home.directory)).code == 0
    assert (await run("status", "--data-dir", str(home.data.root), directory=home.directory)).code == 2


def as_nobody(directory: Path) -> tuple[str, ...]:
    """A program that runs another as an ordinary user, who works in the directory and can reach this Python.

    Where either lies below a directory of root's it takes a capability; PostgreSQL looks at the user alone.
    """
    work = f"import asyncpg, ctypes, pydantic; open({str(directory / 'probe')!r}, 'w').close()"
    setpriv = shutil.which("setpriv") or pytest.fail("setpriv of util-linux is needed")
    user = pwd.getpwnam("nobody")
    identity = (setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    for capability in ((), ("dac_read_search",), ("dac_override",)):
        kept = [
            option for name in capability for option in (f"--inh-caps=-all,+{name}", f"--ambient-caps=-all,+{name}")
        ]
        prefix = (*identity, *(kept or ["--inh-caps=-all"]))
        if subprocess.run([*prefix, sys.executable, "-c", work], capture_output=True, check=False).returncode == 0:
            return prefix
    return pytest.fail("no ordinary user can run this Python")


def owners(stack: Stack) -> dict[str, int]:
    """The user each component runs as."""
    return {name: Path(f"/proc/{pid}").stat().st_uid for name, pid in stack.pids.model_dump().items()}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A second stack, of an ordinary user."""
    directory = tmp_path_factory.mktemp("ordinary")
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
        prefix = as_nobody(directory)
    with up(directory / "stack", "--no-demo", *FREE_PORTS, prefix=prefix, cwd=directory) as running:
        running.stack()
        yield running


async def test_detached_it_returns_when_all_is_healthy_and_says_where_everything_is(detached: Detached) -> None:
    await until_ready(detached.stack)
    for shown in (detached.stack.api, detached.stack.temporal_ui, "loyalty-webhooks down --data-dir"):
        assert shown in detached.output
    assert detached.stack.admin.password not in detached.output


def test_detached_it_shows_the_demos_result_and_where_its_receiver_is(detached: Detached) -> None:
    assert re.search(r"^(\d+) of \1 deliveries of \d+ events arrived\.$", detached.output, re.MULTILINE)
    receiver = re.search(r"Demo receiver  (http://\S+)", detached.output)
    assert receiver is not None
    assert httpx.post(receiver[1], trust_env=False).status_code == 200


def test_no_existing_directory_was_opened_for_others(home: Home) -> None:
    assert modes(home.directory) == home.modes_before
    assert stat.S_IMODE(home.data.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.data.postgres.stat().st_mode) == 0o700


@pytest.mark.root
def test_root_runs_postgresql_alone_as_an_ordinary_user(stack: Stack) -> None:
    owner = owners(stack)
    assert owner.pop("postgres") != 0
    assert set(owner.values()) == {0}


def test_an_ordinary_user_runs_everything_as_themselves(ordinary: Up) -> None:
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    assert set(owners(ordinary.stack()).values()) == {user}
    found = set()
    for path in ordinary.data.root.rglob("*"):
        with suppress(FileNotFoundError):  # PostgreSQL runs, and removes files
            found.add(path.stat().st_uid)
    assert found == {user}


async def test_two_stacks_run_side_by_side(stack: Stack, ordinary: Up) -> None:
    one, other = stack, ordinary.stack()
    await until_ready(one)
    await until_ready(other)
    for name in ("api", "temporal_ui", "temporal", "database", "api_key"):
        assert getattr(one, name) != getattr(other, name)
    key = {"X-AUTH-TOKEN": one.api_key}
    refused = httpx.get(f"{other.api}/api/default/webhook/subscription", headers=key, trust_env=False, timeout=20)
    assert refused.status_code == 401


async def test_stopping_one_stack_leaves_the_other_alone(home: Home, detached: Detached, ordinary: Up) -> None:
    processes = identities(detached.stack)
    for _ in range(2):  # the second time there is nothing to do
        stopped = await run("down", directory=home.directory)
        assert stopped.code == 0, stopped.errors
    assert not any(process.is_alive() for process in processes)
    await until_all_gone(home, processes, 1)
    assert home.left() <= REMAINS
    await until_ready(ordinary.stack())


@pytest.mark.usefixtures("nothing_runs")
async def test_asked_to_stop_while_starting_it_stops_and_leaves_nothing(home: Home) -> None:
    with up(home.data.root, "--no-demo", *FREE_PORTS) as starting:

        async def begun() -> bool:
            return "Starting PostgreSQL" in starting.output

        await eventually(begun, 30, "the servers are being started")
        starting.stop(signal.SIGTERM)
    assert home.left() <= REMAINS
    assert postgres_processes(home) == []


async def test_a_port_that_was_asked_for_and_is_taken_ends_the_start_with_nothing_left(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        arguments = ("--data-dir", "stack", "--api-port", str(port), "--ui-port", "0", "--temporal-port", "0")
        failed = await run("up", "--detach", *arguments, directory=tmp_path)
    assert failed.code == 1
    assert f"Port {port} for the API (--api-port) is in use" in failed.errors
    assert "Traceback" not in failed.errors + failed.output
    assert {path.name for path in (tmp_path / "stack").iterdir()} == {"logs", "secrets.json"}
