"""PostgreSQL and a receiver for a measurement, each on a free port of the loopback address and with data of its own."""

import asyncio
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from local.data_directory import tail
from local.ports import hold_free
from local.postgres import PostgresServer, make_database
from local.processes import Component, ended, spawn

START_SECONDS = 60.0
PASSWORD = "bench"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: the environment variables that name its address, and its process."""

    environment: dict[str, str]
    pid: int


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that nobody is given who asks for any."""
    with hold_free() as held:
        port: int = held.getsockname()[1]
        return port


async def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Return True if a connection to this port is accepted."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def running(component: Component) -> AsyncIterator[int]:
    """Start a component, yield its process id once it is ready, and stop it at the end."""
    process = spawn(component)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not await component.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{component.title} did not start:\n{tail(component.log)}")
            await asyncio.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(component.stop_signal)
        if not await ended(process, time.monotonic() + component.stop_seconds + 5):
            process.kill()


@contextmanager
def data_directory(purpose: str) -> Iterator[Path]:
    """A temporary directory that PostgreSQL's user may enter, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix=f"loyalty-webhooks-{purpose}-"))
    directory.chmod(0o711)  # PostgreSQL refuses to run as root and runs as another user
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def postgres_server(directory: Path) -> AsyncIterator[tuple[PostgresServer, int]]:
    """PostgreSQL with the settings of `loyalty-webhooks up` and an empty database, and its process."""
    server = PostgresServer(directory / "postgres", free_port(), PASSWORD, directory / "postgres.log", directory.name)
    await make_database(server.directory, server.password, server.log)
    async with running(server.component()) as pid:
        await server.ensure_database()
        yield server, pid


@asynccontextmanager
async def postgres(directory: Path) -> AsyncIterator[Server]:
    """The same, its address in BENCH_POSTGRES."""
    async with postgres_server(directory) as (server, pid):
        yield Server({"BENCH_POSTGRES": server.address()}, pid)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: a certificate for 127.0.0.1 with its key, and the authority that signed it."""

    with_key: Path
    authority: Path

    @classmethod
    def make(cls, directory: Path) -> "Certificate":
        """Make both files in this directory."""
        made = cls(directory / "receiver.pem", directory / "authority.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(made.authority))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(made.with_key))
        return made


def trusting(certificate: Certificate | None) -> ssl.SSLContext | bool:
    """What a client of the receiver verifies."""
    return True if certificate is None else ssl.create_default_context(cafile=certificate.authority)


@contextmanager
def certificate_for(tls: bool) -> Iterator[Certificate | None]:
    """A certificate if HTTPS is wanted, removed at the end."""
    with data_directory("certificate") as directory:
        yield Certificate.make(directory) if tls else None


@asynccontextmanager
async def receiver(certificate: Path | None = None, *, tickets: bool = True) -> AsyncIterator[tuple[str, int]]:
    """Root address and process of a receiver. `certificate`: a PEM file with its key, for HTTPS; without `tickets` no
    session can be resumed."""
    port, tls = free_port(), [] if certificate is None else [str(certificate), *(["0"] if not tickets else [])]
    process = subprocess.Popen([sys.executable, "-m", "bench.receiver", str(port), *tls])
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await listens(port):
                await asyncio.sleep(0.02)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(10)
