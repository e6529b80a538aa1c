"""A stack of its own for a measurement: the product as a user starts it, with a fast receiver beside it."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

PROGRAM = Path(sys.executable).parent / "loyalty-webhooks"
READY_SECONDS = 20
POLL_SECONDS = 0.1
SETTLE_SECONDS = 15.0
"""After a burst, until idle means idle: PostgreSQL looks every ten seconds for what to vacuum, and does it."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tree_cpu_seconds(pid: int) -> float:
    """CPU time so far of a process and its children; of those that ended meanwhile their parent keeps count."""
    process = psutil.Process(pid)
    seconds = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


async def until_received(receiver: httpx.AsyncClient, count: int, deadline_seconds: float) -> dict[str, Any]:
    """The receiver's counts once it has had so many distinct deliveries; raises TimeoutError at the deadline."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        received: int = (await receiver.get("/count")).json()
        late = time.monotonic() > deadline
        if received >= count or late:  # the whole of the counts costs the receiver time: not while it receives
            stats: dict[str, Any] = (await receiver.get("/stats")).json()
            if stats["received"] - stats["repeated"] >= count:
                return stats
        if late:
            raise TimeoutError(f"{received} of {count} deliveries arrived within {deadline_seconds:.0f} s")
        await asyncio.sleep(POLL_SECONDS)


@dataclass
class Bench:
    """A running stack and receiver, and how to talk to both."""

    facts: dict[str, Any]
    api: httpx.AsyncClient
    receiver: httpx.AsyncClient
    receiver_url: str
    receiver_pid: int
    directory: Path
    """Where the stack keeps its data."""

    @property
    def store_path(self) -> str:
        """Below which the store's calls are."""
        return f"/api/{self.facts['store']}"

    async def subscribe(self, event_name: str, path: str, **fields: Any) -> str:
        """Subscribe the receiver's path to an event; signed unless said otherwise."""
        subscription = {"eventName": event_name, "url": self.receiver_url + path, "hmacEnabled": True} | fields
        answer = await self.api.post(
            f"{self.store_path}/webhook/subscription", json={"webhookSubscription": subscription}
        )
        answer.raise_for_status()
        identity: str = answer.json()["webhookSubscriptionId"]
        return identity

    async def emit_batch(self, lines: bytes) -> None:
        """Emit one NDJSON batch."""
        answer = await self.api.post(
            f"{self.store_path}/event/batch", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        if answer.status_code != httpx.codes.ACCEPTED:
            raise RuntimeError(f"{answer.status_code}: {answer.text}")

    async def reset(self) -> None:
        """Forget what the receiver has counted."""
        await self.receiver.post("/reset")

    async def stats(self) -> dict[str, Any]:
        """What the receiver has counted."""
        answer: dict[str, Any] = (await self.receiver.get("/stats")).json()
        return answer

    async def until_received(self, count: int, deadline_seconds: float) -> dict[str, Any]:
        """The receiver's counts once it has had so many distinct deliveries; fails at the deadline."""
        return await until_received(self.receiver, count, deadline_seconds)

    def memory_mb(self, component: str) -> float:
        """Resident memory of a component's process."""
        return round(float(psutil.Process(self.facts["pids"][component]).memory_info().rss) / 2**20, 1)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time so far of each component's processes."""
        return {component: tree_cpu_seconds(pid) for component, pid in self.facts["pids"].items()}


@asynccontextmanager
async def bench_stack(environment: Mapping[str, str] | None = None, program: Path = PROGRAM) -> AsyncIterator[Bench]:
    """Start the stack with these settings and a receiver; stop both and delete the data afterwards, also when the
    measurement is asked to stop (SIGTERM): a stack that is left would slow down whatever is measured next."""
    if (measuring := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    directory = tempfile.mkdtemp(prefix="loyalty-webhooks-bench-")
    port = free_port()
    receiver = subprocess.Popen([sys.executable, "-m", "bench.receiver", str(port)])
    up = [str(program), "up", "--data-dir", directory, "--no-demo", "--detach"]
    ports = ["--api-port", "0", "--ui-port", "0", "--temporal-port", "0"]
    try:
        await asyncio.to_thread(
            subprocess.run, up + ports, check=True, env=os.environ | dict(environment or {}), stdout=subprocess.DEVNULL
        )
        facts = json.loads((Path(directory) / "stack.json").read_text())
        async with (
            httpx.AsyncClient(base_url=facts["api"], headers={"X-AUTH-TOKEN": facts["api_key"]}, timeout=60) as api,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as counter,
        ):
            yield Bench(facts, api, counter, f"http://127.0.0.1:{port}", receiver.pid, Path(directory))
    finally:
        receiver.terminate()
        receiver.wait(10)
        await asyncio.to_thread(subprocess.run, [str(program), "down", "--data-dir", directory], check=False)
        shutil.rmtree(directory, ignore_errors=True)
