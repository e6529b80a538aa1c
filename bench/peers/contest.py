"""One contestant's turn: its servers, workers, emitter and a receiver, from nothing; two bursts and an idle stretch."""

import asyncio
import json
import os
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.peers.lineup import Contestant
from bench.peers.servers import servers
from bench.peers.work import AUTHORITY_VARIABLE, EVENT_NAMES, RECEIVER_VARIABLE, paths
from bench.servers import Certificate, receiver, trusting
from bench.stack import SETTLE_SECONDS, bench_stack, tree_cpu_seconds, until_received

ROOT = Path(__file__).parents[2]
PEERS_PYTHON = ROOT / ".venv-peers/bin/python"
"""`make peers` makes it of requirements.lock."""

WARM_UP_SECONDS = 60.0
"""Until the first deliveries of a contestant that has just been started."""

TURN_SECONDS = 180.0
"""The longest a burst is waited for."""

QUIET_SECONDS = 1.5
"""Between what is measured, so that one's rest is not the next one's load."""

IDLE_EVENTS = 100
IDLE_PER_SECOND = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A contestant that is up: its emitter, the receiver, and all processes whose CPU time counts."""

    emitter: Process
    receiver: httpx.AsyncClient
    pids: Sequence[int]

    async def emit(self, order: str) -> dict[str, float]:
        """Have the emitter carry out an order; returns when it began and ended."""
        if self.emitter.stdin is None or self.emitter.stdout is None:
            raise RuntimeError("the emitter has no pipes")
        self.emitter.stdin.write(order.encode() + b"\n")
        line = await self.emitter.stdout.readline()
        if not line:
            raise RuntimeError("the emitter has ended; see above")
        times: dict[str, float] = json.loads(line)
        return times

    async def until_received(self, count: int, seconds: float) -> dict[str, Any]:
        """The receiver's counts once it has had so many different deliveries."""
        return await until_received(self.receiver, count, seconds)

    async def reset(self) -> None:
        """Let the receiver forget, and everything else become quiet."""
        await asyncio.sleep(QUIET_SECONDS)
        await self.receiver.post("/reset")

    def cpu_seconds(self) -> float:
        """CPU time of all processes so far."""
        return sum(map(tree_cpu_seconds, self.pids))


async def _emitter(module: str, environment: Mapping[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        PEERS_PYTHON,
        *("-m", "bench.peers.emitter", module),
        cwd=ROOT,
        env=os.environ | dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def _prepare(peer: Contestant, environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        PEERS_PYTHON, *peer.prepare, cwd=ROOT, env=os.environ | dict(environment), stdout=sys.stderr
    )
    if await process.wait():
        raise RuntimeError(f"the tables of {peer.title} could not be made; see above")


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _peer(peer: Contestant, certificate: Certificate | None) -> AsyncIterator[Running]:
    """A peer with its servers."""
    async with AsyncExitStack() as stack:
        with_key = certificate.with_key if certificate else None
        address, receiver_pid = await stack.enter_async_context(receiver(with_key))
        started = await stack.enter_async_context(servers(peer.servers))
        environment = {RECEIVER_VARIABLE: address}
        if certificate is not None:
            environment[AUTHORITY_VARIABLE] = str(certificate.authority)
        for server in started:
            environment |= server.environment
        if peer.prepare:
            await _prepare(peer, environment)
        worker = await asyncio.create_subprocess_exec(
            PEERS_PYTHON, *peer.worker, cwd=ROOT, env=os.environ | environment, stdout=sys.stderr
        )
        stack.push_async_callback(_end, worker)
        emitter = await _emitter(peer.module, environment)
        stack.push_async_callback(_end, emitter)
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=address, timeout=60, verify=trusting(certificate))
        )
        pids = [receiver_pid, worker.pid, emitter.pid, *(server.pid for server in started)]
        yield Running(emitter, client, pids)


@asynccontextmanager
async def _ours(contestant: Contestant, certificate: Certificate | None) -> AsyncIterator[Running]:
    """Our stack as `loyalty-webhooks up` starts it."""
    async with bench_stack(certificate=certificate) as bench:
        for name in EVENT_NAMES.values():
            for path in paths(name):
                await bench.subscribe(name, path)
        environment = {"BENCH_API": bench.facts["api"], "BENCH_KEY": bench.facts["api_key"]}
        emitter = await _emitter(contestant.module, environment)
        try:
            yield Running(emitter, bench.receiver, [bench.receiver_pid, emitter.pid, *bench.pids()])
        finally:
            await _end(emitter)


async def _warm_up(running: Running) -> None:
    """The first deliveries of each kind, then some more, so that every process has loaded what it needs."""
    for number in (1, 10):
        for count, name in EVENT_NAMES.items():
            await running.receiver.post("/reset")
            await running.emit(f"burst {name} {number}")
            await running.until_received(number * count, WARM_UP_SECONDS)


async def _burst(running: Running, subscriptions: int, deliveries: int) -> dict[str, Any]:
    """Emit so that so many deliveries arise; the rate is from the first emit to the last arrival."""
    await running.reset()
    events = deliveries // subscriptions
    cpu = running.cpu_seconds()
    emitting = asyncio.create_task(running.emit(f"burst {EVENT_NAMES[subscriptions]} {events}"))
    receiving = asyncio.create_task(running.until_received(events * subscriptions, TURN_SECONDS))
    await asyncio.wait([emitting, receiving], return_when=asyncio.FIRST_COMPLETED)  # an emitter may fail
    times, stats = await emitting, await receiving
    used = running.cpu_seconds() - cpu
    return {
        "deliveries": deliveries,
        "per_second": round(deliveries / (stats["last_at"] - times["began"])),
        "emitted_per_second": round(events / max(times["ended"] - times["began"], 0.001)),
        "cpu_seconds_per_1000": round(used / deliveries * 1000, 2),
        "repeated": stats["repeated"],
    }


async def _idle(running: Running) -> dict[str, Any]:
    """One event at a time, evenly spaced: what a delivery takes when nothing else is to do."""
    await running.reset()
    await running.emit(f"steady {EVENT_NAMES[1]} {IDLE_EVENTS} {IDLE_PER_SECOND}")
    stats = await running.until_received(IDLE_EVENTS, TURN_SECONDS)
    return {key: stats[key] for key in ("p50_ms", "p99_ms", "max_ms")}


async def turn(
    contestant: Contestant, share: float, say: Callable[[str], None], certificate: Certificate | None
) -> dict[str, Any]:
    """One turn. `share` of the usual number of deliveries; `say` is told what is being done. With a certificate the
    receiver speaks HTTPS."""
    begin: Callable[[Contestant, Certificate | None], Any] = _peer if contestant.worker else _ours
    began = time.monotonic()
    say("starting")
    async with begin(contestant, certificate) as running:
        await _warm_up(running)
        figures: dict[str, Any] = {}
        for (subscriptions, _), deliveries in zip(EVENT_NAMES.items(), contestant.deliveries, strict=True):
            say(f"burst to {subscriptions}")
            figures[f"burst_{subscriptions}"] = await _burst(running, subscriptions, max(int(deliveries * share), 10))
        say("idle")
        await asyncio.sleep(SETTLE_SECONDS)
        figures["idle"] = await _idle(running)
        say("stopping")
    return figures | {"took_seconds": round(time.monotonic() - began, 1)}
