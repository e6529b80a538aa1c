"""Supervisor of the components: restarts a dead one, at once if it was healthy, else with increasing delay."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from local.data_directory import StackError, bound_log, tail
from local.processes import POLL_SECONDS, Component, ended, ending, spawn

READY_WITHIN_SECONDS = 60.0
"""Time until a component must be ready. Allows for a first start on a slow, busy machine."""

READY_POLL_SECONDS = 0.1

STARTED_AFTER_SECONDS = 10.0
"""Uptime after which the start counts as successful, even if the component waits for a dependency to be ready."""

RESTART_DELAYS_SECONDS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Delay before a restart, by consecutive failures."""

HOUSEKEEPING_SECONDS = 5.0
KILLED_WITHIN_SECONDS = 1.0


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
        """Start the components concurrently, return when all are ready and supervise them from then on.

        Raises StackError if a component ends before it is ready, or is not ready in time.
        """
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
        """Reset the failure count of a healthy component.

        Separate from `_supervise`, because a slow readiness check must not delay the detection of a dead process.
        """
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
        """Kill every process now."""
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
