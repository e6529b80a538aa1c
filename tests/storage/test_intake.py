"""Storing events: new ones once, repeats found, in the order of arrival, without deadlocks, and the backlog counted."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import text

from api.events.backlog import EXACT_EVENTS, read_backlog
from storage.database import Database
from storage.events.intake import NewEvent, insert_events, outbox_span, stored_events
from tests.ground import EVENT_WITH_BODY
from tests.storage.plans import explained

DUE_SECONDS = 20


def new_event(event_id: UUID | None = None, **given: object) -> NewEvent:
    event = NewEvent(
        store_code="default",
        event_id=event_id or uuid4(),
        name="CustomerUpdated",
        created_at=None,
        created_at_text=None,
        data='{"amount":10.10}',
        sealed_data=None,
        digest=b"digest",
    )
    return replace(event, **given)


async def test_a_new_event_is_stored_as_it_came(database: Database) -> None:
    event = new_event(
        created_at=datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC),
        created_at_text="2026-01-02T03:04:05+01:00",
        sealed_data=b"sealed",
    )
    async with database.transaction() as connection:
        assert await insert_events(connection, [event]) == {event.key}
    async with database.transaction() as connection:
        row = (await connection.execute(text(f"SELECT * FROM {EVENT_WITH_BODY}"))).one()
        assert (await stored_events(connection, [event.key]))[event.key].data == event.data
    assert row.created_at == event.created_at
    assert row.created_at_text == event.created_at_text
    assert row.created_at_given is True
    assert (row.data, row.sealed_data, row.digest) == (event.data, b"sealed", b"digest")
    assert row.matched_at is None
    assert row.workflow_id is None


async def test_without_created_at_the_instant_of_acceptance_stands_for_it(database: Database) -> None:
    async with database.transaction() as connection:
        before = await connection.scalar(text("SELECT clock_timestamp()"))
        await insert_events(connection, [new_event()])
        after = await connection.scalar(text("SELECT clock_timestamp()"))
        row = (await connection.execute(text(f"SELECT * FROM {EVENT_WITH_BODY}"))).one()
    assert before <= row.accepted_at <= after
    assert row.created_at == row.accepted_at
    assert row.created_at_text == row.accepted_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert row.created_at_given is False


async def test_the_ends_of_the_calendar_are_stored_exactly(database: Database) -> None:
    microsecond = timedelta(microseconds=1)  # the very first and last ones are infinite to the driver
    ends = [datetime.min.replace(tzinfo=UTC) + microsecond, datetime.max.replace(tzinfo=UTC) - microsecond]
    events = [new_event(created_at=end, created_at_text=end.isoformat()) for end in ends]
    async with database.transaction() as connection:
        await insert_events(connection, events)
        rows = await connection.execute(text("SELECT created_at FROM event ORDER BY sequence"))
    assert [row.created_at for row in rows] == ends


async def test_sequence_follows_the_order_of_arrival_although_rows_go_in_sorted(database: Database) -> None:
    events = [new_event() for _ in range(200)]
    async with database.transaction() as connection:
        await insert_events(connection, events)
        rows = await connection.execute(text("SELECT event_id FROM event ORDER BY sequence"))
    assert [row.event_id for row in rows] == [event.event_id for event in events]


async def test_an_id_that_is_there_is_not_stored_again_and_belongs_to_its_store_alone(database: Database) -> None:
    event = new_event()
    elsewhere = replace(event, store_code="other", data="{}")
    again = replace(event, data='{"amount":11}')
    async with database.transaction() as connection:
        assert await insert_events(connection, [event]) == {event.key}
        assert await insert_events(connection, [again, elsewhere]) == {elsewhere.key}
        stored = await stored_events(connection, [event.key, elsewhere.key, ("default", uuid4())])
    assert {key: found.data for key, found in stored.items()} == {event.key: event.data, elsewhere.key: "{}"}


async def test_transactions_with_the_same_ids_in_any_order_never_deadlock(database: Database) -> None:
    events = [new_event() for _ in range(60)]
    chance = random.Random(7)

    async def insert_shuffled() -> int:
        shuffled = chance.sample(events, len(events))
        async with database.transaction() as connection:
            return len(await insert_events(connection, shuffled))

    async with asyncio.timeout(DUE_SECONDS):
        inserted = await asyncio.gather(*(insert_shuffled() for _ in range(25)))
    assert sum(inserted) == len(events)
    assert sorted(set(inserted)) == [0, len(events)]  # the first takes them all, the others find them


async def test_the_span_of_the_outbox_is_never_below_what_waits(database: Database) -> None:
    async with database.transaction() as connection:
        assert await outbox_span(connection) == 0
        events = [new_event() for _ in range(5)]
        await insert_events(connection, events)
        assert await outbox_span(connection) == 5
        await insert_events(connection, events)  # draws numbers and stores nothing
        await connection.execute(
            text("UPDATE event SET matched_at = now() WHERE event_id = :id"), {"id": events[0].event_id}
        )
        assert await outbox_span(connection) >= 4


async def _fill(database: Database, matched: int, waiting: int) -> None:
    statement = text("""
        INSERT INTO event (store_code, event_id, name, created_at, created_at_text, digest, matched_at)
        SELECT 'default', gen_random_uuid(), 'CustomerUpdated', now(), '2026-01-02T03:04:05Z', 'digest',
            CASE WHEN number <= :matched THEN now() END
        FROM generate_series(1, CAST(:total AS int)) AS number
    """)
    async with database.transaction() as connection:
        await connection.execute(statement, {"matched": matched, "total": matched + waiting})
        await connection.execute(text("ANALYZE event"))


async def test_the_backlog_is_exact_when_small_and_near_the_limit_and_never_too_low_between(database: Database) -> None:
    waiting = EXACT_EVENTS + 2_000
    await _fill(database, matched=1_000, waiting=waiting)
    async with database.transaction() as connection:
        assert (await read_backlog(connection, 5_000)).events == 5_000
        assert (await read_backlog(connection, waiting)).events == waiting
        between = await read_backlog(connection, 1_000_000)
        assert waiting <= between.events <= waiting + 1_000
        assert between.oldest_seconds > 0
        await connection.execute(
            text("UPDATE event SET matched_at = now() WHERE matched_at IS NULL AND sequence % 50 <> 0")
        )
        assert (await read_backlog(connection, 1_000_000)).events == waiting // 50


async def test_counting_the_backlog_reads_the_index_of_waiting_events_and_not_the_log(database: Database) -> None:
    await _fill(database, matched=30_000, waiting=300)
    async with database.transaction() as connection, explained(connection) as plans:
        assert (await read_backlog(connection, 1_000_000)).events == 300
        await outbox_span(connection)
    assert len(plans) == 2
    for plan in plans:
        assert "event_unmatched" in plan
        assert "Seq Scan on event " not in plan
