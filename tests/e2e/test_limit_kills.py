"""The limits of a subscription hold over two workers together and over their crashes.

Two workers are killed in turn with SIGKILL while a backlog goes out to a subscription with a rate limit and to one with
a limit on concurrency. The receiver's ledger decides: its worst second, and the most requests it had in hand. The
figures are printed.
"""

import asyncio
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from storage.database import Database
from tests.chaos.verdict import most_in_a_second
from tests.databases import sqlalchemy_url
from tests.ground import Ground
from tests.receiver import Exchange, Receiver, status
from tests.running_processes import kill_in_turn, running_processes

EVENTS = 400
RATE = 20
CONCURRENCY = 4
ANSWER_SECONDS = 0.1
OVERSHOOT = 0.05
KILLS = 4
KILLED_EVERY_SECONDS = 3.0
ARRIVAL_SECONDS = 90


class Ledger:
    """What arrived when, and how many requests were in hand at most; each takes its time."""

    def __init__(self) -> None:
        self.arrivals: dict[str, list[float]] = {"/rate": [], "/concurrency": []}
        self.in_hand = self.most_in_hand = 0

    async def __call__(self, exchange: Exchange) -> None:
        path = exchange.request.target
        self.arrivals[path].append(exchange.request.arrived_at)
        if path == "/concurrency":
            self.in_hand += 1
            self.most_in_hand = max(self.most_in_hand, self.in_hand)
            try:
                await asyncio.sleep(ANSWER_SECONDS)
            finally:
                self.in_hand -= 1
        await status(200)(exchange)


@pytest.mark.stack
@pytest.mark.timeout(300)
async def test_two_workers_and_their_crashes_overshoot_no_limit(
    database_url: str, temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    database = Database(sqlalchemy_url(database_url), pool_size=2)
    ground = Ground(database)
    await ground.add_store()
    ledger = Ledger()
    async with Receiver() as receiver, running_processes(database_url, temporal, tmp_path) as (_, workers):
        receiver.otherwise = ledger
        await ground.subscribe("CustomerUpdated", receiver.url("/rate"), rate_limit_per_second=RATE)
        await ground.subscribe("CustomerUpdated", receiver.url("/concurrency"), max_concurrency=CONCURRENCY)
        await ground.emit("CustomerUpdated", "{}", count=EVENTS)
        try:
            await kill_in_turn(workers, KILLS, KILLED_EVERY_SECONDS)
            await ground.until_statuses({"delivered": 2 * EVENTS}, ARRIVAL_SECONDS)
        finally:
            worst = most_in_a_second(ledger.arrivals["/rate"])
            took = max(ledger.arrivals["/rate"]) - min(ledger.arrivals["/rate"])
            print(
                f"\n{EVENTS} events, kills {KILLS}: at most {worst} in a second of {RATE}, {EVENTS / took:.1f} on "
                f"average; at most {ledger.most_in_hand} in hand of {CONCURRENCY}"
            )
    await database.close()
    assert worst <= RATE * (1 + OVERSHOOT)
    assert ledger.most_in_hand <= CONCURRENCY
