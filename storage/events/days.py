"""Partitions by the day of an event's acceptance: creation, and SQL that probes a single one."""

from datetime import date, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database


def body_of_event(condition: str = "") -> str:
    """Return SQL joined to a row `event`: its body under a further condition, nulls if it was deleted. The LIMIT keeps
    the planner from joining whole partitions: each row probes the partition of its day only."""
    return f"""LEFT JOIN LATERAL (
    SELECT event_body.data, event_body.sealed_data FROM event_body WHERE event_body.accepted_on = event.accepted_on
        AND event_body.store_code = event.store_code AND event_body.event_id = event.event_id {condition} LIMIT 1
) AS body ON true"""


BODY_OF_EVENT = body_of_event()
LAST_ATTEMPT_OF_DELIVERY = """LEFT JOIN LATERAL (
    SELECT * FROM attempt WHERE attempt.accepted_on = delivery.accepted_on
        AND attempt.message_id = delivery.message_id ORDER BY number DESC LIMIT 1
) AS attempt ON true"""
"""SQL joined to a row `delivery`: its latest attempt."""

KEYS = {"attempt": ("accepted_on", "message_id", "number"), "event_body": ("accepted_on", "store_code", "event_id")}
"""Primary keys of the tables that are partitioned by day (`FILED`)."""

FILED = tuple(KEYS)
SCHEMA = "days"

REST = "rest"
"""Default partition, for rows of a day without a partition, so that no insert fails for want of one."""

DAYS_AHEAD = 7
"""Days for which partitions are created in advance: none is missing after a week without a worker or a migration."""

ONE_DAY = timedelta(days=1)

DAYS_LOCK = 0xDA75
LOCK_TIMEOUT = "2s"
"""Lock time-out of attaching or detaching a partition: readers and writers of the table queue behind the lock."""

_FILED_DAYS = text("""
SELECT CAST(right(partition.relname, 8) AS date) FROM pg_inherits
JOIN pg_class AS partition ON partition.oid = inhrelid
WHERE inhparent = CAST(:parent AS regclass) AND partition.relname ~ '_[0-9]{8}$' ORDER BY 1
""")


def partition(table: str, day: date | str) -> str:
    """Return the name of a table's partition for a day, or of its default partition."""
    return f"{SCHEMA}.{table}_{day if isinstance(day, str) else day.strftime('%Y%m%d')}"


async def filed_days(connection: AsyncConnection, table: str) -> list[date]:
    """Return the days for which a table has a partition, oldest first."""
    return list(await connection.scalars(_FILED_DAYS, {"parent": table}))


async def make_days(database: Database, first: date, last: date) -> int:
    """Create the missing partitions of these days; return how many. Safe to repeat and to run concurrently."""
    made = 0
    for table in FILED:
        async with database.transaction() as connection:
            known = set(await filed_days(connection, table))
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            if day not in known:
                made += await _make_day(database, table, day)
    return made


async def make_coming_days(database: Database) -> int:
    """Create the partitions of today and the following week, by the database's clock; return how many."""
    async with database.transaction() as connection:
        today = await connection.scalar(text("SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)"))
    return await make_days(database, today, today + timedelta(days=DAYS_AHEAD))


async def _make_day(database: Database, table: str, day: date) -> bool:
    """Create one partition and move its day's rows there from the default partition."""
    new, rest = partition(table, day), partition(table, REST)
    async with database.transaction() as connection:
        await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": DAYS_LOCK})
        if day in await filed_days(connection, table):
            return False
        # A concurrent update of a row that is being moved would be lost, so the default partition is locked meanwhile.
        await connection.execute(text(f"LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE"))
        await create_unattached(connection, table, new, day)
        if table == "attempt":
            await _teach_planner(connection, new, day)
        moved = f"WITH moved AS (DELETE FROM {rest} WHERE accepted_on = :day RETURNING *) INSERT INTO {new} TABLE moved"
        await connection.execute(text(moved), {"day": day})
        await attach(connection, table, new, day)
    return True


async def create_unattached(connection: AsyncConnection, table: str, new: str, day: date) -> None:
    """Create a table that only accepts the day's rows, so that it can be attached as a partition without a scan."""
    columns = f"LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE"
    of_day = f"CHECK (accepted_on IS NOT NULL AND accepted_on >= '{day}' AND accepted_on < '{day + ONE_DAY}')"
    await connection.execute(text(f"CREATE TABLE {new} ({columns}, {of_day})"))


async def _teach_planner(connection: AsyncConnection, new: str, day: date) -> None:
    """Analyze a partition with sample rows, so that the planner knows that all of its rows have the same day.

    Without statistics, until the first ANALYZE, which may take a busy minute, the planner assumes 200 distinct days and
    reads all attempts of the day to find the few of a flush.
    """
    samples = f"""
        INSERT INTO {new} (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
        SELECT :day, gen_random_uuid(), 1, gen_random_uuid(), 'automatic', gen_random_uuid(), false
        FROM generate_series(1, 300)"""
    await connection.execute(text(samples), {"day": day})
    await connection.execute(text(f"ANALYZE {new}"))
    await connection.execute(text(f"TRUNCATE {new}"))


async def attach(connection: AsyncConnection, table: str, new: str, day: date) -> None:
    """Attach a table as the day's partition."""
    bounds = f"FROM ('{day}') TO ('{day + ONE_DAY}')"
    await connection.execute(text(f"ALTER TABLE {table} ATTACH PARTITION {new} FOR VALUES {bounds}"))
