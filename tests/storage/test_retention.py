"""What is too old goes and nothing before its time: bodies, deliveries and attempts together, ids much later."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from domain.retention import RetentionRules
from storage.database import Database
from storage.deliveries.matching import match
from storage.events.days import FILED, filed_days, partition
from storage.events.retention import (
    clear_page,
    cleared,
    days_to_thin,
    file_the_rest,
    forget_ids,
    thin_day,
)
from tests.databases import cloned_database
from tests.ground import STORE, Ground
from tests.old_days import day_of, old_event

RULES = RetentionRules(days=30, exhausted_days=90, event_id_days=400)
OTHER = "other"


@pytest.fixture
async def ground(database_template: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    monkeypatch.setattr("storage.events.retention.LOCK_TIMEOUT", "30s")  # autovacuum may hold a table for a moment
    async with cloned_database(database_template) as url:
        database = Database(url, pool_size=5)
        ground = Ground(database)
        await ground.add_store()
        yield ground
        await database.close()


async def apply(ground: Ground, rules: RetentionRules = RULES) -> list[date]:
    """What the activities do, one day after the other; the days that were thinned."""
    thinned = []
    while True:
        async with ground.database.transaction() as connection:
            due = await days_to_thin(connection, rules)
        if not due:
            return thinned
        if not due[0].thinned:
            await thin_day(ground.database, due[0], rules)
            thinned.append(due[0].day)
        for store in (STORE, OTHER):
            async with ground.database.transaction() as connection:
                await clear_page(connection, due[0], store, None, rules)
        async with ground.database.transaction() as connection:
            await cleared(connection, due[0].day)


async def left(ground: Ground, *events: UUID) -> list[tuple[bool, int, int]]:
    """Of each event: whether its body is there, its deliveries and their attempts."""
    found = []
    for event in events:
        body = await ground.scalar("SELECT count(*) FROM event_body WHERE event_id = :id", id=event)
        deliveries = await ground.execute("SELECT message_id FROM delivery WHERE event_id = :id", id=event)
        ids = [row.message_id for row in deliveries]
        attempts = await ground.scalar("SELECT count(*) FROM attempt WHERE message_id = ANY(:ids)", ids=ids)
        found.append((body == 1, len(deliveries), attempts))
    return found


GONE = (False, 0, 0)


async def test_what_arrived_goes_a_day_after_its_days_and_its_id_stays(ground: Ground) -> None:
    kept, gone = await old_event(ground, 30, "delivered"), await old_event(ground, 31, "delivered", "cancelled")
    assert await apply(ground) == [day_of(31)]
    assert await left(ground, kept, gone) == [(True, 1, 1), GONE]
    assert await ground.scalar("SELECT count(*) FROM event") == 2


@pytest.mark.parametrize("status", ["exhausted", "held", "pending"])
async def test_what_did_not_arrive_everywhere_stays_longer_with_all_that_belongs_to_it(
    ground: Ground, status: str
) -> None:
    event, beside = await old_event(ground, 31, status, "delivered"), await old_event(ground, 31, "delivered")
    old = await old_event(ground, 91, status)
    await apply(ground)
    assert await left(ground, event, beside, old) == [(True, 2, 2), GONE, GONE]


async def test_what_no_worker_has_taken_stays_however_old_it_is(ground: Ground) -> None:
    waiting = await old_event(ground, 500, matched=False)
    await apply(ground)
    assert await left(ground, waiting) == [(True, 0, 0)]
    async with ground.database.transaction() as connection:
        assert await forget_ids(connection, STORE, RULES) == 0


async def test_a_store_may_keep_things_longer_or_less_long_than_others(ground: Ground) -> None:
    await ground.add_store(OTHER)
    await ground.execute("UPDATE store SET retention_days = 5, retention_exhausted_days = 6 WHERE code = :o", o=OTHER)
    ours, theirs = await old_event(ground, 10, "delivered"), await old_event(ground, 10, "exhausted", store=OTHER)
    young = await old_event(ground, 6, "exhausted", "delivered", store=OTHER)
    await apply(ground)
    assert await left(ground, ours, theirs, young) == [(True, 1, 1), GONE, (True, 2, 2)]


async def test_exhausted_days_below_the_days_shorten_nothing(ground: Ground) -> None:
    event = await old_event(ground, 20, "exhausted")
    await apply(ground, RetentionRules(30, 10, 400))
    assert await left(ground, event) == [(True, 1, 1)]


async def test_an_erased_event_keeps_its_deliveries_as_long_as_others(ground: Ground) -> None:
    young, old = (
        await old_event(ground, 30, "cancelled", erased=True),
        await old_event(ground, 31, "cancelled", erased=True),
    )
    await apply(ground)
    assert await left(ground, young, old) == [(False, 1, 1), GONE]


async def test_a_day_is_read_again_only_when_something_of_it_may_go(ground: Ground) -> None:
    event = await old_event(ground, 31, "exhausted")
    assert await apply(ground) == [day_of(31)]
    assert await apply(ground) == []
    await ground.execute("UPDATE store SET retention_exhausted_days = 40")
    assert await apply(ground) == [day_of(31)]  # by the new measure nothing goes yet
    assert await left(ground, event) == [(True, 1, 1)]
    await ground.execute("UPDATE store SET retention_exhausted_days = 30")
    assert await apply(ground) == [day_of(31)]
    assert await left(ground, event) == [GONE]


async def test_of_a_day_of_which_nothing_is_left_no_table_is_left(ground: Ground) -> None:
    await old_event(ground, 100, "delivered")
    await apply(ground)
    async with ground.database.transaction() as connection:
        assert [day_of(100) in await filed_days(connection, table) for table in FILED] == [False, False]
    assert await ground.scalar("SELECT count(*) FROM thinned_day") == 0
    names = "SELECT count(*) FROM pg_class WHERE relnamespace = 'days'::regnamespace AND relname LIKE '%new%'"
    assert await ground.scalar(names) == 0


async def test_deliveries_left_over_by_a_crash_are_dealt_with_by_the_next_run(ground: Ground) -> None:
    event = await old_event(ground, 31, "delivered")
    async with ground.database.transaction() as connection:
        [due] = await days_to_thin(connection, RULES)
    await thin_day(ground.database, due, RULES)
    assert await left(ground, event) == [(False, 1, 0)]
    assert await apply(ground) == []
    assert await left(ground, event) == [GONE]


async def test_a_day_made_of_what_was_kept_takes_attempts_as_before(ground: Ground) -> None:
    await old_event(ground, 31, "exhausted")
    await apply(ground)
    for number in (1, 2):
        statement = """
            INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
            SELECT accepted_on, message_id, :number, message_id, 'manual', message_id, false FROM delivery
            ON CONFLICT DO NOTHING RETURNING number
        """
        assert len(await ground.execute(statement, number=number)) == number - 1
    assert await ground.scalar(f"SELECT count(*) FROM {partition('attempt', day_of(31))}") == 2


async def test_what_came_for_a_day_without_a_partition_goes_too(ground: Ground) -> None:
    await ground.execute(
        "INSERT INTO event_body VALUES (:day, :store, gen_random_uuid(), '{}')", day=day_of(200), store=STORE
    )
    assert await file_the_rest(ground.database) == len(FILED)
    assert await apply(ground) == [day_of(200)]
    assert await ground.scalar("SELECT count(*) FROM event_body") == 0


async def test_thinning_waits_for_nobody_for_long_and_can_be_tried_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await old_event(ground, 31, "delivered")
    async with ground.database.transaction() as connection:
        [due] = await days_to_thin(connection, RULES)
    async with ground.database.transaction() as holding:
        await holding.execute(text("UPDATE attempt SET detail = 'late' WHERE accepted_on = :day"), {"day": due.day})
        with monkeypatch.context() as patch:
            patch.setattr("storage.events.retention.LOCK_TIMEOUT", "500ms")
            with pytest.raises(DBAPIError, match="lock timeout"):
                await thin_day(ground.database, due, RULES)
    assert await left(ground, event) == [(True, 1, 1)]
    assert await apply(ground) == [day_of(31)]


async def test_while_an_old_day_is_copied_what_is_accepted_now_goes_on(ground: Ground) -> None:
    """By statements prepared long ago, too: their plans name the day of today alone."""
    await old_event(ground, 31, "delivered")
    await ground.subscribe("CustomerUpdated", "https://receiver.example/hook")

    async def taken() -> int:
        [event] = await ground.emit("CustomerUpdated", "{}")
        async with ground.database.transaction() as connection:
            made = await match(connection, [(STORE, event)], worker_id=uuid4(), may_begin=lambda _: True)
        return len(made)

    for _ in range(12):  # more than PostgreSQL plans anew for certain
        assert await taken() == 1
    async with ground.database.transaction() as copying:
        for table in FILED:
            await copying.execute(text(f"LOCK TABLE {partition(table, day_of(31))} IN EXCLUSIVE MODE"))
        assert await asyncio.wait_for(taken(), 10) == 1


async def test_ids_are_forgotten_after_more_than_a_year_and_not_before(ground: Ground) -> None:
    await old_event(ground, 401, "delivered")
    kept = await old_event(ground, 399, "delivered")
    await apply(ground)
    async with ground.database.transaction() as connection:
        assert await forget_ids(connection, STORE, RULES) == 1
    rows: list[Any] = await ground.execute("SELECT event_id FROM event")
    assert [row.event_id for row in rows] == [kept]


async def test_a_new_store_makes_no_old_day_be_read_again(ground: Ground) -> None:
    await old_event(ground, 31, "exhausted")
    assert await apply(ground) == [day_of(31)]
    await ground.add_store("made-today")
    assert await apply(ground) == []


async def test_what_has_failed_and_waits_for_a_retry_stays_and_so_does_what_was_never_answered(ground: Ground) -> None:
    failed, begun = await old_event(ground, 31, "pending"), await old_event(ground, 31, "pending")
    await ground.execute(
        "UPDATE attempt SET outcome_at = now() FROM delivery WHERE delivery.message_id = attempt.message_id "
        "AND delivery.event_id = :id",
        id=failed,
    )
    await ground.execute("UPDATE delivery SET next_attempt_at = now() WHERE event_id = :id", id=failed)
    await apply(ground)
    assert await left(ground, failed, begun) == [(True, 1, 1), (True, 1, 1)]


async def test_a_store_that_keeps_its_log_longer_keeps_attempts_of_erased_events_too(ground: Ground) -> None:
    await ground.add_store(OTHER)
    await ground.execute("UPDATE store SET retention_days = 100 WHERE code = :o", o=OTHER)
    gone = await old_event(ground, 31, "delivered")
    erased = await old_event(ground, 31, "cancelled", store=OTHER, erased=True)
    whole = await old_event(ground, 31, "delivered", store=OTHER)
    await apply(ground)
    assert await left(ground, gone, erased, whole) == [GONE, (False, 1, 1), (True, 1, 1)]
