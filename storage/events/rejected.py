"""Emits that were refused, by the event's id, for a week: when and why, without their bodies."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

KEPT_DAYS = 7
PRUNED_AT_ONCE = 2000
"""More than one call can add, so that what is old goes faster than anything comes."""


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that was not accepted, and why, in words that hold nothing of its data."""

    event_id: UUID
    because: str


# Sorted, as all inserts by key are, so that two calls with the same ids cannot wait for each other in a circle.
_NOTE = text("""
INSERT INTO rejected_emit (store_code, event_id, because)
SELECT :store_code, rejected.event_id, rejected.because
FROM unnest(CAST(:event_ids AS uuid[]), CAST(:because AS text[])) AS rejected (event_id, because)
ORDER BY rejected.event_id
ON CONFLICT (store_code, event_id) DO UPDATE SET because = excluded.because, rejected_at = clock_timestamp()
""")

_PRUNE = text(f"""
DELETE FROM rejected_emit WHERE (store_code, event_id) IN (
    SELECT store_code, event_id FROM rejected_emit
    WHERE rejected_at < clock_timestamp() - interval '{KEPT_DAYS} days'
    ORDER BY rejected_at LIMIT {PRUNED_AT_ONCE} FOR UPDATE SKIP LOCKED
)
""")

_FIND = text(f"""
SELECT rejected_at, because FROM rejected_emit
WHERE store_code = :store_code AND event_id = :event_id
    AND rejected_at > clock_timestamp() - interval '{KEPT_DAYS} days'
""")


async def note_rejected(connection: AsyncConnection, store_code: str, rejected: Collection[RejectedEvent]) -> None:
    """Write them down, the last refusal of an id in place of the one before, and forget what is older than a week."""
    latest = {one.event_id: one.because for one in rejected}
    values = {"store_code": store_code, "event_ids": list(latest), "because": list(latest.values())}
    await connection.execute(_NOTE, values)
    await connection.execute(_PRUNE)


async def find_rejected(connection: AsyncConnection, store_code: str, event_id: UUID) -> tuple[datetime, str] | None:
    """(when, why) an emit of that id was refused last, if it was within a week."""
    row = (await connection.execute(_FIND, {"store_code": store_code, "event_id": event_id})).one_or_none()
    return None if row is None else (row[0], row[1])
