"""PostgreSQL from the wheel: creates the database once and runs the server as a component.

The server runs in its data directory and gets it as `/proc/self/cwd`, so that its user needs no access to any parent
directory.
"""

import asyncio
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from local.account import Account, postgres_account
from local.component import Component, ending, run_to_end
from local.errors import StackError
from local.log_files import tail
from local.ports import HOST
from local.postgres_programs import own_programs, shared_programs
from local.processes import POLL_SECONDS, send, start_ticks, titled

USER = "loyalty"
DATABASE = "loyalty_webhooks"
ITSELF = "/proc/self/cwd"
CONNECT_SECONDS = 1.0
STOP_SECONDS = 6.0
"""Time to stop. Allows for a final checkpoint of 256 MB; the stack's own deadline may be earlier."""

ORPHANS_GONE_SECONDS = 5.0
INITDB_OPTIONS = (
    *("-D", ITSELF, "-U", USER, "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--encoding=UTF8"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),  # the same on every machine
)

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # not used, and the path of a socket may exceed its limit
    "max_connections": "200",  # for the API, workers, a benchmark and psql
    "shared_buffers": "256MB",  # holds the recent part of the log and its indexes
    "max_wal_size": "2GB",  # checkpoints by time, not by volume, in a burst
    "checkpoint_timeout": "10min",
    "wal_compression": "on",  # compresses the full-page images after a checkpoint to a third
    "fsync": "on",  # an accepted event survives a power cut
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",  # compiling a small query costs more than running it
    "random_page_cost": "1.1",  # solid state disks
    "autovacuum_naptime": "10s",  # the outbox's rows change often and would bloat
    "autovacuum_vacuum_cost_delay": "10ms",  # outside the outbox, vacuum must not take CPU from deliveries
    "max_parallel_workers_per_gather": "0",  # all components share two cores
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}


@dataclass(frozen=True)
class PostgresServer:
    """A server on a data directory. `directory` is absolute; `port` is on the loopback address."""

    directory: Path
    port: int
    password: str
    log: Path
    cluster: str
    """Name in the titles of its processes. Identifies the remaining processes of a killed server."""

    def address(self, database: str = DATABASE) -> str:
        """Return the postgresql:// address with the password."""
        return f"postgresql://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    def component(self) -> Component:
        """Return the server as a component. The database cluster must exist."""
        account = postgres_account(self.directory)
        settings = {**SERVER_SETTINGS, "port": str(self.port), "cluster_name": self.cluster}
        options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return Component(
            name="postgres",
            title="PostgreSQL",
            command=(str(_programs(account) / "postgres"), "-D", ITSELF, *options),
            environment=_environment(),
            directory=self.directory,
            log=self.log,
            ready=self.ready,
            clear_up=self.clear_up,
            account=account,
            stop_signal=signal.SIGINT,  # fast shutdown: do not wait for clients
            stop_seconds=STOP_SECONDS,
            death_signal=signal.SIGINT,
        )

    async def ready(self) -> bool:
        """Return True if the server accepts connections."""
        try:
            connection = await asyncpg.connect(self.address("postgres"), timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close(timeout=CONNECT_SECONDS)
        return True

    async def ensure_database(self) -> None:
        """Create the database if it is missing."""
        connection = await asyncpg.connect(self.address("postgres"), timeout=CONNECT_SECONDS)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close()

    async def clear_up(self) -> None:
        """Remove the remains of a killed server: its lock file and its processes, which end only with a delay.

        Raises StackError if a foreign server runs on the directory.
        """
        await self._end_orphans()
        lock = self.directory / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if start_ticks(pid) is not None and _is_server(pid):
            raise StackError(f"Another PostgreSQL server (pid {pid}) runs on {self.directory}. Stop it.")
        lock.unlink()  # the next server would take an unrelated process with this pid for the lock's holder

    async def _end_orphans(self) -> None:
        prefix = f"postgres: {self.cluster}: "
        for _ in range(int(ORPHANS_GONE_SECONDS / POLL_SECONDS)):
            orphans = titled(prefix)
            if not orphans:
                return
            for pid in orphans:
                send(pid, signal.SIGKILL)  # safe: the next start replays committed data from the WAL
            await asyncio.sleep(POLL_SECONDS)


async def make_database(directory: Path, password: str, log: Path) -> None:
    """Create a database cluster in the directory, if there is none, completely or not at all.

    Raises StackError with the output of `initdb` on failure.
    """
    account = postgres_account(directory)
    incoming = _incoming(directory, account)
    if incoming is None:
        return
    stdin = _password_file(password, account)
    try:
        status = await run_to_end(
            (str(_programs(account) / "initdb"), *INITDB_OPTIONS),
            _environment(),
            directory=incoming,
            log=log,
            account=account,
            stdin=stdin,
        )
    finally:
        os.close(stdin)
    if status != 0:
        raise StackError(f"Creating the database in {directory} failed: initdb {ending(status)}. {log}:\n{tail(log)}")
    incoming.rename(directory)


def _incoming(directory: Path, account: Account | None) -> Path | None:
    """Create an empty directory for the new database, owned by the server's user. Return None if a database exists."""
    if directory.exists():
        return None
    incoming = directory.with_name(f"{directory.name}.new")
    if incoming.exists():  # left by a killed start
        shutil.rmtree(incoming)
    incoming.mkdir(mode=0o700)
    if account:
        os.chown(incoming, account.uid, account.gid)
    return incoming


def _password_file(password: str, account: Account | None) -> int:
    """Return the descriptor of an in-memory file that only the server's user may open."""
    descriptor = os.memfd_create("password")
    os.write(descriptor, f"{password}\n".encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.fchmod(descriptor, 0o600)
    if account:
        os.fchown(descriptor, account.uid, account.gid)
    return descriptor


def _programs(account: Account | None) -> Path:
    return shared_programs() if account else own_programs()


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}  # Python may need it
    return {**inherited, "PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}


def _is_server(pid: int) -> bool:
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]
    except OSError:
        return False
    return program.rpartition(b"/")[2] == b"postgres"
