"""Rejected events of the last week, by event id: instant and reason, without their bodies."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from storage.events.tables import RejectedEmit as RejectedRow

KEPT_DAYS = 7
PRUNED_AT_ONCE = 2000
"""Maximum number of rows deleted per call: more than one call can add, so that old rows do not accumulate."""


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that was not accepted, with a reason that contains none of its data."""

    event_id: UUID
    because: str


# SQL text, because a batch is one statement (`unnest`). Sorted like all inserts by key, so that two calls with the same
# ids do not deadlock.
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


async def note_rejected(connection: AsyncConnection, store_code: str, rejected: Collection[RejectedEvent]) -> None:
    """Store rejections, the last one per id, and delete those older than a week."""
    latest = {one.event_id: one.because for one in rejected}
    values = {"store_code": store_code, "event_ids": list(latest), "because": list(latest.values())}
    await connection.execute(_NOTE, values)
    await connection.execute(_PRUNE)


async def find_rejected(connection: AsyncConnection, store_code: str, event_id: UUID) -> tuple[datetime, str] | None:
    """Return (instant, reason) of the last rejection of that id within a week, or None."""
    query = select(col(RejectedRow.rejected_at), col(RejectedRow.because)).where(
        col(RejectedRow.store_code) == store_code,
        col(RejectedRow.event_id) == event_id,
        col(RejectedRow.rejected_at) > func.clock_timestamp() - timedelta(days=KEPT_DAYS),
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.rejected_at, row.because)
