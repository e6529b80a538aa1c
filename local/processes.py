"""Processes that outlive the one that started them: told apart for certain, waited for, ended."""

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
    """A process for certain: a pid is given away again, together with start time (clock ticks) and boot it is not."""

    name: str
    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, name: str, pid: int) -> "ProcessIdentity | None":
        """The process that has this pid now; none when there is none."""
        started = start_ticks(pid)
        return None if started is None else cls(name, pid, started, _boot_id())

    def is_alive(self) -> bool:
        """Whether this very process still runs; a dead one nobody has waited for does not."""
        return self.boot == _boot_id() and start_ticks(self.pid) == self.started


def _boot_id() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; none when it does not run."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in ("Z", "X") else int(fields[18])


def uptime_seconds(pid: int) -> float | None:
    """How long the process has been running; none when it does not."""
    started = start_ticks(pid)
    if started is None:
        return None
    now = float((PROC / "uptime").read_text().split()[0])
    return max(0.0, now - started / os.sysconf("SC_CLK_TCK"))


def titled(prefix: str) -> list[int]:
    """Pids of the processes whose command line begins with this text."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes().startswith(prefix.encode()):
                    found.append(int(entry.name))
    return found


def record(path: Path, identities: Iterable[ProcessIdentity]) -> None:
    """Keep what runs, for a start after a kill -9 to clean up."""
    write_private(path, json.dumps([asdict(identity) for identity in identities]) + "\n")


def recorded(path: Path) -> list[ProcessIdentity]:
    """What `record` kept; empty when there is nothing, or the file is damaged."""
    try:
        return [ProcessIdentity(**item) for item in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def forget(path: Path) -> None:
    """Nothing runs any more."""
    remove(path)


def send(pid: int, signal_number: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


async def end(identities: Sequence[ProcessIdentity], patience_seconds: float) -> list[ProcessIdentity]:
    """Wait for the processes to end by themselves, then kill those that do not. Returns the ones killed."""
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
