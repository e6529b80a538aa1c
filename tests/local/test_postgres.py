"""PostgreSQL as an ordinary user, out of every existing directory's way, with nothing committed lost by kill -9."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from local.data_directory import StackError
from local.ports import HOST, hold_free
from local.postgres import DATABASE, PostgresServer, make_database, own_programs, package_directory, shared_programs
from local.processes import Supervisor, titled
from tests.deadlines import eventually


def modes(path: Path) -> dict[Path, int]:
    """The modes of the directory and all above it."""
    return {directory: stat.S_IMODE(directory.stat().st_mode) for directory in (path, *path.parents)}


@pytest.fixture(scope="module")
def root_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory nobody else may enter, with a path that needs quoting."""
    path = tmp_path_factory.mktemp("private") / "it's 100% #1?"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(scope="module")
async def server(programs: None, root_only: Path) -> AsyncIterator[PostgresServer]:
    """A server on a database made below such a directory; nothing above has changed."""
    before = modes(root_only)
    held = hold_free()
    server = PostgresServer(
        directory=root_only / "postgres",
        port=held.getsockname()[1],
        password="pass-word_1",
        log=root_only / "postgres.log",
        cluster=f"loyalty-webhooks-test-{os.getpid()}",
    )
    await make_database(server.directory, server.password, server.log)
    supervisor = Supervisor(print, lambda: None)
    await supervisor.start(server.component())
    await server.ensure_database()
    assert modes(root_only) == before
    yield server
    assert await supervisor.stop(time.monotonic() + 10) == []
    assert titled(f"postgres: {server.cluster}") == []
    held.close()


def postmaster(server: PostgresServer) -> int:
    return int((server.directory / "postmaster.pid").read_text().split("\n")[0])


async def test_it_runs_as_an_ordinary_user_in_a_private_directory_of_its_own(server: PostgresServer) -> None:
    owner = server.directory.stat()
    assert owner.st_uid != 0
    assert stat.S_IMODE(owner.st_mode) == 0o700
    assert Path(f"/proc/{postmaster(server)}").stat().st_uid == owner.st_uid


async def test_the_database_is_there_once(server: PostgresServer) -> None:
    await server.ensure_database()
    connection = await asyncpg.connect(server.address())
    assert await connection.fetchval("SELECT current_database()") == DATABASE
    await connection.close()


async def test_what_is_committed_is_on_the_disk(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.address())
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await connection.fetchval("SELECT current_setting($1)", setting) == "on"
    await connection.close()


async def test_text_is_utf8_and_sorted_the_same_on_every_machine(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.address())
    row = await connection.fetchrow(
        "SELECT pg_encoding_to_char(encoding), datlocprovider, datlocale FROM pg_database WHERE datname = $1", DATABASE
    )
    assert row is not None
    assert (row[0], row[1], row[2]) == ("UTF8", b"b", "C.UTF-8")
    await connection.close()


async def test_nobody_gets_in_without_the_password(server: PostgresServer) -> None:
    for password in ("", "wrong", "postgres"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.address().replace(server.password, password))


async def test_it_is_reached_over_the_loopback_address_alone(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.address())
    assert await connection.fetchval("SHOW unix_socket_directories") == ""
    assert await connection.fetchval("SHOW listen_addresses") == HOST
    await connection.close()
    with pytest.raises(OSError, match="refused"), socket.create_connection(("::1", server.port), timeout=2):
        pass


async def test_after_kill_9_it_is_back_on_its_port_with_every_committed_row(server: PostgresServer) -> None:
    table = f"kept_{os.getpid()}"
    writer = await asyncpg.connect(server.address())
    await writer.execute(f"CREATE TABLE {table} (n int)")
    for kill in range(3):
        await writer.execute(f"INSERT INTO {table} VALUES ($1)", kill)
        old = postmaster(server)
        os.kill(old, signal.SIGKILL)

        async def back(killed: int = old) -> bool:
            return await server.ready() and postmaster(server) != killed

        await eventually(back, 20, "PostgreSQL is back")
        writer = await asyncpg.connect(server.address())
        assert await writer.fetchval(f"SELECT count(*) FROM {table}") == kill + 1
    await writer.close()


async def test_a_lock_of_a_killed_server_whose_pid_is_another_process_by_now_is_no_obstacle(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path, 1, "x", tmp_path / "log", "no-such-cluster")
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n/proc/self/cwd\n")
    await server.clear_up()
    assert not (tmp_path / "postmaster.pid").exists()
    await server.clear_up()


async def test_a_server_somebody_else_started_on_the_data_is_not_disturbed(
    server: PostgresServer, tmp_path: Path
) -> None:
    other = PostgresServer(tmp_path, 1, "x", tmp_path / "log", "no-such-cluster")
    (tmp_path / "postmaster.pid").write_text(f"{postmaster(server)}\n")
    with pytest.raises(StackError, match=f"Another PostgreSQL server .pid {postmaster(server)}"):
        await other.clear_up()
    assert (tmp_path / "postmaster.pid").exists()


@pytest.mark.usefixtures("programs")
async def test_a_database_half_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18")
    await make_database(tmp_path / "postgres", "x", tmp_path / "log")
    assert (tmp_path / "postgres" / "global").is_dir()
    assert not (tmp_path / "postgres.new").exists()


@pytest.mark.usefixtures("programs")
async def test_a_database_that_cannot_be_made_leaves_none_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.postgres.INITDB_OPTIONS", ("-D", "/proc/self/cwd", "--encoding=no-such-encoding"))
    with pytest.raises(StackError, match="no-such-encoding"):
        await make_database(tmp_path / "postgres", "x", tmp_path / "log")
    assert not (tmp_path / "postgres").exists()


async def test_an_existing_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    await make_database(tmp_path / "postgres", "x", tmp_path / "log")
    assert list((tmp_path / "postgres").iterdir()) == []


def test_the_wheels_own_code_is_not_run_to_find_its_programs() -> None:
    """It changes the modes of directories."""
    assert (own_programs() / "postgres").is_file()
    loaded = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from local.postgres import own_programs; own_programs(); "
            f"print({package_directory().name!r} in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "False\n"


@pytest.mark.usefixtures("programs")
@pytest.mark.root
def test_the_copy_of_the_programs_runs_for_everybody_and_changes_no_existing_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = modes(tmp_path)
    umask = os.umask(0o077)
    try:
        (tmp_path / "copies" / ".incoming" / "half").mkdir(parents=True)  # left by a copy that was killed
        (tmp_path / "copies").chmod(0o755)
        programs = shared_programs(tmp_path / "copies")
    finally:
        os.umask(umask)
    assert modes(tmp_path) == before
    assert not (tmp_path / "copies" / ".incoming").exists()
    for program in ("initdb", "postgres"):
        answer = subprocess.run([programs / program, "--version"], cwd="/", capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
    for path in (tmp_path / "copies").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert path.stat().st_uid == 0
        assert mode == (0o755 if path.is_dir() or mode & 0o111 else 0o644)
    assert shared_programs(tmp_path / "copies") == programs
    assert [path.name for path in (tmp_path / "copies").iterdir()] == [programs.parents[2].name]
