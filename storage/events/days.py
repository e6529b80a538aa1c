"""Days: the partitions of what is filed by the day an event was accepted, and how a query finds its way into one."""

from datetime import date, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database

BODY_OF_EVENT = """LEFT JOIN LATERAL (
    SELECT event_body.data, event_body.sealed_data FROM event_body WHERE event_body.accepted_on = event.accepted_on
        AND event_body.store_code = event.store_code AND event_body.event_id = event.event_id LIMIT 1
) AS body ON true"""
"""SQL beside a row `event`: its body, nulls when that is gone.

The LIMIT keeps the planner from joining the partitions as a whole: each row probes the partition of its day, and no
other.
"""

LAST_ATTEMPT_OF_DELIVERY = """LEFT JOIN LATERAL (
    SELECT * FROM attempt WHERE attempt.accepted_on = delivery.accepted_on
        AND attempt.message_id = delivery.message_id ORDER BY number DESC LIMIT 1
) AS attempt ON true"""
"""SQL beside a row `delivery`: its latest attempt."""

KEYS = {"attempt": ("accepted_on", "message_id", "number"), "event_body": ("accepted_on", "store_code", "event_id")}
FILED = tuple(KEYS)
"""The tables that are partitioned by day, with their primary keys, and the schema their partitions stand in."""
SCHEMA = "days"
REST = "rest"
"""The partition of what comes for a day that has none: nothing is refused because nobody has made it."""

DAYS_AHEAD = 7
"""How far ahead partitions are made: a week without a worker or a migration, and still none is missing."""

ONE_DAY = timedelta(days=1)

DAYS_LOCK = 0xDA75
LOCK_TIMEOUT = "2s"
"""For the moment in which a table takes or gives up a partition, whoever reads or writes it waits behind us so long."""

_FILED_DAYS = text("""
SELECT CAST(right(partition.relname, 8) AS date) FROM pg_inherits
JOIN pg_class AS partition ON partition.oid = inhrelid
WHERE inhparent = CAST(:parent AS regclass) AND partition.relname ~ '_[0-9]{8}$' ORDER BY 1
""")


def partition(table: str, day: date | str) -> str:
    """Name of a table's partition for a day, or of its rest."""
    return f"{SCHEMA}.{table}_{day if isinstance(day, str) else day.strftime('%Y%m%d')}"


async def filed_days(connection: AsyncConnection, table: str) -> list[date]:
    """The days for which a table has a partition, oldest first."""
    return list(await connection.scalars(_FILED_DAYS, {"parent": table}))


async def make_days(database: Database, first: date, last: date) -> int:
    """Make the partitions of these days that are missing; how many were made. May run anywhere, any number of times."""
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
    """Make the partitions of today and the week after it, by the database's clock; how many were made."""
    async with database.transaction() as connection:
        today = (
            await connection.execute(text("SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)"))
        ).scalar_one()
    return await make_days(database, today, today + timedelta(days=DAYS_AHEAD))


async def _make_day(database: Database, table: str, day: date) -> bool:
    """One partition, with what was filed under the rest for want of it."""
    new, rest = partition(table, day), partition(table, REST)
    async with database.transaction() as connection:
        await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": DAYS_LOCK})
        if day in await filed_days(connection, table):
            return False
        # A row that is moved while somebody updates it would lose the update: for this moment the rest stands still.
        await connection.execute(text(f"LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE"))
        await create_unattached(connection, table, new, day)
        if table == "attempt":
            await _teach_planner(connection, new, day)
        await connection.execute(
            text(
                f"WITH moved AS (DELETE FROM {rest} WHERE accepted_on = :day RETURNING *) INSERT INTO {new} TABLE moved"
            ),
            {"day": day},
        )
        await attach(connection, table, new, day)
    return True


async def create_unattached(connection: AsyncConnection, table: str, new: str, day: date) -> None:
    """A table that can become the day's partition without being read: it takes no row of another day."""
    columns = f"LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE"
    of_day = f"CHECK (accepted_on IS NOT NULL AND accepted_on >= '{day}' AND accepted_on < '{day + ONE_DAY}')"
    await connection.execute(text(f"CREATE TABLE {new} ({columns}, {of_day})"))


async def _teach_planner(connection: AsyncConnection, new: str, day: date) -> None:
    """Have the planner know that all rows of a partition are of one day, before there are any.

    Until it is analyzed for the first time, which may take a busy minute, the planner would take the day for one of two
    hundred, and find the few attempts of a flush by reading all attempts of the day.
    """
    await connection.execute(
        text(
            f"INSERT INTO {new} (accepted_on, message_id, number, request_id, trigger, worker_id, legacy) "
            "SELECT :day, gen_random_uuid(), 1, gen_random_uuid(), 'automatic', gen_random_uuid(), false "
            "FROM generate_series(1, 300)"
        ),
        {"day": day},
    )
    await connection.execute(text(f"ANALYZE {new}"))
    await connection.execute(text(f"TRUNCATE {new}"))


async def attach(connection: AsyncConnection, table: str, new: str, day: date) -> None:
    """Make it the day's partition."""
    bounds = f"FROM ('{day}') TO ('{day + ONE_DAY}')"
    await connection.execute(text(f"ALTER TABLE {table} ATTACH PARTITION {new} FOR VALUES {bounds}"))
