"""An even load of numbered events to one subscription, and when each was accepted and came first.

Emitter and receiver are this process, which nothing kills, so that one clock serves for both. An event's number is the
end of its id, which is its customer's too: of a run of an hour, two instants are kept for each of millions of events.
"""

import asyncio
import json
import re
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import httpx

from bench.pipeline import EVENT
from bench.receiver import Counts, Server
from bench.servers import free_port
from tests.chaos.stack import ChaosStack

NUMBER = re.compile(rb'"customerId":"[0-9a-f-]{24}([0-9a-f]{12})"')
ANSWER_SECONDS = 10.0
PAUSE_SECONDS = 0.2
QUIET_SECONDS = 90.0
"""Nothing comes any more after so long: longer than what `reconcile` starts again takes, each minute."""

LATE_REPEATS_SECONDS = 5.0
"""After everything has arrived, for a repeat to come as well."""


class Instants(Counts):
    """When each event was accepted and came first, by its number; 0 for neither. Counts of all that was else."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted = array("d")
        self.arrived = array("d")
        self.refused = self.repeated = 0
        self.last_at = 0.0

    def add(self, body: bytes) -> None:
        """Record a request, which is answered with 200."""
        found = NUMBER.search(body)
        assert found, body
        number, self.last_at = int(found[1], 16), time.monotonic()
        if self.arrived[number]:
            self.repeated += 1
        else:
            self.arrived[number] = self.last_at

    def latenesses(self, numbers: Sequence[int]) -> list[float]:
        """Seconds from the 202 to the first request, of those that were accepted and came."""
        return [
            max(0.0, self.arrived[one] - self.accepted[one])
            for one in numbers
            if self.accepted[one] and self.arrived[one]
        ]

    def lost(self, numbers: Sequence[int]) -> int:
        """How many were accepted and did not come."""
        return sum(1 for one in numbers if self.accepted[one] and not self.arrived[one])


class EvenLoad:
    """Emits to a stack, whose events come back to `instants`."""

    def __init__(self, session: aiohttp.ClientSession, instants: Instants) -> None:
        self._session = session
        self.instants = instants

    async def emit(self, count: int, per_second: float, *, size: int = 1, again: bool = False) -> range:
        """Emit events at this rate, single or in batches of one size, each request at its instant; the events' numbers.
        `again`: a request that is refused is repeated until it is accepted, as by a platform."""
        began, first = time.monotonic(), len(self.instants.accepted)
        for instants in (self.instants.accepted, self.instants.arrived):
            instants.extend([0.0] * count)
        async with asyncio.TaskGroup() as group:
            for start in range(0, count, size):
                await asyncio.sleep(max(0.0, began + start / per_second - time.monotonic()))
                group.create_task(self._emit(range(first + start, first + start + size), again=again))
        return range(first, first + count)

    async def _emit(self, numbers: range, *, again: bool) -> None:
        ids = [f"{str(uuid4())[:24]}{number:012x}" for number in numbers]
        events: list[Any] = [
            {"eventId": one, "eventName": EVENT, "data": {"customer": {"customerId": one}}} for one in ids
        ]
        path, body = ("event", {"event": events[0]}) if len(events) == 1 else ("event/batch", events)
        while not await self._accepted(path, json.dumps(body).encode()):
            self.instants.refused += len(events)
            if not again:
                return
            await asyncio.sleep(PAUSE_SECONDS)
        now = time.monotonic()
        for number in numbers:
            self.instants.accepted[number] = now

    async def _accepted(self, path: str, body: bytes) -> bool:
        try:
            async with self._session.post(path, data=body) as answer:
                assert answer.status in (202, 503), await answer.text()
                return answer.status == httpx.codes.ACCEPTED
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def arrived(self, numbers: range) -> None:
        """Return once all that was accepted has arrived and a repeat would have come too, or nothing comes any more."""
        began = time.monotonic()
        while self.instants.lost(numbers) and time.monotonic() - max(began, self.instants.last_at) < QUIET_SECONDS:
            await asyncio.sleep(0.5)
        await asyncio.sleep(LATE_REPEATS_SECONDS)


@asynccontextmanager
async def even_load(stack: ChaosStack) -> AsyncIterator[EvenLoad]:
    """Subscribe a receiver of this process to a running stack, and emit to it."""
    server, port, headers = Server(), free_port(), {"X-AUTH-TOKEN": stack.api_key, "Content-Type": "application/json"}
    server.counts = instants = Instants()
    receiving = asyncio.create_task(server.serve(port))
    subscription = {"eventName": EVENT, "url": f"http://127.0.0.1:{port}/", "hmacEnabled": True}
    async with httpx.AsyncClient(base_url=stack.store_url, headers=headers, timeout=30) as client:
        answer = await client.post("webhook/subscription", json={"webhookSubscription": subscription})
        answer.raise_for_status()
    try:
        async with aiohttp.ClientSession(
            stack.store_url,
            headers=headers,
            timeout=aiohttp.ClientTimeout(ANSWER_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),
        ) as session:
            yield EvenLoad(session, instants)
    finally:
        receiving.cancel()
