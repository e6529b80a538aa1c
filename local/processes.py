"""Processes that may outlive their parent: identification across reuse of pids, waiting, killing."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from local.private_file import remove, write_private

PROC = Path("/proc")
POLL_SECONDS = 0.05


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


def titled(prefix: str) -> list[int]:
    """Return the pids of processes whose command line begins with `prefix`."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes().startswith(prefix.encode()):
                    found.append(int(entry.name))
    return found


def record(path: Path, identities: Iterable[ProcessIdentity]) -> None:
    """Save the running processes, so that the next start can clean up after a kill -9."""
    write_private(path, json.dumps([asdict(identity) for identity in identities]) + "\n")


def recorded(path: Path) -> list[ProcessIdentity]:
    """Return the processes saved by `record`. Empty if the file is missing or damaged."""
    try:
        return [ProcessIdentity(**item) for item in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def forget(path: Path) -> None:
    """Remove the file of `record` after all processes have ended."""
    remove(path)


def send(pid: int, signal_number: signal.Signals) -> None:
    """Send a signal to a process that may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


async def end(identities: Sequence[ProcessIdentity], patience_seconds: float) -> list[ProcessIdentity]:
    """Wait for the processes to end, then kill the remaining ones. Return the killed processes."""
    if await _all_gone(identities, patience_seconds):
        return []
    killed = [identity for identity in identities if identity.is_alive()]
    for identity in killed:
        send(identity.pid, signal.SIGKILL)
    await _all_gone(killed, patience_seconds)
    return killed


async def _all_gone(identities: Sequence[ProcessIdentity], patience_seconds: float) -> bool:
    deadline = time.monotonic() + patience_seconds
    while any(identity.is_alive() for identity in identities):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
