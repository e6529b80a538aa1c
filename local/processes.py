"""Processes of the stack, which may outlive their parent: identity across reuse of pids, launch, supervision."""

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

from local.data_directory import StackError, bound_log, open_log, tail, write_private

LAUNCHER = Path(__file__).with_name("launch.py")
PROC = Path("/proc")
POLL_SECONDS = 0.05
READY_WITHIN_SECONDS = 60.0
"""Time until a component must be ready. Allows for a first start on a slow, busy machine."""

READY_POLL_SECONDS = 0.1

STARTED_AFTER_SECONDS = 10.0
"""Uptime after which the start counts as successful, even if the component waits for a dependency to be ready."""

RESTART_DELAYS_SECONDS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Delay before a restart, by consecutive failures."""

HOUSEKEEPING_SECONDS = 5.0
KILLED_WITHIN_SECONDS = 1.0


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
    """Start a program in its own session, as the given user. It dies with this process. Main thread only: the kernel
    sends the death signal when the *thread* that started the process ends."""
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


@dataclass
class Running:
    """Current process of a component."""

    component: Component
    process: "subprocess.Popen[bytes]"
    started: float = field(default_factory=time.monotonic)
    failures: int = 0


class Supervisor:
    """Starts components, restarts dead ones, stops all in reverse order of start.

    `say` prints one line. Calls `changed` after a pid has changed, with the new process running; it may raise OSError
    (a full disk, for example) and is then called again later.
    """

    def __init__(self, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._say = say
        self._changed = changed
        self._running: dict[str, Running] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._unpublished = False

    def pids(self) -> dict[str, int]:
        """Return the pids by component name, in order of start."""
        return {name: running.process.pid for name, running in self._running.items()}

    async def start(self, *components: Component) -> None:
        """Start the components concurrently, return when all are ready and supervise them from then on. Raises
        StackError if a component ends before it is ready, or is not ready in time."""
        for component in components:
            await component.clear_up()
            self._running[component.name] = Running(component, spawn(component))
        self._changed()
        started = [self._running[component.name] for component in components]
        try:
            async with asyncio.TaskGroup() as group:
                for running in started:
                    group.create_task(_first_ready(running))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        for running in started:
            self._tasks.append(asyncio.create_task(self._supervise(running)))
            self._tasks.append(asyncio.create_task(self._watch_readiness(running)))

    async def _supervise(self, running: Running) -> None:
        housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS
        while True:
            returncode = running.process.poll()
            try:
                if returncode is not None:
                    await self._restart(running, returncode)
                elif time.monotonic() > housekeeping:
                    housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS
                    bound_log(running.component.log)
                    if self._unpublished:
                        self._publish()
            except (OSError, StackError) as error:  # out of memory or disk may be temporary; keep supervising
                self._say(
                    f"{running.component.title}: restart, log rotation or stack.json update failed ({error}), retrying."
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _watch_readiness(self, running: Running) -> None:
        """Reset the failure count of a healthy component. Separate from `_supervise`, because a slow readiness check
        must not delay the detection of a dead process."""
        while True:
            if running.failures:
                process = running.process
                healthy = time.monotonic() - running.started > STARTED_AFTER_SECONDS or await running.component.ready()
                if healthy and process is running.process and process.poll() is None:
                    running.failures = 0
            await asyncio.sleep(READY_POLL_SECONDS)

    async def _restart(self, running: Running, returncode: int) -> None:
        component, old = running.component, running.process.pid
        delay = RESTART_DELAYS_SECONDS[min(running.failures, len(RESTART_DELAYS_SECONDS) - 1)]
        running.failures += 1
        await asyncio.sleep(delay)
        await component.clear_up()
        running.process, running.started = spawn(component), time.monotonic()
        self._publish()
        self._say(
            f"{component.title} (pid {old}) {ending(returncode)}; started again as pid {running.process.pid} "
            f"after {delay:g} s."
        )

    def _publish(self) -> None:
        self._unpublished = True
        self._changed()
        self._unpublished = False

    async def stop(self, deadline: float) -> list[str]:
        """Stop all components in reverse order by `deadline` (monotonic seconds). Return the titles of killed ones."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        killed = []
        for running in reversed(self._running.values()):
            process, component = running.process, running.component
            process.send_signal(component.stop_signal)  # does nothing if it has ended
            if not await ended(process, min(time.monotonic() + component.stop_seconds, deadline)):
                killed.append(component.title)
                process.kill()
                await ended(process, time.monotonic() + KILLED_WITHIN_SECONDS)
                await component.clear_up()
        self._running.clear()
        return killed

    def kill(self) -> None:
        for running in self._running.values():
            running.process.kill()


async def _first_ready(running: Running) -> None:
    component = running.component
    while not await component.ready():
        returncode = running.process.poll()
        if returncode is not None:
            trouble = f"{ending(returncode)} before it was ready"
        elif time.monotonic() - running.started > READY_WITHIN_SECONDS:
            trouble = f"was not ready within {READY_WITHIN_SECONDS:.0f} s"
        else:
            await asyncio.sleep(READY_POLL_SECONDS)
            continue
        last = tail(component.log)
        log_says = f"The last lines of {component.log}:\n{last}" if last else f"{component.log} is empty."
        raise StackError(f"{component.title} {trouble}. {log_says}")
