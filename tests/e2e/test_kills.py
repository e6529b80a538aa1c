"""Every event answered with 202 reaches every subscription, whatever is killed meanwhile.

API, worker, Temporal and PostgreSQL are each killed with SIGKILL three times while events are emitted at 100 a second.
An independent ledger decides: what the emitter was promised against what the receiver got. The counts are printed.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from local.stack_file import Stack
from tests.deadlines import eventually
from tests.receiver import Receiver
from tests.stack import running_stack

EVENTS = 2_000
PER_SECOND = 100
SUBSCRIPTIONS = 3
COMPONENTS = ("api", "worker", "temporal", "postgres")
KILLS_EACH = 3
SEED = 20260102

ASKED_AT_ONCE = 50
"""Requests under way. Of a thousand that wait in the client's pool each makes the others' way longer."""

ARRIVAL_SECONDS = 60
"""For the last delivery, once the last event was accepted and everything runs again."""


class Ledger:
    """What was promised: the ids of events answered with 202."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)

    async def emit(self, client: httpx.AsyncClient, stack_path: Path) -> None:
        """Emit one event until it is accepted; a platform repeats the same eventId until it gets its 202."""
        event_id = str(uuid4())
        event = {"eventId": event_id, "eventName": "CustomerUpdated", "data": {"customer": {"customerId": event_id}}}
        while True:
            stack = Stack.model_validate_json(stack_path.read_text())
            try:
                async with self._asking:
                    answer = await client.post(
                        f"{stack.api}/api/{stack.store}/event",
                        json={"event": event},
                        headers={"X-AUTH-TOKEN": stack.api_key},
                    )
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 202:
                self.accepted.add(event_id)
                return
            assert answer.status_code == 503, f"{answer.status_code}: {answer.text}"
            await asyncio.sleep(0.1)


async def emit_all(ledger: Ledger, stack_path: Path) -> None:
    """All events, evenly spaced; each is its own task, so that one waiting for its 202 holds up no other."""
    async with httpx.AsyncClient(timeout=10) as client, asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number in range(EVENTS):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
            group.create_task(ledger.emit(client, stack_path))


async def kill_all(stack_path: Path) -> list[str]:
    """Kill each component in turn, three times round, spread over the time of emission."""
    draw = random.Random(SEED)
    pause = EVENTS / PER_SECOND / (KILLS_EACH * len(COMPONENTS) + 1)
    kills = list(COMPONENTS * KILLS_EACH)
    for component in kills:
        await asyncio.sleep(pause * draw.uniform(0.8, 1.2))
        pid = getattr(Stack.model_validate_json(stack_path.read_text()).pids, component)
        os.kill(pid, signal.SIGKILL)

        async def restarted(name: str = component, old: int = pid) -> bool:
            try:
                return bool(getattr(Stack.model_validate_json(stack_path.read_text()).pids, name) != old)
            except FileNotFoundError:
                return False

        await eventually(restarted, 20, f"{component} restarted")
    return kills


async def subscribe(stack: Stack, urls: list[str]) -> None:
    async with httpx.AsyncClient(headers={"X-AUTH-TOKEN": stack.api_key}) as client:
        for url in urls:
            subscription = {"eventName": "CustomerUpdated", "url": url}
            answer = await client.post(
                f"{stack.api}/api/{stack.store}/webhook/subscription", json={"webhookSubscription": subscription}
            )
            assert answer.status_code == 200, answer.text


@pytest.mark.stack
@pytest.mark.timeout(240)
async def test_nothing_accepted_is_lost_while_everything_is_killed_in_turn(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        stack_path = tmp_path / "stack" / "stack.json"
        async with Receiver() as receiver:
            paths = [f"/{number}" for number in range(SUBSCRIPTIONS)]
            await subscribe(stack, [receiver.url(path) for path in paths])
            ledger = Ledger()
            _, kills = await asyncio.gather(emit_all(ledger, stack_path), kill_all(stack_path))

            got: Counter[tuple[str, str]] = Counter()
            message_ids: dict[tuple[str, str], set[str]] = {}

            async def all_arrived() -> bool:
                for request in receiver.requests[sum(got.values()) :]:
                    body = json.loads(request.body)
                    key = (request.target, body["data"]["customer"]["customerId"])
                    got[key] += 1
                    message_ids.setdefault(key, set()).add(body["messageId"])
                return len(got) >= len(ledger.accepted) * SUBSCRIPTIONS

            try:
                await eventually(all_arrived, ARRIVAL_SECONDS, "every delivery")
            finally:
                lost = [(path, one) for path in paths for one in ledger.accepted if (path, one) not in got]
                repeated = sum(count - 1 for count in got.values())
                print(
                    f"\naccepted {len(ledger.accepted)}, kills {len(kills)} ({', '.join(COMPONENTS)} × {KILLS_EACH}), "
                    f"deliveries expected {len(ledger.accepted) * SUBSCRIPTIONS}, lost {len(lost)}, "
                    f"duplicates {repeated}"
                )
            assert len(ledger.accepted) == EVENTS
            assert lost == []
            assert all(len(ids) == 1 for ids in message_ids.values()), "a repeat has the same messageId"
