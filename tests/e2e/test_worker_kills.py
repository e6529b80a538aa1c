"""Order, rate limit and concurrency limit of subscriptions hold while workers are killed.

Two workers are killed in turn with SIGKILL. Meanwhile events of many customers go to a subscription ordered by
customer, whose receiver refuses some, and a backlog goes to a subscription with a rate limit and to one with a
concurrency limit. The receiver's ledger decides. The counts are printed.

Each customer's events are emitted one after the other, so that the order of acceptance is known. An event whose first
request came before the customer's previous event had arrived well is an inversion.
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
from tests.chaos.verdict import surely_in_a_second
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.receiver import Exchange, Receiver, status
from tests.running_processes import kill_in_turn, running_processes

CUSTOMERS = 16
EVENTS_EACH = 10
PER_SECOND_EACH = 1.5
REFUSED_SHARE = 0.1

LIMITED_EVENTS = 160
RATE = 20
CONCURRENCY = 4
ANSWER_SECONDS = 0.1
OVERSHOOT = 0.05

KILLS = 3
KILLED_EVERY_SECONDS = 2.0
SEED = 20260102
ARRIVAL_SECONDS = 90


class OrderedReceiver:
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

    async def complete(self) -> bool:
        return len(self.well) == CUSTOMERS * EVENTS_EACH

    def inversions(self) -> list[tuple[int, int]]:
        """Return the events whose first request came before the previous event had arrived well."""
        never = float("inf")
        return [
            (customer, number)
            for (customer, number), began in self.began.items()
            if number and began[0] < self.well.get((customer, number - 1), never)
        ]

    def repeated(self) -> int:
        """Return how many events came more often than their refusals explain."""
        repeats = Counter(len(began) - 1 - (event in self.refused) for event, began in self.began.items())
        return CUSTOMERS * EVENTS_EACH - repeats[0]


class LimitedReceiver:
    """Takes its time for each request; notes arrivals at `/rate` and the requests in hand at `/concurrency`."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, float]] = []
        self.in_hand = self.most_in_hand = 0

    async def rate(self, exchange: Exchange) -> None:
        self.arrivals.append(exchange.request.span)
        await status(200)(exchange)

    async def concurrency(self, exchange: Exchange) -> None:
        self.in_hand += 1
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        try:
            await asyncio.sleep(ANSWER_SECONDS)
        finally:
            self.in_hand -= 1
        await status(200)(exchange)


async def emit_customer(client: httpx.AsyncClient, customer: int) -> None:
    """Emit a customer's events, each when the one before is accepted."""
    customer_id = str(uuid4())
    for number in range(EVENTS_EACH):
        data = {"customer": {"customerId": customer_id, "phone": f"{customer}", "loyaltyCardNumber": f"{number}"}}
        answer = await client.post("event", json={"event": {"eventName": "CustomerUpdated", "data": data}})
        assert answer.status_code == 202, answer.text
        await asyncio.sleep(1 / PER_SECOND_EACH)


@pytest.mark.stack
@pytest.mark.timeout(300)
async def test_order_and_limits_hold_while_workers_are_killed(
    database_url: str, temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    key, database = new_key(), Database(database_url, pool_size=2)
    ground = Ground(database)
    await ground.add_store()
    async with database.transaction() as connection:
        await create_key(connection, "platform", key, (Scope.ADMIN,), ("*",))
    ordered, limited = OrderedReceiver(), LimitedReceiver()
    replies = {"/ordered": ordered, "/rate": limited.rate, "/concurrency": limited.concurrency}

    async def by_path(exchange: Exchange) -> None:
        await replies[exchange.request.target](exchange)

    async with Receiver() as receiver, running_processes(database_url, temporal, tmp_path) as (api, workers):
        receiver.otherwise = by_path
        in_order = {"ordered": True, "order_key": "customer", "retry_schedule": [1] * 5}
        await ground.subscribe("CustomerUpdated", receiver.url("/ordered"), **in_order)
        await ground.subscribe("CustomerDeactivated", receiver.url("/rate"), rate_limit_per_second=RATE)
        await ground.subscribe("CustomerDeactivated", receiver.url("/concurrency"), max_concurrency=CONCURRENCY)
        await ground.emit("CustomerDeactivated", "{}", count=LIMITED_EVENTS)
        headers = {"X-AUTH-TOKEN": key}
        async with httpx.AsyncClient(base_url=f"{api.url}/api/{STORE}/", headers=headers, timeout=30) as client:
            emitting = [emit_customer(client, customer) for customer in range(CUSTOMERS)]
            await asyncio.gather(kill_in_turn(workers, KILLS, KILLED_EVERY_SECONDS), *emitting)
        deliveries = CUSTOMERS * EVENTS_EACH + 2 * LIMITED_EVENTS
        try:
            await eventually(ordered.complete, ARRIVAL_SECONDS, "every ordered delivery")
            await ground.until_statuses({"delivered": deliveries}, ARRIVAL_SECONDS)
        finally:
            worst = surely_in_a_second(limited.arrivals)
            print(
                f"\nkills {KILLS}; {len(ordered.well)} ordered events arrived, {ordered.repeated()} repeated, "
                f"{len(ordered.inversions())} inversions; at most {worst} in a second of {RATE}, "
                f"{limited.most_in_hand} in hand of {CONCURRENCY}"
            )
    await database.close()
    assert ordered.inversions() == []
    assert worst <= RATE * (1 + OVERSHOOT)
    assert limited.most_in_hand <= CONCURRENCY
