"""PostgreSQL from the wheel: a database made once, a server started as a component of the stack.

The server's working directory is its data directory, and it is told the data directory is its working directory: so
its user need not be able to reach it by path, and may be kept out of every directory above.
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
STOP_SECONDS = 6.0  # a last checkpoint of 256 MB; the stack's own deadline may be nearer
ORPHANS_GONE_SECONDS = 5.0
INITDB_OPTIONS = (
    *("-D", ITSELF, "-U", USER, "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--encoding=UTF8"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),  # the same on every machine
)

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a path of a socket may be too long, and nobody needs one
    "max_connections": "200",  # API, workers, a bench and a person beside them
    "shared_buffers": "256MB",  # the log's hot end and its indexes
    "max_wal_size": "2GB",  # checkpoints by time, not by volume, in a burst
    "checkpoint_timeout": "10min",
    "wal_compression": "on",  # after a checkpoint whole pages are logged; they shrink to a third
    "fsync": "on",  # accepted means committed, also after a power cut
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",  # planning a small query would cost more than running it
    "random_page_cost": "1.1",  # solid state disks
    "autovacuum_naptime": "10s",  # the outbox's rows change often and must not bloat
    "autovacuum_vacuum_cost_delay": "10ms",  # but (the outbox aside) not take the processor from what is delivered
    "max_parallel_workers_per_gather": "0",  # two cores, shared with everything else
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
    """Stands in the titles of its processes, by which those of a killed server are found."""

    def address(self, database: str = DATABASE) -> str:
        """postgresql:// address with the password."""
        return f"postgresql://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    def component(self) -> Component:
        """The server as a component; its database must have been made."""
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
        """Whether it takes connections."""
        try:
            connection = await asyncpg.connect(self.address("postgres"), timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close(timeout=CONNECT_SECONDS)
        return True

    async def ensure_database(self) -> None:
        """Make the database, unless it is there."""
        connection = await asyncpg.connect(self.address("postgres"), timeout=CONNECT_SECONDS)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close()

    async def clear_up(self) -> None:
        """Remove what a killed server left: its other processes, which end by themselves but not at once, and its lock.

        Raises StackError when a server that is not ours runs on the directory.
        """
        await self._end_orphans()
        lock = self.directory / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if start_ticks(pid) is not None and _is_server(pid):
            raise StackError(f"A PostgreSQL server (pid {pid}) that is not ours runs on {self.directory}. Stop it.")
        lock.unlink()  # the pid may belong to another process by now, which the next server would take for its lock's

    async def _end_orphans(self) -> None:
        prefix = f"postgres: {self.cluster}: "
        for _ in range(int(ORPHANS_GONE_SECONDS / POLL_SECONDS)):
            orphans = titled(prefix)
            if not orphans:
                return
            for pid in orphans:
                send(pid, signal.SIGKILL)  # nothing is lost: what is committed is in the log, replayed at the start
            await asyncio.sleep(POLL_SECONDS)


async def make_database(directory: Path, password: str, log: Path) -> None:
    """Make a database cluster in the directory, unless there is one: whole or not at all.

    Raises StackError with what `initdb` said when it fails.
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
        raise StackError(f"The database in {directory} could not be made: initdb {ending(status)}. {log}:\n{tail(log)}")
    incoming.rename(directory)


def _incoming(directory: Path, account: Account | None) -> Path | None:
    """An empty directory of the server's user to make the database in; none when there is a database."""
    if directory.exists():
        return None
    incoming = directory.with_name(f"{directory.name}.new")
    if incoming.exists():  # left by a start that was killed
        shutil.rmtree(incoming)
    incoming.mkdir(mode=0o700)
    if account:
        os.chown(incoming, account.uid, account.gid)
    return incoming


def _password_file(password: str, account: Account | None) -> int:
    """A file in memory that only the server's user may open."""
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
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}  # our Python may need it
    return {**kept, "PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}


def _is_server(pid: int) -> bool:
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]
    except OSError:
        return False
    return program.rpartition(b"/")[2] == b"postgres"
