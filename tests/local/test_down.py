"""`down` stops what runs, cleans up after what was killed, and is content with nothing."""

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from local.data_directory import DataDirectory
from local.processes import ProcessIdentity, record
from local.screen import Screen
from local.stack_file import write_stack
from local.up import stop_stack
from tests.local.test_stack_file import STACK

HOLD = """
import signal, sys
from pathlib import Path
from local.data_directory import DataDirectory
signal.signal(signal.SIGTERM, {action})
with DataDirectory.at(Path(sys.argv[1])).locked():
    print("held", flush=True)
    while True:
        signal.pause()
"""
OBEDIENT = "lambda *_: sys.exit(0)"
DEAF = "signal.SIG_IGN"


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return DataDirectory.at(tmp_path)


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(said: io.StringIO) -> Screen:
    return Screen(Console(file=said))


@contextmanager
def holding(data: DataDirectory, action: str) -> Iterator["subprocess.Popen[str]"]:
    """A stand-in for `up` that holds the directory."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD.format(action=action), str(data.root)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@contextmanager
def sleeping() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


async def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path, screen: Screen, said: io.StringIO) -> None:
    await stop_stack(DataDirectory.at(tmp_path / "none"), screen)
    assert "Nothing runs" in said.getvalue()
    assert not (tmp_path / "none").exists()


async def test_a_running_up_is_asked_to_stop_and_waited_for(
    data: DataDirectory, screen: Screen, said: io.StringIO
) -> None:
    with holding(data, OBEDIENT) as up:
        await stop_stack(data, screen)
        assert up.wait(60) == 0
    assert "Stopped the stack" in said.getvalue()
    assert not data.lock.exists()


async def test_an_up_that_does_not_stop_is_killed_with_what_it_started(
    data: DataDirectory, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.up.STOP_WITHIN_SECONDS", 0.3)
    monkeypatch.setattr("local.stack.LEFTOVER_PATIENCE_SECONDS", 0.3)
    with holding(data, DEAF) as up, sleeping() as child:
        identity = ProcessIdentity.of("api", child.pid)
        assert identity
        record(data.processes, [identity])
        await stop_stack(data, screen)
        assert up.wait(60) == -signal.SIGKILL
        assert child.wait(60) == -signal.SIGKILL
    assert list(data.root.iterdir()) == []


async def test_what_a_killed_up_left_is_ended_and_removed(
    data: DataDirectory, screen: Screen, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.stack.LEFTOVER_PATIENCE_SECONDS", 0.3)
    data.lock.write_text("1\n")
    write_stack(data.stack, STACK)
    with sleeping() as left, sleeping() as stranger:
        identity = ProcessIdentity.of("api", left.pid)
        assert identity
        reused = ProcessIdentity("worker", stranger.pid, 1, identity.boot)
        record(data.processes, [identity, reused])
        await stop_stack(data, screen)
        assert left.wait(5) == -signal.SIGKILL
        assert stranger.poll() is None
    assert "cleaned up" in said.getvalue()
    assert list(data.root.iterdir()) == []
