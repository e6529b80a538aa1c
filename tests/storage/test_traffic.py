"""Attempts are counted where they are recorded: as many as the log has, whoever recorded them, kept for days."""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from domain.durations import step_of
from storage.database import Database
from storage.deliveries.figures import AttemptOutcome, CountedAttempt, count_attempts, counted, forget_old_counts
from tests.ground import STORE, Ground
from tests.receiver import Receiver, status
from tests.workbench import workbench

pytestmark = pytest.mark.usefixtures("patient_batches")


@pytest.mark.parametrize("events", [1, 60])
async def test_what_is_counted_is_what_the_log_has(
    ground: Ground, cleared_url: str, receiver: Receiver, events: int
) -> None:
    receiver.script(*[status(500 if number % 3 else 200) for number in range(events)])
    async with workbench(cleared_url, breaker_failures=1000, retry_schedule_seconds=(60,)) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", events))
        receiver.otherwise = status(500)
        await asyncio.gather(*(bench.deliver_webhook(message_id) for message_id in await bench.waiting()))
        logged = await bench.execute(
            """
            SELECT CASE WHEN attempt.status_code = 200 THEN 'delivered' WHEN attempt.number = 1 THEN 'failed'
                ELSE 'given_up' END AS outcome, attempt.duration_ms
            FROM attempt
            """
        )
        minutes = await bench.execute("SELECT outcome, step, sum(count) AS count FROM attempts_of_minute GROUP BY 1, 2")
        hours = await bench.execute("SELECT outcome, sum(count) AS count FROM attempts_of_hour GROUP BY 1")
    expected = Counter((row.outcome, step_of(row.duration_ms)) for row in logged)
    assert {(row.outcome, row.step): row.count for row in minutes} == dict(expected)
    assert {row.outcome: row.count for row in hours} == dict(Counter(row.outcome for row in logged))


async def test_two_writers_count_in_rows_of_their_own(ground: Ground) -> None:
    subscription = await ground.subscribe("CustomerUpdated", "https://receiver.example.com/")
    counts = counted([(subscription, "delivered", 12)] * 3)
    writers = [uuid4(), uuid4()]
    async with ground.database.transaction() as one, ground.database.transaction() as other:
        await count_attempts(one, writers[0], counts)
        await asyncio.wait_for(count_attempts(other, writers[1], counts), 5)
    rows = await ground.execute("SELECT writer_id, sum(count) AS count FROM attempts_of_minute GROUP BY 1")
    assert {row.writer_id: row.count for row in rows} == dict.fromkeys(writers, 3)


def test_an_attempt_is_counted_by_what_its_delivery_became() -> None:
    one = uuid4()
    statuses = ("delivered", "pending", "held", "exhausted", "cancelled", "unchanged")
    found = counted((one, status, None) for status in statuses)
    assert found == {
        CountedAttempt(one, AttemptOutcome.DELIVERED, -1): 1,
        CountedAttempt(one, AttemptOutcome.FAILED, -1): 2,
        CountedAttempt(one, AttemptOutcome.GIVEN_UP, -1): 3,
    }


async def test_counts_are_forgotten_when_nobody_is_shown_them_any_more(database: Database) -> None:
    ground = Ground(database)
    for table, start, rest in (
        ("attempts_of_minute", "minute", "store_code, step"),
        ("attempts_of_hour", "hour", "subscription_id"),
    ):
        others = f"'{STORE}', 1" if "store" in rest else f"'{uuid4()}'"
        await ground.execute(
            f"""
            INSERT INTO {table} ({start}, {rest}, outcome, writer_id, count)
            SELECT now() - age * interval '1 day', {others}, 'delivered', gen_random_uuid(), 1
            FROM generate_series(0, 20) AS age
            """
        )
    async with database.transaction() as connection:
        await forget_old_counts(connection)
    assert await ground.scalar("SELECT count(*) FROM attempts_of_minute") == 2
    assert await ground.scalar("SELECT count(*) FROM attempts_of_hour") == 8
