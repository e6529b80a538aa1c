"""The outbox: events whose workflow has not taken them yet, claimed with a lease and under a committed name.

An event is in the outbox while `matched_at` is null. A claim writes the workflow's id, once and for all, before the
workflow is started; when the lease lapses without the event being matched, the same id is started again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

OUTBOX_CHANNEL = "outbox"
"""Notified after events are committed."""

LAPSED_LOCK = 0x0B0C5  # one relay at a time looks after lapsed claims, so that each batch is handed over whole
LAPSED_WORKFLOWS = 50  # bounds one round; the next follows at once while there are more


@dataclass(frozen=True)
class ClaimedEvent:
    """A reference to an event and the workflow it was claimed for."""

    store_code: str
    event_id: UUID
    name: str
    workflow_id: str
    traceparent: str | None = None


@dataclass(frozen=True)
class Backlog:
    """Events not yet matched: how many (counted up to a limit) and the age of the oldest in seconds (0 when none)."""

    events: int
    oldest_seconds: float


_CLAIM = text("""
WITH picked AS MATERIALIZED (
    SELECT store_code, event_id FROM event
    WHERE matched_at IS NULL AND workflow_id IS NULL
    ORDER BY sequence LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE event SET
    claimed_until = clock_timestamp() + make_interval(secs => :lease),
    workflow_id = CASE WHEN (SELECT count(*) FROM picked) <= :singly
        THEN 'event/' || event.store_code || '/' || event.event_id ELSE :batch END
FROM picked WHERE event.store_code = picked.store_code AND event.event_id = picked.event_id
RETURNING event.store_code, event.event_id, event.name, event.workflow_id, event.traceparent
""")

# Claims are made in order, so what lapsed lies before the oldest event nobody has claimed: the backlog behind it, which
# may be a million events, is not read.
_LAPSED = text("""
SELECT DISTINCT workflow_id FROM event
WHERE matched_at IS NULL AND claimed_until < clock_timestamp() AND sequence < coalesce(
    (SELECT sequence FROM event WHERE matched_at IS NULL AND workflow_id IS NULL ORDER BY sequence LIMIT 1),
    9223372036854775807)
LIMIT :most
""")

# By the ids alone: joined with anything, the planner would take the whole table for what is not matched.
_CLAIM_AGAIN = text("""
UPDATE event SET claimed_until = clock_timestamp() + make_interval(secs => :lease)
WHERE matched_at IS NULL AND workflow_id = ANY(:ids)
RETURNING store_code, event_id, name, workflow_id, traceparent
""")

_BACKLOG = text("""
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(accepted_at)), 0) FROM (
    SELECT accepted_at FROM event WHERE matched_at IS NULL ORDER BY sequence LIMIT :limit
) AS unmatched
""")

_WAITING = text("""
SELECT count(*), coalesce(bool_or(name <> ALL(CAST(:beside AS text[]))), false) FROM (
    SELECT name FROM event WHERE matched_at IS NULL ORDER BY sequence LIMIT :limit
) AS unmatched
""")


async def claim(
    connection: AsyncConnection, *, most: int, singly: int, batch_workflow_id: str, lease_seconds: float
) -> Sequence[ClaimedEvent]:
    """Claim up to `most` events nobody has claimed, oldest first.

    Up to `singly` of them are each claimed for a workflow of their own (`event/{store}/{event id}`); more than that are
    all claimed for the workflow `batch_workflow_id`.
    """
    rows = await connection.execute(
        _CLAIM, {"most": most, "singly": singly, "batch": batch_workflow_id, "lease": lease_seconds}
    )
    return [ClaimedEvent(*row) for row in rows]


async def claim_lapsed(connection: AsyncConnection, *, lease_seconds: float) -> Sequence[ClaimedEvent]:
    """Claim again, under the same workflow ids, events whose lease lapsed before they were matched."""
    if not await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LAPSED_LOCK}):
        return []
    workflow_ids = [row[0] for row in await connection.execute(_LAPSED, {"most": LAPSED_WORKFLOWS})]
    if not workflow_ids:
        return []
    rows = await connection.execute(_CLAIM_AGAIN, {"ids": workflow_ids, "lease": lease_seconds})
    return [ClaimedEvent(*row) for row in rows]


async def backlog(connection: AsyncConnection, *, limit: int) -> Backlog:
    """How much is waiting; reads at most `limit` entries of the index of unmatched events."""
    row = (await connection.execute(_BACKLOG, {"limit": limit})).one()
    return Backlog(events=row[0], oldest_seconds=float(row[1]))


async def waiting(connection: AsyncConnection, *, limit: int, beside: Sequence[str]) -> tuple[int, bool]:
    """How many events are not matched yet, up to a limit, and whether any of them has a name beside these."""
    row = (await connection.execute(_WAITING, {"limit": limit, "beside": list(beside)})).one()
    return row[0], row[1]
