"""A stack of its own for a measurement: the product as a user starts it, with a fast receiver beside it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.deployment import deployment
from bench.servers import Certificate, data_directory, receiver, trusting
from bench.temporal_server import RunningTemporal

PROGRAM = Path(sys.executable).parent / "loyalty-webhooks"
POLL_SECONDS = 0.1
SETTLE_SECONDS = 15.0
"""After a burst, until idle means idle: PostgreSQL looks every ten seconds for what to vacuum, and does it."""


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
    """Addresses and access, as `stack.json` has them."""
    process_ids: Mapping[str, list[int]]
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

    async def subscribe(self, event_name: str, path: str, store: str | None = None, **fields: Any) -> str:
        """Subscribe the receiver's path to an event of a store (by default the stack's own); returns the id.

        Signed, unless the further fields say otherwise.
        """
        subscription = {"eventName": event_name, "url": self.receiver_url + path, "hmacEnabled": True} | fields
        answer = await self.api.post(
            f"/api/{store or self.facts['store']}/webhook/subscription", json={"webhookSubscription": subscription}
        )
        answer.raise_for_status()
        identity: str = answer.json()["webhookSubscriptionId"]
        return identity

    async def make_store(self, code: str) -> None:
        """Make a store."""
        (await self.api.post("/api/admin/store", json={"store": {"storeCode": code}})).raise_for_status()

    async def emit_batch(self, lines: bytes, store: str | None = None) -> None:
        """Emit one NDJSON batch."""
        answer = await self.api.post(
            f"/api/{store or self.facts['store']}/event/batch",
            content=lines,
            headers={"Content-Type": "application/x-ndjson"},
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
        """Resident memory of a component's processes, without their children."""
        resident = (psutil.Process(pid).memory_info().rss for pid in self.process_ids[component])
        return round(float(sum(resident)) / 2**20, 1)

    def pid(self, component: str) -> int:
        """The process of a component that has one."""
        [pid] = self.process_ids[component]
        return pid

    def pids(self) -> list[int]:
        """Every process of the stack, without their children."""
        return [pid for pids in self.process_ids.values() for pid in pids]

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time so far of each component's processes."""
        return {name: sum(map(tree_cpu_seconds, pids)) for name, pids in self.process_ids.items()}


@asynccontextmanager
async def bench_stack(
    environment: Mapping[str, str] | None = None, program: Path = PROGRAM, *, certificate: Certificate | None = None
) -> AsyncIterator[Bench]:
    """Start the stack with these settings and a receiver; stop both and delete the data afterwards, also when the
    measurement is asked to stop (SIGTERM): a stack that is left would slow down whatever is measured next.
    `certificate`: the receiver is reached by HTTPS, and the stack trusts the authority.

    The stack is the one of `up`, unless the environment names a Temporal server that runs already (`temporal_server`).
    """
    if (measuring := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    temporal = RunningTemporal.from_environment()
    with data_directory("bench") as directory:
        trust = {"CA_BUNDLE": str(certificate.authority)} if certificate else {}
        environment = trust | dict(environment or {})
        starting: AbstractAsyncContextManager[dict[str, Any]] = (
            _local_stack(environment, program, directory)
            if temporal is None
            else deployment(program, environment, temporal, directory)
        )
        async with (
            receiver(certificate.with_key if certificate else None) as (receiver_url, receiver_pid),
            starting as facts,
            httpx.AsyncClient(base_url=facts["api"], headers={"X-AUTH-TOKEN": facts["api_key"]}, timeout=60) as api,
            httpx.AsyncClient(base_url=receiver_url, timeout=60, verify=trusting(certificate)) as counter,
        ):
            yield Bench(facts, facts.pop("pids"), api, counter, receiver_url, receiver_pid, directory)


@asynccontextmanager
async def _local_stack(environment: Mapping[str, str], program: Path, directory: Path) -> AsyncIterator[dict[str, Any]]:
    """The stack of `up`, as its `stack.json` says."""
    up = [str(program), "up", "--data-dir", str(directory), "--no-demo", "--detach"]
    ports = ["--api-port", "0", "--ui-port", "0", "--temporal-port", "0"]
    starting = asyncio.create_task(
        asyncio.to_thread(
            subprocess.run, up + ports, check=True, env=os.environ | dict(environment), stdout=subprocess.DEVNULL
        )
    )
    try:
        await asyncio.shield(starting)
        facts: dict[str, Any] = json.loads((directory / "stack.json").read_text())
        yield facts | {"pids": {component: [pid] for component, pid in facts["pids"].items()}}
    finally:
        await asyncio.wait([starting])  # `down` does not find a stack whose start was given up and goes on
        down = [str(program), "down", "--data-dir", str(directory)]
        await asyncio.to_thread(subprocess.run, down, check=False, stdout=subprocess.DEVNULL)
