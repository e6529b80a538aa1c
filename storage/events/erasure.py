"""Erasure of a customer's data: bodies, the responses of receivers, expiry rows. Ids, instants and a digest remain.

There is no index of events by customer: the bodies that contain the customer's id are found by reading all bodies of
the store, day by day.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.deliveries.transitions import cancel_erased
from storage.events.days import REST, filed_days, partition

PAGE = 200
"""Maximum number of events erased in one transaction: some thousand rows with their deliveries and attempts."""

BODIES = "event_body"
EXPIRY_TABLES = ("point_transfer", "member_level", "issued_coupon")

_OF_EVENTS = "delivery.store_code = :store_code AND delivery.event_id = ANY(CAST(:ids AS uuid[]))"

_ERASE_BODIES = text("""
DELETE FROM event_body
WHERE accepted_on = :day AND store_code = :store_code AND event_id = ANY(CAST(:ids AS uuid[]))
""")

_MARK = text("""
UPDATE event SET erased_at = clock_timestamp()
WHERE store_code = :store_code AND event_id = ANY(CAST(:ids AS uuid[])) AND erased_at IS NULL
""")

_CLEAR_ATTEMPTS = text(f"""
UPDATE attempt SET response_excerpt = NULL, detail = NULL FROM delivery
WHERE {_OF_EVENTS} AND attempt.accepted_on = :day AND attempt.message_id = delivery.message_id
    AND (attempt.response_excerpt IS NOT NULL OR attempt.detail IS NOT NULL)
""")

_SENT_TO = text(f"""
SELECT delivery.url, count(*) AS deliveries FROM delivery
WHERE {_OF_EVENTS} AND delivery.attempts > 0 GROUP BY delivery.url
""")

_UNDER_WAY = text(f"""
SELECT count(*) FROM delivery JOIN attempt
    ON attempt.accepted_on = :day AND attempt.message_id = delivery.message_id AND attempt.outcome_at IS NULL
JOIN worker ON worker.id = attempt.worker_id
WHERE {_OF_EVENTS}
""")


@dataclass(slots=True)
class Erased:
    """Extent of an erasure, done or planned: counts, event ids, and the number of deliveries sent to each URL."""

    event_ids: list[UUID] = field(default_factory=list)
    deliveries_cancelled: int = 0
    attempts_cleared: int = 0
    expiry_rows: Counter[str] = field(default_factory=Counter)
    sent_to: Counter[str] = field(default_factory=Counter)


async def places(connection: AsyncConnection) -> list[date | str]:
    """Return the partitions of bodies: the days, and the default partition."""
    return [*await filed_days(connection, BODIES), REST]


async def events_of_customer(
    connection: AsyncConnection, store_code: str, customer_id: UUID, where: date | str
) -> list[tuple[date, UUID]]:
    """Return (day, id) of the store's events in one partition whose body contains the customer's id, in any role."""
    bodies = partition(BODIES, where)
    found = f"SELECT accepted_on, event_id FROM {bodies} WHERE store_code = :store_code AND data ILIKE :pattern"
    rows = await connection.execute(text(found), {"store_code": store_code, "pattern": f"%{customer_id}%"})
    return [(row.accepted_on, row.event_id) for row in rows]


async def erased_events(connection: AsyncConnection, store_code: str) -> list[tuple[date, UUID]]:
    """Return (day, id) of the store's erased events, of every customer: without a body nothing tells whose they are."""
    found = "SELECT accepted_on, event_id FROM event WHERE store_code = :store_code AND erased_at IS NOT NULL"
    return [
        (row.accepted_on, row.event_id) for row in await connection.execute(text(found), {"store_code": store_code})
    ]


async def look_at(connection: AsyncConnection, store_code: str, ids: Sequence[UUID], erased: Erased) -> None:
    """Add the events' ids and the URLs they were sent to."""
    erased.event_ids += ids
    for row in await connection.execute(_SENT_TO, {"store_code": store_code, "ids": list(ids)}):
        erased.sent_to[row.url] += row.deliveries


async def erase_events(
    connection: AsyncConnection, store_code: str, day: date, ids: Sequence[UUID], erased: Erased
) -> None:
    """Erase events of one day with bodies and responses, and cancel their deliveries. Attempts in flight end."""
    values = {"store_code": store_code, "day": day, "ids": list(ids)}
    await connection.execute(_MARK, {"store_code": store_code, "ids": list(ids)})
    erased.deliveries_cancelled += await cancel_erased(connection, store_code, ids)
    await connection.execute(_ERASE_BODIES, values)
    erased.attempts_cleared += (await connection.execute(_CLEAR_ATTEMPTS, values)).rowcount


async def clear_late_answers(connection: AsyncConnection, store_code: str, day: date, ids: Sequence[UUID]) -> int:
    """Clear the responses of attempts that were in flight; return how many are still in flight."""
    values = {"store_code": store_code, "day": day, "ids": list(ids)}
    await connection.execute(_CLEAR_ATTEMPTS, values)
    return int(await connection.scalar(_UNDER_WAY, values) or 0)


async def expiry_rows_of_customer(
    connection: AsyncConnection, store_code: str, customer_id: UUID, *, erase: bool
) -> Counter[str]:
    """Count the customer's expiry rows by table; `erase`: delete them."""
    counts: Counter[str] = Counter()
    for table in EXPIRY_TABLES:
        of_customer = f"FROM {table} WHERE store_code = :store_code AND customer_id = :customer_id"
        deleted = f"WITH deleted AS (DELETE {of_customer} RETURNING 1) SELECT count(*) FROM deleted"
        statement = text(deleted if erase else f"SELECT count(*) {of_customer}")
        counts[table] = await connection.scalar(statement, {"store_code": store_code, "customer_id": customer_id}) or 0
    return counts
