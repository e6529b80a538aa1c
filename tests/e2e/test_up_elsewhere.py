"""Stacks side by side: root's in a directory nobody else may enter, an ordinary user's beside it."""

import contextlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from local.ports import HOST
from local.processes import ProcessIdentity
from local.stack import own_command
from local.stack_file import Stack, read_stack
from tests.stack import FREE_PORTS, Up, up

pytestmark = pytest.mark.stack

ARGUMENTS = ("--no-demo", *FREE_PORTS)
COMMAND_SECONDS = 120.0


def run_command(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        own_command(*arguments), capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS, cwd=cwd
    )


def modes(path: Path) -> dict[Path, int]:
    """The modes of the directory and all above it, as far as they existed before."""
    return {directory: stat.S_IMODE(directory.stat().st_mode) for directory in (path, *path.parents)}


def is_well(stack: Stack) -> bool:
    return httpx.get(f"{stack.api}/readyz", trust_env=False, timeout=20).status_code == 200


def owners(stack: Stack) -> dict[str, int]:
    """The user each component runs as."""
    return {name: Path(f"/proc/{pid}").stat().st_uid for name, pid in stack.pids.model_dump().items()}


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


@dataclass
class Detached:
    """A stack started with `--detach`, and what its command said."""

    data_dir: Path
    started: "subprocess.CompletedProcess[str]"
    stack: Stack
    modes_before: dict[Path, int]


@pytest.fixture(scope="module")
def detached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detached]:
    """In a directory that only its owner, root where we are root, may enter; from a directory with traps."""
    root_only = tmp_path_factory.mktemp("detached") / "private"
    root_only.mkdir(mode=0o700)
    (root_only / "cli.py").write_text("raise SystemExit('this is not ours')")
    (root_only / ".env").write_text(
        "DATABASE_URL=postgresql://nobody@127.0.0.1:1/nothing\nTEMPORAL_ADDRESS=127.0.0.1:1\n"
    )
    before = modes(root_only)
    data_dir = root_only / "the data"
    try:
        started = run_command("up", "--data-dir", "the data", "--detach", *ARGUMENTS, cwd=root_only)
        assert started.returncode == 0, started.stdout + started.stderr
        stack = read_stack(data_dir / "stack.json")
        assert stack is not None
        yield Detached(data_dir, started, stack, before)
    finally:
        run_command("down", "--data-dir", str(data_dir))


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory, detached: Detached) -> Iterator[Up]:
    """A second stack, of an ordinary user."""
    directory = tmp_path_factory.mktemp("ordinary")
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
        prefix = as_nobody(directory)
    with up(directory / "stack", *ARGUMENTS, prefix=prefix, cwd=directory) as running:
        running.stack()
        yield running


def test_detached_it_returns_when_all_is_healthy_and_says_where_everything_is(detached: Detached) -> None:
    assert is_well(detached.stack)
    for shown in (detached.stack.api, detached.stack.temporal_ui, "loyalty-webhooks down --data-dir"):
        assert shown in detached.started.stdout
    assert detached.stack.admin.password not in detached.started.stdout


def test_no_existing_directory_was_opened_for_others(detached: Detached) -> None:
    assert modes(detached.data_dir.parent) == detached.modes_before
    assert stat.S_IMODE(detached.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((detached.data_dir / "postgres").stat().st_mode) == 0o700


@pytest.mark.root
def test_root_runs_postgresql_alone_as_an_ordinary_user(detached: Detached) -> None:
    owner = owners(detached.stack)
    assert owner.pop("postgres") != 0
    assert set(owner.values()) == {0}


def test_an_ordinary_user_runs_everything_as_themselves(ordinary: Up) -> None:
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    assert set(owners(ordinary.stack()).values()) == {user}
    assert {path.stat().st_uid for path in ordinary.data.root.rglob("*")} == {user}


def test_two_stacks_run_side_by_side(detached: Detached, ordinary: Up) -> None:
    one, other = detached.stack, ordinary.stack()
    assert is_well(one)
    assert is_well(other)
    for name in ("api", "temporal_ui", "temporal", "database", "api_key"):
        assert getattr(one, name) != getattr(other, name)
    key = {"X-AUTH-TOKEN": one.api_key}
    refused = httpx.get(f"{other.api}/api/default/webhook/subscription", headers=key, trust_env=False, timeout=20)
    assert refused.status_code == 401


def test_a_second_detached_start_says_who_runs_already(detached: Detached) -> None:
    again = run_command("up", "--data-dir", str(detached.data_dir), "--detach", *ARGUMENTS)
    assert again.returncode == 1
    assert "Another `loyalty-webhooks up`" in again.stderr
    assert is_well(detached.stack)


def test_stopping_one_stack_leaves_the_other_alone(detached: Detached, ordinary: Up) -> None:
    processes = [ProcessIdentity.of(name, pid) for name, pid in detached.stack.pids.model_dump().items()]
    for _ in range(2):  # the second time there is nothing to do
        stopped = run_command("down", "--data-dir", str(detached.data_dir))
        assert stopped.returncode == 0, stopped.stderr
    assert not any(process.is_alive() for process in processes if process)
    left = {path.name for path in detached.data_dir.iterdir()}
    assert not left & {"stack.json", "up.lock", "processes.json"}
    assert is_well(ordinary.stack())


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["in the foreground", "detached"])
def test_a_port_that_was_asked_for_and_is_taken_ends_the_start_with_nothing_left(
    tmp_path: Path, detach: tuple[str, ...]
) -> None:
    with taken_port() as port:
        arguments = ("--no-demo", "--api-port", str(port), "--ui-port", "0", "--temporal-port", "0", *detach)
        failed = run_command("up", "--data-dir", str(tmp_path / "stack"), *arguments)
    assert failed.returncode == 1
    assert f"Port {port} for the API (--api-port) is in use" in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
    assert {path.name for path in (tmp_path / "stack").iterdir()} == {"logs", "secrets.json"}


def test_damaged_secrets_end_the_start_and_are_kept(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    failed = run_command("up", "--data-dir", str(tmp_path), *ARGUMENTS)
    assert failed.returncode == 1
    assert "secrets.json is damaged" in failed.stderr
    assert (tmp_path / "secrets.json").read_text() == "{"
    assert not (tmp_path / "up.lock").exists()
