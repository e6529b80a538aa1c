"""Bodies and attempts are filed by the day of their event; nothing is refused or lost for want of a partition."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from storage.database import Database
from storage.events.days import DAYS_AHEAD, FILED, filed_days, make_coming_days, make_days, partition
from tests.ground import Ground

FAR = date(2031, 1, 1)


async def days_of(database: Database, table: str) -> list[date]:
    async with database.transaction() as connection:
        return await filed_days(connection, table)


BEGIN = text("""
INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
VALUES (:day, :id, 1, gen_random_uuid(), 'automatic', gen_random_uuid(), false)
ON CONFLICT (accepted_on, message_id, number) DO NOTHING
""")


async def begin(database: Database, day: date, message_id: UUID | None = None) -> None:
    async with database.transaction() as connection:
        await connection.execute(BEGIN, {"day": day, "id": message_id or uuid4()})


async def test_a_migrated_database_has_today_and_the_week_after(database: Database) -> None:
    today = datetime.now(UTC).date()
    for table in FILED:
        days = await days_of(database, table)
        assert len(days) == DAYS_AHEAD + 1
        assert today - days[0] <= timedelta(days=1)  # midnight may have passed since
    assert await make_coming_days(database) <= 2


async def test_what_comes_for_a_day_without_a_partition_is_filed_and_found_there_later(database: Database) -> None:
    await begin(database, FAR)
    ground = Ground(database)
    assert await ground.scalar(f"SELECT count(*) FROM {partition('attempt', 'rest')}") == 1
    assert await make_days(database, FAR, FAR) == len(FILED)
    assert await ground.scalar(f"SELECT count(*) FROM {partition('attempt', 'rest')}") == 0
    assert await ground.scalar(f"SELECT count(*) FROM {partition('attempt', FAR)}") == 1
    assert await ground.scalar("SELECT count(*) FROM attempt WHERE accepted_on = :day", day=FAR) == 1


async def test_several_may_make_the_same_days_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.events.days.LOCK_TIMEOUT", "60s")
    made = await asyncio.gather(*(make_days(database, FAR, FAR + timedelta(days=2)) for _ in range(4)))
    assert sum(made) == 3 * len(FILED)


async def test_a_number_is_taken_once_in_its_day_whoever_asks(database: Database) -> None:
    await make_days(database, FAR, FAR)
    one = uuid4()
    await asyncio.gather(*(begin(database, FAR, one) for _ in range(3)))
    assert await Ground(database).scalar("SELECT count(*) FROM attempt WHERE message_id = :id", id=one) == 1


async def test_a_day_is_not_made_while_somebody_holds_what_is_filed_under_the_rest(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.events.days.LOCK_TIMEOUT", "200ms")
    await begin(database, FAR)
    async with database.transaction() as holding:
        await holding.execute(text("SELECT FROM attempt WHERE accepted_on = :day FOR UPDATE"), {"day": FAR})
        with pytest.raises(DBAPIError, match="lock timeout"):
            await make_days(database, FAR, FAR)
    assert await make_days(database, FAR, FAR) == len(FILED)
