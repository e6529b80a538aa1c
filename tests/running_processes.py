"""An API and two workers as processes of their own, for tests that stop or kill them one by one.

async with running_processes(database_url, temporal, tmp_path) as (api, workers):
    await workers[0].kill()
    await workers[0].start()
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

from cryptography.fernet import Fernet
from temporalio.testing import WorkflowEnvironment

from local.health import fetch
from local.ports import hold_free
from tests.deadlines import eventually
from tests.house import ROOT

READY_SECONDS = 60
STOP_SECONDS = 30  # above the grace


class Process:
    """An API or a worker, started again and again on the same port."""

    def __init__(self, command: str, port: int, environment: dict[str, str], log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._environment = {**os.environ, **environment, "API_PORT": str(port), "WORKER_HEALTH_PORT": str(port)}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "cli", self._command),
                cwd=ROOT,
                env=self._environment,
                stderr=log,
                stdout=log,
            )
        await eventually(self._ready, READY_SECONDS, f"{self._command} is ready: {self._log}")

    async def _ready(self) -> bool:
        answer = await fetch(f"{self.url}/readyz")
        return answer is not None and answer.status_code == 200

    async def stop(self) -> float:
        """Ask it to stop as an orchestrator does; the seconds it took. Fails when it does not end well."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            code = await self._process.wait()
        # uvicorn ends with the signal it was sent, once it has finished.
        assert code in (0, -signal.SIGTERM), f"{self._command} ended with {code}:\n{self._log.read_text()[-4000:]}"
        return time.monotonic() - began

    async def kill(self) -> None:
        """As the kernel does when memory runs out; it may be started again."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running_processes(
    database_url: str, temporal: WorkflowEnvironment, directory: Path, *, workers: int = 2, **settings: str
) -> AsyncIterator[tuple[Process, list[Process]]]:
    """An API and so many workers with these settings, all ready; killed when the block ends, if they still run."""
    environment = {
        "DATABASE_URL": database_url,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "JWT_SECRETS": "x" * 40,
        "TEMPORAL_ADDRESS": temporal.client.service_client.config.target_host,
        "TASK_QUEUE": f"test-{uuid4()}",
        "ALLOW_HTTP": "true",
        "ALLOWED_PORTS": "",
        "ALLOWED_NETWORKS": "127.0.0.0/8",
        "RETRY_SCHEDULE_SECONDS": "2,2,2",
        "BREAKER_FAILURES": "100000",
        "LOG_LEVEL": "WARNING",
        **settings,
    }
    async with AsyncExitStack() as running:
        processes = []
        for number, command in enumerate(("api", *("worker",) * workers)):
            with hold_free() as held:
                port = held.getsockname()[1]
            process = Process(command, port, environment, directory / f"{command}-{number}.log")
            running.push_async_callback(process.kill)
            processes.append(process)
        await asyncio.gather(*(process.start() for process in processes))
        yield processes[0], processes[1:]


async def kill_in_turn(workers: Sequence[Process], kills: int, every_seconds: float) -> None:
    """Kill so many times, one after the other, and start each again at once."""
    for kill in range(kills):
        await asyncio.sleep(every_seconds)
        worker = workers[kill % len(workers)]
        await worker.kill()
        await worker.start()
