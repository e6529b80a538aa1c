"""The emitter of a run: sends each event until it is accepted, under one id, as a platform does."""

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.chaos.ledger import Emitted
from tests.chaos.load import Emission
from tests.chaos.roles import data_of, ordering_key_of

ANSWER_SECONDS = 5.0
"""A stopped API does not answer at all; the caller asks again."""

PAUSE_SECONDS = 0.2
GIVEN_UP_SECONDS = 60.0


class Emitter:
    """Knows what was accepted; `log` gets a line for each event. `address` is its own in the network."""

    def __init__(self, store_url: str, key: str, log: Path, *, address: str | None = None) -> None:
        self.emitted: list[Emitted] = []
        self.refused: list[str] = []
        """What was answered otherwise than a platform can do anything about."""
        self.unavailable: list[float] = []
        """When a 503 came."""
        self._client = httpx.AsyncClient(
            base_url=store_url,
            headers={"X-AUTH-TOKEN": key},
            timeout=ANSWER_SECONDS,
            transport=httpx.AsyncHTTPTransport(local_address=address, limits=httpx.Limits()),
        )
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()
        os.close(self._log)

    async def emit_all(self, emissions: Sequence[Emission], began_at: float) -> None:
        """Everything at its instant; returns when all of it is accepted.

        One emission that waits for its 202 holds up no other, but for those of its line, which go one after the other.
        """
        lines: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        async with asyncio.TaskGroup() as group:
            for emission in emissions:
                await asyncio.sleep(max(0.0, began_at + emission.at - time.monotonic()))
                group.create_task(self._emit_in_order(emission, lines))

    async def _emit_in_order(self, emission: Emission, lines: dict[str, asyncio.Lock]) -> None:
        line = ordering_key_of(emission.event_name, emission.event_ids[0])
        if line is None:
            await self._emit(emission)
            return
        async with lines[line]:  # asyncio's locks are given in the order in which they were asked for
            await self._emit(emission)

    async def _emit(self, emission: Emission) -> None:
        events = [
            {"eventId": one, "eventName": emission.event_name, "data": data_of(emission.event_name, one)}
            for one in emission.event_ids
        ]
        sent_at, tries = time.monotonic(), 0
        while True:
            tries += 1
            status = await self._post(events)
            if status == httpx.codes.ACCEPTED:
                break
            if status not in (None, 429, 502, 503, 504) or time.monotonic() - sent_at > GIVEN_UP_SECONDS:
                self.refused.append(f"{emission.event_name} {emission.event_ids[0]}: {status}")
                return
            await asyncio.sleep(PAUSE_SECONDS)
        accepted_at = time.monotonic()
        for one in emission.event_ids:
            emitted = Emitted(one, emission.event_name, sent_at, accepted_at, tries)
            self.emitted.append(emitted)
            os.write(self._log, json.dumps(asdict(emitted)).encode() + b"\n")

    async def _post(self, events: Sequence[object]) -> int | None:
        """The status of the answer; None without one."""
        try:
            if len(events) == 1:
                answer = await self._client.post("event", json={"event": events[0]})
            else:
                answer = await self._client.post("event/batch", json=events)
        except httpx.TransportError:
            return None
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            self.unavailable.append(time.monotonic())
            if "Retry-After" not in answer.headers:
                self.refused.append(f"{len(events)} events: 503 without Retry-After")
        return answer.status_code
