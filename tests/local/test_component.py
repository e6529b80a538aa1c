"""A component is a process in a session of its own, as the user asked for, that does not outlive `up`."""

import asyncio
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.data_directory import StackError
from local.launch import CANNOT_START, PARENT_IS_GONE
from local.postgres import postgres_account
from local.processes import LAUNCHER, Account, ProcessIdentity, ending, launch, run_to_end
from tests.deadlines import eventually

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
PARENT = """
import signal, subprocess, sys, time
from pathlib import Path
from local.processes import launch
child = launch(sys.argv[2:], {}, directory=Path.cwd(), output=2, death_signal=signal.Signals(int(sys.argv[1])))
print(child.pid, flush=True)
time.sleep(600)
"""


async def output_of(tmp_path: Path, script: str, account: Account | None = None) -> tuple[int, str]:
    log = tmp_path / "log"
    command = (sys.executable, "-c", script) if account is None else ("/bin/sh", "-c", script)
    status = await run_to_end(command, {"PATH": os.defpath}, directory=tmp_path, log=log, account=account)
    return status, log.read_text()


@pytest.mark.parametrize("death_signal", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda value: value.name)
async def test_a_component_ends_when_up_is_killed(death_signal: signal.Signals) -> None:
    arguments = [sys.executable, "-c", PARENT, str(int(death_signal)), *SLEEP]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = ProcessIdentity.of("child", int(parent.stdout.readline()))
        assert child is not None
        parent.kill()

    async def gone() -> bool:
        return not child.is_alive()

    await eventually(gone, 60, "the component ended with its parent")


@pytest.mark.root
async def test_a_component_of_another_user_ends_too(tmp_path: Path) -> None:
    """A change of user clears the death signal, so it has to be set after it."""
    nobody = pwd.getpwnam("nobody")
    parent_script = PARENT.replace(
        "output=2,", f"output=2, account=Account({nobody.pw_uid}, {nobody.pw_gid}),"
    ).replace("import launch", "import launch\nfrom local.processes import Account")
    arguments = [sys.executable, "-c", parent_script, "9", "/bin/sleep", "600"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = ProcessIdentity.of("child", int(parent.stdout.readline()))
        assert child is not None

        async def is_nobodys() -> bool:
            return Path(f"/proc/{child.pid}").stat().st_uid == nobody.pw_uid

        await eventually(is_nobodys, 60, "the component became another user")
        parent.kill()

    async def gone() -> bool:
        return not child.is_alive()

    await eventually(gone, 60, "the component ended with its parent")


def test_a_component_whose_parent_is_gone_already_does_not_start() -> None:
    not_the_parent = str(os.getppid())
    command = [sys.executable, "-I", "-S", str(LAUNCHER), not_the_parent, "9", "-", "-", "/bin/echo", "started"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (PARENT_IS_GONE, "")


async def test_a_component_leads_a_session_and_its_files_are_private(tmp_path: Path) -> None:
    script = "import os; print(os.getsid(0) == os.getpid()); open('made', 'w')"
    assert await output_of(tmp_path, script) == (0, "True\n")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


@pytest.mark.root
async def test_a_component_of_another_user_has_none_of_our_groups(tmp_path: Path) -> None:
    account = Account(65534, 65534)
    assert await output_of(tmp_path, "id -u; id -G", account) == (0, "65534\n65534\n")


async def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    status = await run_to_end(("/does/not/exist",), {}, directory=tmp_path, log=log)
    assert (status, log.read_text()) == (CANNOT_START, "cannot start /does/not/exist: No such file or directory\n")


async def test_a_program_is_killed_when_waiting_for_it_is_given_up(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    waiting = asyncio.create_task(output_of(tmp_path, script))

    async def started() -> bool:
        return pid_file.exists() and bool(pid_file.read_text())

    await eventually(started, 60, "the program runs")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ProcessIdentity.of("program", int(pid_file.read_text())) is None


def test_launching_does_not_wait_for_the_program() -> None:
    began = time.monotonic()
    process = launch(SLEEP, {}, directory=Path.cwd(), output=2)
    assert time.monotonic() - began < 60
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("returncode", "said"),
    [(0, "ended with status 0"), (3, "ended with status 3"), (-9, "was killed by SIGKILL"), (-77, "by signal 77")],
)
def test_how_a_process_ended_is_said_in_words(returncode: int, said: str) -> None:
    assert said in ending(returncode)


@pytest.mark.root
def test_root_runs_postgresql_as_the_owner_of_its_data(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    chosen = postgres_account(data)
    assert chosen is not None
    assert chosen.uid != 0
    data.mkdir()
    os.chown(data, 12345, 12345)
    assert postgres_account(data) == Account(12345, 12345)


@pytest.mark.root
def test_root_without_an_ordinary_user_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.postgres.CANDIDATES", ("no-such-user", "root"))
    with pytest.raises(StackError, match="refuses to run as root"):
        postgres_account(tmp_path / "postgres")
