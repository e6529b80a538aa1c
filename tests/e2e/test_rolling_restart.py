"""A new version takes over without a break: one of two workers, then the API, is restarted while events come in.

Each is told to stop with SIGTERM and started anew, while the platform emits and receivers take their time
or refuse at first. What the emitter was promised is compared with what the receiver got: nothing lost, nothing twice.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from domain.access import Scope
from storage.access.queries import create_key, new_key
from storage.database import Database
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.receiver import Exchange, Receiver, after, status
from tests.running_processes import Process, running_processes

PER_SECOND = 20
MOST_EVENTS = 20_000  # the load ends with the restarts; this bounds it if they hang
ARRIVAL_SECONDS = 60
SLOW_SECONDS = 1.5  # an answer that takes so long is awaited by most processes that are told to stop


async def emit(client: httpx.AsyncClient, url: str, key: str, accepted: set[str]) -> None:
    """One event, repeated with the same id until it is accepted."""
    event_id = str(uuid4())
    event = {"eventId": event_id, "eventName": "CustomerUpdated", "data": {"customer": {"customerId": event_id}}}
    while True:
        try:
            answer = await client.post(url, json={"event": event}, headers={"X-AUTH-TOKEN": key})
        except httpx.TransportError:
            await asyncio.sleep(0.1)
            continue
        assert answer.status_code in (202, 503), answer.text
        if answer.status_code == 202:
            accepted.add(event_id)
            return
        await asyncio.sleep(0.1)


async def emit_until(over: asyncio.Event, url: str, key: str, accepted: set[str]) -> None:
    """Evenly spaced events, each its own task, until the restarts are over."""
    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number in range(MOST_EVENTS):
            if over.is_set():
                return
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
            group.create_task(emit(client, url, key, accepted))


async def restart_in_turn(processes: list[Process], traffic: Callable[[], Awaitable[None]]) -> list[float]:
    """Each process once, the next after deliveries went on; how long each took to stop."""
    took = []
    for process in processes:
        await traffic()
        took.append(await process.stop())
        await process.start()
    return took


def refused_once(event_id: str) -> bool:
    """One event in twenty has to be sent twice: each costs Temporal an activity of its own."""
    return UUID(event_id).int % 20 == 0


@pytest.mark.stack
@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nothing_sent_twice_in_a_rolling_restart(
    database_url: str, temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    key, database = new_key(), Database(database_url, pool_size=2)
    ground = Ground(database)
    await ground.add_store()
    async with database.transaction() as connection:
        await create_key(connection, "platform", key, (Scope.ADMIN,), ("*",))
    refused: set[str] = set()

    async def refuse_once(exchange: Exchange) -> None:
        event_id = json.loads(exchange.request.body)["data"]["customer"]["customerId"]
        first = refused_once(event_id) and event_id not in refused
        refused.add(event_id)
        await status(503 if first else 200)(exchange)

    async def sometimes_slow(exchange: Exchange) -> None:
        slow = len(receiver.requests) % 10 == 0
        await (after(SLOW_SECONDS, status(200)) if slow else status(200))(exchange)

    accepted: set[str] = set()
    over = asyncio.Event()
    async with Receiver() as receiver, running_processes(database_url, temporal, tmp_path) as (api, workers):
        replies = {"/fast": sometimes_slow, "/refusing": refuse_once}

        async def by_path(exchange: Exchange) -> None:
            await replies[exchange.request.target](exchange)

        receiver.otherwise = by_path
        for path in replies:
            await ground.subscribe("CustomerUpdated", receiver.url(path))
        emitting = asyncio.create_task(emit_until(over, f"{api.url}/api/{STORE}/event", key, accepted))

        async def traffic() -> None:
            before = len(receiver.requests)

            async def went_on() -> bool:
                return len(receiver.requests) >= before + PER_SECOND

            await eventually(went_on, ARRIVAL_SECONDS, "deliveries go on")

        took = await restart_in_turn([workers[0], api], traffic)
        over.set()
        await emitting
        try:
            await ground.until_statuses({"delivered": 2 * len(accepted)}, ARRIVAL_SECONDS)
        finally:
            got = Counter(
                (one.target, json.loads(one.body)["data"]["customer"]["customerId"]) for one in receiver.requests
            )
            wanted = {
                (path, one): 1 + (path == "/refusing" and refused_once(one)) for path in replies for one in accepted
            }
            lost = [one for one in wanted if got[one] < wanted[one]]
            repeated = [one for one in wanted if got[one] > wanted[one]]
            print(
                f"\naccepted {len(accepted)}, restarts {len(took)} (stopped within {max(took):.1f} s), "
                f"requests {len(receiver.requests)}, lost {len(lost)}, repeated {len(repeated)}"
            )
    interrupted = await ground.scalar(
        "SELECT count(*) FROM attempt WHERE failure = 'interrupted' OR outcome_at IS NULL"
    )
    await database.close()
    assert (lost, repeated, interrupted) == ([], [], 0)
    assert set(got) == set(wanted)
