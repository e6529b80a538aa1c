"""A process is told apart for certain, and is gone when it is said to be gone."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from local.data_directory import remove
from local.processes import ProcessIdentity, end, record, recorded, titled, uptime_seconds
from tests.deadlines import eventually

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def identity_of(process: "subprocess.Popen[bytes]") -> ProcessIdentity:
    identity = ProcessIdentity.of("sleeper", process.pid)
    assert identity is not None
    return identity


def test_a_process_is_alive_until_it_ends_and_not_as_a_zombie(sleeper: "subprocess.Popen[bytes]") -> None:
    identity = identity_of(sleeper)
    assert identity.is_alive()
    sleeper.kill()
    sleeper.wait()
    assert not identity.is_alive()
    assert ProcessIdentity.of("sleeper", sleeper.pid) is None
    assert uptime_seconds(sleeper.pid) is None


async def test_a_zombie_has_ended(sleeper: "subprocess.Popen[bytes]") -> None:
    identity = identity_of(sleeper)
    sleeper.kill()

    async def gone() -> bool:
        return not identity.is_alive()  # nobody has waited for it

    await eventually(gone, 60, "the killed process is seen to be dead")


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another boot"}], ids=["pid given away again", "reboot"])
async def test_another_process_with_the_same_pid_is_left_alone(
    sleeper: "subprocess.Popen[bytes]", change: dict[str, object]
) -> None:
    stranger = replace(identity_of(sleeper), **change)  # type: ignore[arg-type]
    assert not stranger.is_alive()
    assert await end([stranger], 0.2) == []
    assert sleeper.poll() is None


async def test_a_process_that_does_not_end_by_itself_is_killed(sleeper: "subprocess.Popen[bytes]") -> None:
    identity = identity_of(sleeper)
    assert await end([identity], 0.2) == [identity]
    assert sleeper.wait() == -signal.SIGKILL


async def test_a_process_that_ends_by_itself_is_not_killed(sleeper: "subprocess.Popen[bytes]") -> None:
    identity = identity_of(sleeper)
    sleeper.kill()
    assert await end([identity], 5) == []


def test_what_is_recorded_is_found_again(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    path = tmp_path / "processes.json"
    assert recorded(path) == []
    record(path, [identity_of(sleeper)])
    assert recorded(path) == [identity_of(sleeper)]
    remove(path)
    assert recorded(path) == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": "x"}]'])
def test_a_damaged_record_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "processes.json").write_text(text)
    assert recorded(tmp_path / "processes.json") == []


async def test_processes_are_found_by_the_beginning_of_their_title() -> None:
    title = f"sleep of {uuid4()}"
    with subprocess.Popen([title, "600"], executable="/bin/sleep") as process:
        try:

            async def found() -> bool:
                return titled(title) == [process.pid]

            await eventually(found, 60, "the process is found by its title")
            assert titled(title[1:]) == []
        finally:
            process.kill()


def test_uptime_counts_from_the_start_of_the_process(sleeper: "subprocess.Popen[bytes]") -> None:
    uptime = uptime_seconds(sleeper.pid)
    assert uptime is not None
    assert 0 <= uptime < 60
