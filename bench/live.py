"""Another store, whose events come one by one and evenly: what somebody feels while others make work."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from bench.pipeline import EVENT, event_line
from bench.servers import receiver
from bench.stack import Bench

STORE = "live"
PER_SECOND = 20.0
LAST_ONES_SECONDS = 30


@dataclass
class Live:
    """A store of its own with a receiver of its own, which counts nothing else."""

    url: str
    counter: httpx.AsyncClient

    async def prepare(self, bench: Bench) -> None:
        """Make the store and its subscription."""
        answer = await bench.api.post("/api/admin/store", json={"store": {"storeCode": STORE}})
        answer.raise_for_status()
        subscription = {"eventName": EVENT, "url": f"{self.url}/live", "hmacEnabled": True}
        path = f"/api/{STORE}/webhook/subscription"
        (await bench.api.post(path, json={"webhookSubscription": subscription})).raise_for_status()

    async def during(self, bench: Bench, work: Awaitable[object]) -> dict[str, Any]:
        """Latencies, createdAt to arrival, of events emitted evenly while the work goes on."""
        await self.counter.post("/reset")
        emits: list[asyncio.Task[None]] = []
        emitting = asyncio.create_task(self._emit(bench, emits))
        try:
            await work
        finally:
            emitting.cancel()
        await asyncio.gather(*emits)
        async with asyncio.timeout(LAST_ONES_SECONDS):
            while (stats := (await self.counter.get("/stats")).json())["received"] < len(emits):
                await asyncio.sleep(0.1)
        return {name: stats[name] for name in ("received", "p50_ms", "p99_ms", "max_ms")}

    async def _emit(self, bench: Bench, emits: "list[asyncio.Task[None]]") -> None:
        """Each on its own: one that is answered late does not delay the next, which would hide what it waits."""
        next_at = time.monotonic()
        while True:
            emits.append(asyncio.create_task(self._emit_one(bench)))
            next_at += 1 / PER_SECOND
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def _emit_one(self, bench: Bench) -> None:
        answer = await bench.api.post(f"/api/{STORE}/event", json={"event": event_line()})
        answer.raise_for_status()


@asynccontextmanager
async def live_receiver() -> AsyncIterator[Live]:
    """A second receiver, whose counts are of the live store alone."""
    async with receiver() as (url, _), httpx.AsyncClient(base_url=url, timeout=60) as counter:
        yield Live(url, counter)
