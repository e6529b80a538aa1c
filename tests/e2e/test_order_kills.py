"""A subscription ordered by customer keeps each customer's order, whatever worker is killed when.

Two workers are killed in turn with SIGKILL while many customers' events come in and the receiver refuses some. Each
customer's events are emitted one after the other, so that the order of acceptance is known. The receiver's ledger
decides: an event that came before the one before it had arrived well is an inversion. The counts are printed.
"""

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from domain.access import Scope
from storage.access.queries import create_key, new_key
from storage.database import Database
from tests.databases import sqlalchemy_url
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.receiver import Exchange, Receiver, status
from tests.running_processes import kill_in_turn, running_processes

CUSTOMERS = 30
EVENTS_EACH = 20
PER_SECOND_EACH = 1.5
KILLS = 6
KILLED_EVERY_SECONDS = 2.0
REFUSED_SHARE = 0.1
SEED = 20260102
ARRIVAL_SECONDS = 90


class Refusing:
    """Answers some first requests with a 500, by seed, and notes what arrived well when."""

    def __init__(self) -> None:
        draw = random.Random(SEED)
        self.refused = {
            (customer, number)
            for customer in range(CUSTOMERS)
            for number in range(EVENTS_EACH)
            if draw.random() < REFUSED_SHARE
        }
        self.began: dict[tuple[int, int], list[float]] = defaultdict(list)
        self.well: dict[tuple[int, int], float] = {}

    async def __call__(self, exchange: Exchange) -> None:
        data = json.loads(exchange.request.body)["data"]["customer"]
        event = int(data["phone"]), int(data["loyaltyCardNumber"])
        refuse = event in self.refused and not self.began[event]
        self.began[event].append(exchange.request.arrived_at)
        await status(500 if refuse else 200)(exchange)
        if not refuse:
            self.well.setdefault(event, time.monotonic())

    def inversions(self) -> list[tuple[int, int]]:
        """Events of which the first request came before the event before them had arrived well."""
        never = float("inf")
        return [
            (customer, number)
            for (customer, number), began in self.began.items()
            if number and began[0] < self.well.get((customer, number - 1), never)
        ]


async def emit_customer(client: httpx.AsyncClient, customer: int) -> None:
    """One customer's events, each emitted when the one before is accepted."""
    customer_id = str(uuid4())
    for number in range(EVENTS_EACH):
        data = {"customer": {"customerId": customer_id, "phone": f"{customer}", "loyaltyCardNumber": f"{number}"}}
        answer = await client.post("event", json={"event": {"eventName": "CustomerUpdated", "data": data}})
        assert answer.status_code == 202, answer.text
        await asyncio.sleep(1 / PER_SECOND_EACH)


@pytest.mark.stack
@pytest.mark.timeout(300)
async def test_no_customers_events_change_places_when_workers_are_killed(
    database_url: str, temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    key, database = new_key(), Database(sqlalchemy_url(database_url), pool_size=2)
    ground = Ground(database)
    await ground.add_store()
    async with database.transaction() as connection:
        await create_key(connection, "platform", key, (Scope.ADMIN,), ("*",))
    refusing, events = Refusing(), CUSTOMERS * EVENTS_EACH
    async with Receiver() as receiver, running_processes(database_url, temporal, tmp_path) as (api, workers):
        receiver.otherwise = refusing
        fields = {"ordered": True, "order_key": "customer", "retry_schedule": [1] * 5}
        await ground.subscribe("CustomerUpdated", receiver.url("/hook"), **fields)
        headers = {"X-AUTH-TOKEN": key}
        async with httpx.AsyncClient(base_url=f"{api.url}/api/{STORE}/", headers=headers, timeout=30) as client:
            emitting = [emit_customer(client, customer) for customer in range(CUSTOMERS)]
            await asyncio.gather(kill_in_turn(workers, KILLS, KILLED_EVERY_SECONDS), *emitting)

        async def all_arrived() -> bool:
            return len(refusing.well) == events

        try:
            await eventually(all_arrived, ARRIVAL_SECONDS, "every delivery")
        finally:
            repeats = Counter(len(began) - 1 - (event in refusing.refused) for event, began in refusing.began.items())
            print(
                f"\n{events} events of {CUSTOMERS} customers, kills {KILLS}, arrived "
                f"{len(refusing.well)}, repeated {events - repeats[0]}, inversions {len(refusing.inversions())}"
            )
    await database.close()
    assert refusing.inversions() == []
