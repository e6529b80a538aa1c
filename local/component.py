"""A process of the stack: command line, readiness check, stop signal."""

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.account import Account
from local.log_files import open_log
from local.processes import POLL_SECONDS

LAUNCHER = Path(__file__).with_name("launch.py")


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
    log = open_log(component.log)
    try:
        return launch(
            component.command,
            component.environment,
            directory=component.directory,
            output=log,
            account=component.account,
            death_signal=component.death_signal,
        )
    finally:
        os.close(log)


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
    descriptor = open_log(log)
    try:
        process = launch(command, environment, directory=directory, output=descriptor, account=account, stdin=stdin)
    finally:
        os.close(descriptor)
    try:
        await ended(process)
        return process.returncode
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def ended(process: "subprocess.Popen[bytes]", by: float = math.inf) -> bool:
    """Wait for the process to end, until `by` (monotonic seconds). Return True if it ended."""
    while process.poll() is None:
        if time.monotonic() > by:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


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
