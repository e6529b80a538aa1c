"""One `up` at a time uses a data directory, and a killed one does not keep it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.data_directory import DataDirectory, StackError

HOLD = """
import sys
from pathlib import Path
from local.data_directory import DataDirectory
with DataDirectory.at(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the directory until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return DataDirectory.at(tmp_path)


def test_a_second_up_is_told_who_uses_the_directory_and_how_to_stop_it(data: DataDirectory) -> None:
    with holding(data.root) as holder:
        with pytest.raises(StackError) as refused, data.locked():
            pytest.fail("two held the lock")
        assert f"(pid {holder.pid})" in str(refused.value)
        assert f"loyalty-webhooks down --data-dir {data.root}" in str(refused.value)


def test_the_holder_is_known_while_it_holds(data: DataDirectory) -> None:
    assert data.holder() is None
    with holding(data.root) as holder:
        assert data.holder() == holder.pid
        assert data.is_locked()


def test_the_lock_file_goes_with_an_orderly_end(data: DataDirectory) -> None:
    with holding(data.root) as holder:
        assert data.lock.exists()
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait()
    assert not data.lock.exists()


def test_a_killed_holder_keeps_nobody_out(data: DataDirectory) -> None:
    with holding(data.root) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert data.lock.exists()
    assert not data.is_locked()
    assert data.holder() is None
    with data.locked():
        assert data.lock.read_text() == f"{os.getpid()}\n"
    assert not data.lock.exists()


def test_looking_at_the_lock_does_not_keep_a_starting_up_out(data: DataDirectory) -> None:
    looking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from local.data_directory import DataDirectory\n"
            "data = DataDirectory.at(Path(sys.argv[1])); print('looking', flush=True)\n"
            "while True: data.is_locked()",
            str(data.root),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert looking.stdout is not None
        assert looking.stdout.readline() == "looking\n"
        for _ in range(200):
            with data.locked():
                pass
    finally:
        looking.kill()
        looking.communicate()


def test_a_directory_that_cannot_be_made_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="--data-dir"):
        DataDirectory.at(tmp_path / "file" / "data").create()


def test_the_directory_is_made_private_and_an_existing_one_keeps_its_mode(tmp_path: Path) -> None:
    DataDirectory.at(tmp_path / "new").create()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "old").mkdir()
    (tmp_path / "old").chmod(0o755)
    DataDirectory.at(tmp_path / "old").create()
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o755
