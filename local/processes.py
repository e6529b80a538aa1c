"""Processes of the stack, which may outlive their parent: identity across reuse of pids, launch, wait, kill."""

import asyncio
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local.data_directory import open_log, write_private

LAUNCHER = Path(__file__).with_name("launch.py")
PROC = Path("/proc")
POLL_SECONDS = 0.05


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds. Return False if it does not within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


@dataclass(frozen=True)
class ProcessIdentity:
    """Unique identity of a process. The kernel reuses pids, but not the same pid, start time (clock ticks) and boot."""

    name: str
    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, name: str, pid: int) -> "ProcessIdentity | None":
        """Return the process that has this pid now, or None."""
        started = start_ticks(pid)
        return None if started is None else cls(name, pid, started, _boot_id())

    def is_alive(self) -> bool:
        """Return True if this very process still runs. A zombie does not."""
        return self.boot == _boot_id() and start_ticks(self.pid) == self.started


def _boot_id() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """Return the start time of the process in clock ticks since boot, or None if it does not run."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = text.rpartition(")")[2].split()  # the process name in parentheses may hold any character
    return None if state in ("Z", "X") else int(fields[18])


def uptime_seconds(pid: int) -> float | None:
    """Return the uptime of the process, or None if it does not run."""
    started = start_ticks(pid)
    if started is None:
        return None
    now = float((PROC / "uptime").read_text().split()[0])
    return max(0.0, now - started / os.sysconf("SC_CLK_TCK"))


def command_line(pid: int) -> bytes:
    """Return the arguments of the process, each ended by NUL. Empty if it does not run."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def titled(prefix: str) -> list[int]:
    """Return the pids of processes whose command line begins with `prefix`."""
    pids = [int(entry.name) for entry in PROC.glob("[0-9]*")]
    return [pid for pid in pids if command_line(pid).startswith(prefix.encode())]


def record(path: Path, identities: Iterable[ProcessIdentity]) -> None:
    """Save the running processes, so that the next start can clean up after a kill -9."""
    write_private(path, json.dumps([asdict(identity) for identity in identities]) + "\n")


def recorded(path: Path) -> list[ProcessIdentity]:
    """Return the processes saved by `record`. Empty if the file is missing or damaged."""
    try:
        return [ProcessIdentity(**item) for item in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def send(pid: int, signal_number: signal.Signals) -> None:
    """Send a signal to a process that may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


async def end(identities: Sequence[ProcessIdentity], patience_seconds: float) -> list[ProcessIdentity]:
    """Wait for the processes to end, then kill the remaining ones. Return the killed processes."""

    def alive() -> list[ProcessIdentity]:
        return [identity for identity in identities if identity.is_alive()]

    await until(lambda: not alive(), patience_seconds)
    killed = alive()
    for identity in killed:
        send(identity.pid, signal.SIGKILL)
    await until(lambda: not alive(), patience_seconds)
    return killed


def bare_environment(*names: str) -> dict[str, str]:
    """Return an environment for a program that is not ours: these variables, if set, and the same on every machine."""
    kept = (*names, "LD_LIBRARY_PATH")  # Python may need it
    return {**{name: os.environ[name] for name in kept if name in os.environ}, "LANG": "C.UTF-8", "TZ": "UTC"}


@dataclass(frozen=True)
class Account:
    """A user and its primary group, by number."""

    uid: int
    gid: int


async def _nothing() -> None:
    """Default clean-up: the component leaves nothing behind."""


@dataclass(frozen=True)
class Component:
    """A supervised process.

    `name` is its key in stack.json, `title` its display name. `ready` returns quickly and never raises. `clear_up`
    removes the remains of a killed process before the next start. The kernel sends `death_signal` when `up` dies.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)  # holds secrets
    directory: Path
    log: Path
    ready: Callable[[], Awaitable[bool]]
    clear_up: Callable[[], Awaitable[None]] = _nothing
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 2.5
    death_signal: signal.Signals = signal.SIGKILL


def spawn(component: Component) -> "subprocess.Popen[bytes]":
    """Start the component's process, with its output in its log. Main thread only, like every function below."""
    with os.fdopen(open_log(component.log), "ab") as log:
        return launch(
            component.command,
            component.environment,
            directory=component.directory,
            output=log.fileno(),
            account=component.account,
            death_signal=component.death_signal,
        )


async def run_to_end(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    directory: Path,
    log: Path,
    account: Account | None = None,
    stdin: int = subprocess.DEVNULL,
) -> int:
    """Run a program to its end and return its exit status. Kills it on cancellation."""
    with os.fdopen(open_log(log), "ab") as file:
        process = launch(command, environment, directory=directory, output=file.fileno(), account=account, stdin=stdin)
    try:
        await ended(process)
        return process.returncode
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def ended(process: "subprocess.Popen[bytes]", by: float = math.inf) -> bool:
    """Wait for the process to end, until `by` (monotonic seconds). Return True if it ended."""
    return await until(lambda: process.poll() is not None, by - time.monotonic())


def launch(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    directory: Path,
    output: int,
    account: Account | None = None,
    stdin: int = subprocess.DEVNULL,
    death_signal: signal.Signals = signal.SIGKILL,
) -> "subprocess.Popen[bytes]":
    """Start a program in its own session, as the given user. It dies with this process.

    Main thread only: the kernel sends the death signal when the *thread* that started the process ends.
    """
    uid, gid = (str(account.uid), str(account.gid)) if account else ("-", "-")
    launcher = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), uid, gid)
    return subprocess.Popen(  # noqa: S603 - our own command lines
        [*launcher, *command],
        cwd=directory,
        env=dict(environment),
        stdin=stdin,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def ending(returncode: int) -> str:
    """Describe the end of a process in words."""
    if returncode < 0:
        try:
            return f"was killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"was killed by signal {-returncode}"
    return f"ended with status {returncode}"
