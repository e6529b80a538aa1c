"""Rounds of the installation are made by one live worker at a time; the workers take turns."""

import asyncio
import time
from uuid import UUID, uuid4

from sqlalchemy import text

from storage.database import Database
from storage.operations.workers import touch
from temporal.periodic import run_in_turns
from tests.deadlines import eventually

WORKERS = 3


async def rounds(database: Database, every_seconds: float, workers: int) -> list[UUID]:
    """Run three live workers until so many of them have made a round; the worker of each round."""
    made: list[UUID] = []
    live = [uuid4() for _ in range(WORKERS)]
    async with database.transaction() as connection:
        for worker_id in live:
            await touch(connection, worker_id)
        await connection.execute(text("UPDATE worker SET seen_at = now() + interval '1 minute'"))

    async def take_turns(worker_id: UUID) -> None:
        async def note() -> None:
            made.append(worker_id)

        await run_in_turns("round", note, database, worker_id, every_seconds=every_seconds)

    async def enough() -> bool:
        return len(set(made)) >= workers

    running = [asyncio.create_task(take_turns(worker_id)) for worker_id in live]
    try:
        await eventually(enough, 20, "the rounds")
        await asyncio.sleep(0.2)  # in which a second worker would make the same round
    finally:
        for one in running:
            one.cancel()
    return made


async def test_a_round_is_made_by_one_worker(database: Database) -> None:
    assert len(await rounds(database, every_seconds=86_400, workers=1)) == 1


async def test_every_live_worker_has_its_turn(database: Database) -> None:
    assert len(set(await rounds(database, every_seconds=0.2, workers=WORKERS))) == WORKERS


async def test_the_turn_of_a_worker_that_died_is_taken_over(database: Database) -> None:
    day = 86_400
    made: list[UUID] = []
    workers = sorted(uuid4() for _ in range(2))
    dead = workers[int(time.time() // day) % 2]
    async with database.transaction() as connection:
        for worker_id in workers:
            await touch(connection, worker_id)
        alive = "UPDATE worker SET seen_at = now() + interval '1 minute' WHERE id <> :dead"
        await connection.execute(text(alive), {"dead": dead})
    [survivor] = set(workers) - {dead}

    async def note() -> None:
        made.append(survivor)

    async def taken_over() -> bool:
        return made == [survivor]

    running = asyncio.create_task(run_in_turns("round", note, database, survivor, every_seconds=day))
    try:
        await eventually(taken_over, 20, "the round of the survivor")
    finally:
        running.cancel()
