"""Retention: deletion of old data, day by day.

The few events of a day that are retained longer are copied into new partitions, which replace the old ones; dropping
those costs the same whatever their size. Deliveries are deleted afterwards, in pages, and event ids after more than a
year. A reader finds an event with body, deliveries and attempts, or its id only.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import OPEN, DeliveryStatus
from domain.retention import RetentionRules
from storage.columns import in_list, unnest
from storage.database import Database
from storage.events import days
from storage.events.days import FILED, REST, filed_days, partition

PAGE = 2_000
"""Maximum number of rows deleted in one transaction, which takes some 50 ms."""

LOCK_TIMEOUT = "500ms"
"""Lock time-out: shorter than PostgreSQL's deadlock detection, so that of two transactions that wait for each other
retention gives up."""

_KEPT_DAYS = "coalesce(store.retention_days, :days)"
_LONGEST_DAYS = f"greatest(coalesce(store.retention_exhausted_days, :exhausted_days), {_KEPT_DAYS})"

_KEPT_LONGER = in_list((DeliveryStatus.EXHAUSTED, DeliveryStatus.HELD))

_OF_DAY = """event.accepted_at >= CAST(:day AS timestamp) AT TIME ZONE 'UTC'
    AND event.accepted_at < CAST(:day AS timestamp) AT TIME ZONE 'UTC' + interval '1 day'"""

_RULES = text(f"SELECT code, {_KEPT_DAYS} AS kept_days, {_LONGEST_DAYS} AS longest_days FROM store ORDER BY code")

# The first branch is skipped if no store retains a day of this age. The second usually finds few rows, and reads their
# bodies by key instead of scanning the day. A pending delivery that has not failed yet has an attempt without an
# outcome.
_KEEP_BODIES = f"""
INSERT INTO {{new}}
SELECT body.* FROM store JOIN {{old}} AS body ON body.store_code = store.code
WHERE CAST(:some_stay AS boolean) AND :age <= {_KEPT_DAYS}
UNION ALL
SELECT body.* FROM (
    SELECT store_code, event_id FROM event WHERE accepted_on = :day AND matched_at IS NULL
    UNION
    SELECT delivery.store_code, delivery.event_id FROM delivery JOIN store ON store.code = delivery.store_code
    WHERE delivery.accepted_on = :day AND :age <= {_LONGEST_DAYS}
        AND (delivery.status IN {_KEPT_LONGER} OR delivery.next_attempt_at IS NOT NULL)
    UNION
    SELECT delivery.store_code, delivery.event_id FROM attempt
    JOIN delivery ON delivery.message_id = attempt.message_id AND delivery.status = '{DeliveryStatus.PENDING}'
    JOIN store ON store.code = delivery.store_code
    WHERE attempt.accepted_on = :day AND attempt.outcome_at IS NULL AND :age <= {_LONGEST_DAYS}
) AS retained
JOIN store ON store.code = retained.store_code AND :age > {_KEPT_DAYS}
JOIN {{old}} AS body
    ON body.accepted_on = :day AND body.store_code = retained.store_code AND body.event_id = retained.event_id
"""

# Attempts of an erased event have no body.
_KEEP_ATTEMPTS = f"""
INSERT INTO {{new}}
SELECT attempt.* FROM store JOIN event ON event.store_code = store.code
    AND {_OF_DAY}
JOIN delivery ON delivery.event_id = event.event_id AND delivery.store_code = event.store_code
JOIN {{old}} AS attempt ON attempt.accepted_on = :day AND attempt.message_id = delivery.message_id
WHERE CAST(:some_stay AS boolean) AND :age <= {_KEPT_DAYS}
UNION ALL
SELECT attempt.* FROM {{new_bodies}} AS body
JOIN store ON store.code = body.store_code AND :age > {_KEPT_DAYS}
JOIN delivery ON delivery.event_id = body.event_id AND delivery.store_code = body.store_code
JOIN {{old}} AS attempt ON attempt.accepted_on = :day AND attempt.message_id = delivery.message_id
WHERE body.accepted_on = :day
"""

_NOTE = text("""
INSERT INTO thinned_day (accepted_on, age_days, rules) VALUES (:day, :age, :rules)
ON CONFLICT (accepted_on) DO UPDATE SET age_days = :age, rules = :rules, cleared = false
""")

_PAGE_OF_DAY = text(f"""
SELECT event.accepted_at, event.event_id FROM event JOIN store ON store.code = event.store_code
WHERE event.store_code = :store_code AND :age > {_KEPT_DAYS}
    AND {_OF_DAY}
    AND (CAST(:at AS timestamptz) IS NULL OR (event.accepted_at, event.event_id) > (:at, CAST(:id AS uuid)))
ORDER BY event.accepted_at, event.event_id LIMIT :page
""")

_DELETE_DELIVERIES = text(f"""
DELETE FROM delivery USING {unnest("given", "event_id uuid")}
WHERE delivery.store_code = :store_code AND delivery.event_id = given.event_id AND NOT EXISTS (
    SELECT FROM event_body AS body WHERE body.accepted_on = :day AND body.store_code = :store_code
        AND body.event_id = given.event_id)
RETURNING delivery.status IN {in_list(OPEN)}
""")

_FORGET_IDS = text("""
WITH old AS MATERIALIZED (
    SELECT event.store_code, event.event_id FROM event
    WHERE event.store_code = :store_code AND event.matched_at IS NOT NULL
        AND event.accepted_at < CAST(CAST(:today AS date) - CAST(:days AS integer) AS timestamp) AT TIME ZONE 'UTC'
        AND NOT EXISTS (
            SELECT FROM delivery WHERE delivery.event_id = event.event_id AND delivery.store_code = event.store_code)
        AND NOT EXISTS (
            SELECT FROM event_body AS body WHERE body.accepted_on = event.accepted_on
                AND body.store_code = event.store_code AND body.event_id = event.event_id LIMIT 1)
    ORDER BY event.accepted_at, event.event_id LIMIT :page
)
DELETE FROM event USING old WHERE event.store_code = old.store_code AND event.event_id = old.event_id
""")


class ThinDay(NamedTuple):
    """A day with data that may be deleted now, by these `rules` at this age."""

    day: date
    age_days: int
    rules: str
    thinned: bool
    """Its partitions were thinned by these rules before; deliveries still have to be deleted."""


class Thinned(NamedTuple):
    """Result of thinning a day: rows retained, and bytes freed in its partitions."""

    bodies_kept: int
    attempts_kept: int
    bytes_freed: int


Cursor = tuple[datetime, UUID]
"""Keyset cursor in a store's event log: instant of acceptance and event id."""


class ClearedPage(NamedTuple):
    """Deliveries deleted, the number of open ones among them, and the cursor of the next page (None: no more)."""

    deleted: int
    were_open: int
    more_behind: Cursor | None


async def today(connection: AsyncConnection) -> date:
    """Return the current UTC day by the database's clock, the clock of all instants in the log."""
    day: date = await connection.scalar(text("SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)"))
    return day


async def file_the_rest(database: Database) -> int:
    """Create partitions for the days with rows in the default partition, so that these days are thinned too."""
    async with database.transaction() as connection:
        parts = " UNION ".join(f"SELECT accepted_on FROM {partition(table, REST)}" for table in FILED)
        found = list(await connection.scalars(text(parts)))
    return sum([await days.make_days(database, day, day) for day in found])


async def days_to_thin(connection: AsyncConnection, rules: RetentionRules) -> list[ThinDay]:
    """Return the days with data that may be deleted, oldest first."""
    now = await today(connection)
    rows = await connection.execute(_RULES, asdict(rules))
    limits = {row.code: [row.kept_days, row.longest_days] for row in rows}
    measure = json.dumps(limits)
    done = {row.accepted_on: row for row in await connection.execute(text("TABLE thinned_day"))}
    filed = {day for table in FILED for day in await filed_days(connection, table)}
    found = []
    for day in sorted(filed | done.keys()):
        age, before = (now - day).days, done.get(day)
        if _may_go(age, limits, before):
            found.append(ThinDay(day, age, measure, thinned=False))
        elif before is not None and not before.cleared:
            found.append(ThinDay(day, before.age_days, before.rules, thinned=True))
    return found


def _may_go(age: int, limits: Mapping[str, Sequence[int]], before: Any | None) -> bool:
    """Return True if since it was thinned a day has exceeded a limit of a store, or such a limit was changed."""
    if before is None:
        return any(limit < age for of_store in limits.values() for limit in of_store)
    then = json.loads(before.rules)
    return any(
        limit < age and (before.age_days <= limit or limits[code] != then[code])
        for code in limits.keys() & then.keys()
        for limit in limits[code]
    )


async def thin_day(database: Database, thin: ThinDay, rules: RetentionRules) -> Thinned:
    """Replace the day's partitions by new ones with the retained rows, in one transaction.

    Writers to that day, and all that is written in their transactions, wait while rows are copied; all others wait for
    the exchange only, some milliseconds. Raises the database's lock time-out if another transaction holds a lock; call
    it again then.
    """
    values: dict[str, object] = {**asdict(rules), "day": thin.day, "age": thin.age_days}
    async with database.transaction() as connection:
        await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": days.DAYS_LOCK})
        await connection.execute(_NOTE, {"day": thin.day, "age": thin.age_days, "rules": thin.rules})
        filed = [table for table in FILED if thin.day in await filed_days(connection, table)]
        some_stay = text(f"SELECT EXISTS (SELECT FROM store WHERE :age <= {_KEPT_DAYS})")
        values["some_stay"] = await connection.scalar(some_stay, values)
        bodies = await _keep(connection, filed, "event_body", thin.day, _KEEP_BODIES, values)
        attempts = await _keep(connection, filed, "attempt", thin.day, _KEEP_ATTEMPTS, values)
        freed = 0
        for table, retained in (("attempt", attempts), ("event_body", bodies)):
            if table in filed:
                freed += await _exchange(connection, table, thin.day, keep=retained > 0)
    return Thinned(bodies, attempts, freed)


async def _keep(
    connection: AsyncConnection, filed: Sequence[str], table: str, day: date, statement: str, values: dict[str, object]
) -> int:
    """Copy the retained rows of a day's partition into a new table, attempts with their bodies; return how many."""
    if table not in filed:
        return 0
    old, new = partition(table, day), partition(table, f"new_{day:%Y%m%d}")
    new_bodies = partition("event_body", f"new_{day:%Y%m%d}" if "event_body" in filed else REST)
    await connection.execute(text(f"LOCK TABLE {old} IN EXCLUSIVE MODE"))
    await days.create_unattached(connection, table, new, day)
    copy = statement.format(old=old, new=new, new_bodies=new_bodies)
    retained = (await connection.execute(text(copy), values)).rowcount
    if retained:  # The index is built before the exchange, while no reader waits.
        await connection.execute(text(f"ALTER TABLE {new} ADD PRIMARY KEY ({', '.join(days.KEYS[table])})"))
    return retained


async def _exchange(connection: AsyncConnection, table: str, day: date, *, keep: bool) -> int:
    """Drop a day's partition and attach the new one, if `keep`; return the bytes freed."""
    old, new = partition(table, day), partition(table, f"new_{day:%Y%m%d}")
    sizes = "SELECT pg_total_relation_size(CAST(:old AS regclass)) - pg_total_relation_size(CAST(:new AS regclass))"
    freed = int(await connection.scalar(text(sizes), {"old": old, "new": new}) or 0)
    await connection.execute(text(f"ALTER TABLE {table} DETACH PARTITION {old}"))
    await connection.execute(text(f"DROP TABLE {old}"))
    if keep:
        await connection.execute(text(f"ALTER TABLE {new} RENAME TO {old.partition('.')[2]}"))
        await days.attach(connection, table, old, day)
    else:
        await connection.execute(text(f"DROP TABLE {new}"))
    return freed


async def clear_page(
    connection: AsyncConnection, thin: ThinDay, store_code: str, behind: Cursor | None, rules: RetentionRules
) -> ClearedPage:
    """Delete the deliveries of the day's next events without a body."""
    at, identity = behind or (None, None)
    page = {**asdict(rules), "store_code": store_code, "day": thin.day, "age": thin.age_days, "page": PAGE}
    events = (await connection.execute(_PAGE_OF_DAY, {**page, "at": at, "id": identity})).all()
    ids = {"store_code": store_code, "day": thin.day, "event_id": [row.event_id for row in events]}
    deleted = list(await connection.scalars(_DELETE_DELIVERIES, ids)) if events else []
    more = len(events) == PAGE
    return ClearedPage(len(deleted), sum(deleted), (events[-1].accepted_at, events[-1].event_id) if more else None)


async def cleared(connection: AsyncConnection, day: date) -> None:
    """Mark the day's deliveries as deleted, or delete the mark of a day without any data."""
    left = any([day in await filed_days(connection, table) for table in FILED])
    statement = "UPDATE thinned_day SET cleared = true" if left else "DELETE FROM thinned_day"
    await connection.execute(text(f"{statement} WHERE accepted_on = :day"), {"day": day})


async def forget_ids(connection: AsyncConnection, store_code: str, rules: RetentionRules) -> int:
    """Delete up to a page of a store's event ids that are old enough; return how many."""
    values = {"store_code": store_code, "today": await today(connection), "days": rules.event_id_days, "page": PAGE}
    return (await connection.execute(_FORGET_IDS, values)).rowcount
