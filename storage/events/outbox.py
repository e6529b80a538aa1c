"""The outbox: events whose workflow has not taken them yet, claimed with a lease and under a committed name.

An event is in the outbox while `matched_at` is null. A claim writes the workflow's id, once and for all, before the
workflow is started, or meanwhile where the id follows from the event's own (`named_event`); when the lease lapses
without the event being matched, the same id is started again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.identity import event_workflow_id

OUTBOX_CHANNEL = "outbox"
"""Notified after events are committed: with nothing, or with the `named_event` that came alone."""

STORES_A_CLAIM = 300
"""Looked at by one claim: a full batch is two events of each. The next claim goes on with those behind them."""

DEPTH = 4
"""How many times as much as a batch holds is counted, all stores together, so that it is full although some have less
than their share."""

LAPSED_LOCK = 0x0B0C5  # one relay at a time looks after lapsed claims, so that each batch is handed over whole


@dataclass(frozen=True)
class ClaimedEvent:
    """A reference to an event and the workflow it was claimed for."""

    store_code: str
    event_id: UUID
    name: str
    workflow_id: str
    traceparent: str | None = None


def named_event(payload: str) -> ClaimedEvent | None:
    """The event a notification names, for a workflow of its own; None of one that names none."""
    if not payload:
        return None
    named = orjson.loads(payload)
    store_code, event_id = named["storeCode"], UUID(named["eventId"])
    workflow_id = event_workflow_id(store_code, event_id)
    return ClaimedEvent(store_code, event_id, named["name"], workflow_id, named["traceparent"])


@dataclass(frozen=True)
class Room:
    """What a relay can take on. A store is busy while more than `few` events of it wait, or when it is in `busy`.

    The others are quiet.
    `mixed` is the workflow id of a batch of quiet stores' events, `batch` of busy ones'; None: each has a workflow.
    """

    few: int
    singly: int
    mixed_room: int
    mixed: str
    batch_room: int
    batch: str | None
    busy: Sequence[str] = ()


@dataclass(frozen=True)
class Claim:
    """What was claimed. `after` is the store behind which the next claim begins, empty for the first one.

    `busy`: some store may have more waiting than a quiet one.
    """

    events: Sequence[ClaimedEvent]
    after: str
    busy: bool


@dataclass(frozen=True)
class EventBacklog:
    """Events not yet matched: how many (counted up to a limit) and the age of the oldest in seconds (0 when none)."""

    events: int
    oldest_seconds: float


# The stores that wait are found by skipping through the index, and asked in turn for one event each until there are
# enough: of a store with a long backlog only as much is read as one claim could take. What is picked is locked store by
# store, so that relays side by side pass over each other's picks instead of racing for them; and it is updated by its
# place on disk, which the lock keeps: joined with anything, the planner might read the whole log for it. A claim that
# takes nothing still says where it ended: one row without an event.
_CLAIM = text("""
WITH RECURSIVE store AS (
    (SELECT store_code, sequence AS first, 1 AS place FROM event
        WHERE matched_at IS NULL AND workflow_id IS NULL AND store_code > :after
        ORDER BY store_code, sequence LIMIT 1)
    UNION ALL
    SELECT following.*, store.place + 1 FROM store, LATERAL (
        SELECT store_code, sequence FROM event
        WHERE matched_at IS NULL AND workflow_id IS NULL AND store_code > store.store_code
        ORDER BY store_code, sequence LIMIT 1
    ) AS following WHERE store.place < :stores
), waiting AS MATERIALIZED (
    SELECT store.*, counted.events,
        counted.events > CAST(:few AS int) OR store.store_code = ANY(CAST(:busy AS text[])) AS busy
    FROM store, LATERAL (
        SELECT count(*) AS events FROM (
            SELECT FROM event WHERE matched_at IS NULL AND workflow_id IS NULL
                AND event.store_code = store.store_code AND sequence >= store.first
            ORDER BY sequence LIMIT greatest(CAST(:few AS int) + 1,
                (SELECT least(CAST(:batch_room AS int), :depth * CAST(:batch_room AS int) / count(*)) FROM store))
        ) AS unclaimed
    ) AS counted
), turn AS (
    SELECT store_code, first, busy,
        row_number() OVER (PARTITION BY busy ORDER BY round, place) AS number,
        count(*) OVER (PARTITION BY busy) AS all_of_them
    FROM waiting, generate_series(1, waiting.events) AS round
), share AS MATERIALIZED (
    SELECT store_code, first, count(*) AS events, CASE WHEN busy THEN CAST(:batch AS text)
        WHEN min(all_of_them) > :singly AND :mixed_room > 0 THEN CAST(:mixed AS text) END AS workflow_id
    FROM turn
    WHERE number <= CASE WHEN busy THEN CAST(:batch_room AS int)
        WHEN all_of_them > CAST(:singly AS int) THEN greatest(CAST(:mixed_room AS int), :singly) ELSE :singly END
    GROUP BY store_code, first, busy
), picked AS MATERIALIZED (
    SELECT unclaimed.place_on_disk FROM share, LATERAL (
        SELECT ctid AS place_on_disk FROM event WHERE matched_at IS NULL AND workflow_id IS NULL
            AND event.store_code = share.store_code AND sequence >= share.first
        ORDER BY sequence LIMIT share.events FOR UPDATE SKIP LOCKED
    ) AS unclaimed
), claimed AS (
    UPDATE event SET claimed_until = clock_timestamp() + make_interval(secs => :lease), workflow_id = coalesce(
        (SELECT share.workflow_id FROM share WHERE share.store_code = event.store_code),
        'event/' || store_code || '/' || event_id)
    WHERE ctid = ANY(ARRAY(SELECT place_on_disk FROM picked))
    RETURNING store_code, event_id, name, workflow_id, traceparent
)
SELECT claimed.*,
    (SELECT store_code FROM store WHERE place = :stores), (SELECT coalesce(bool_or(busy), false) FROM waiting)
FROM (SELECT) AS looked LEFT JOIN claimed ON true
""")

FIRST_OF_EACH_STORE = """
WITH RECURSIVE first AS (
    (SELECT store_code, sequence, accepted_at FROM event WHERE matched_at IS NULL ORDER BY store_code, sequence LIMIT 1)
    UNION ALL
    SELECT following.* FROM first, LATERAL (
        SELECT store_code, sequence, accepted_at FROM event WHERE matched_at IS NULL AND store_code > first.store_code
        ORDER BY store_code, sequence LIMIT 1
    ) AS following
)
"""
"""The first event of each store that is not matched, found by skipping through the index."""

# Of each store claims are made in order, so what lapsed lies before its first event nobody has claimed: the backlog
# behind it, which may be a million events, is not read.
_LAPSED = text(f"""
{FIRST_OF_EACH_STORE}, lapsed AS MATERIALIZED (
    SELECT claimed.workflow_id, claimed.workflow_id LIKE 'events/%' AS batch, min(claimed.claimed_until) AS since
    FROM first, LATERAL (
        SELECT workflow_id, claimed_until FROM event
        WHERE matched_at IS NULL AND event.store_code = first.store_code AND sequence < coalesce((
            SELECT sequence FROM event AS unclaimed
            WHERE matched_at IS NULL AND workflow_id IS NULL AND unclaimed.store_code = first.store_code
            ORDER BY sequence LIMIT 1
        ), 9223372036854775807) OFFSET 0
    ) AS claimed WHERE claimed.claimed_until < clock_timestamp() GROUP BY claimed.workflow_id
)
(SELECT workflow_id FROM lapsed WHERE NOT batch ORDER BY since LIMIT :singles)
UNION ALL (SELECT workflow_id FROM lapsed WHERE batch ORDER BY since LIMIT :batches)
""")

# By the ids alone: joined with anything, the planner would take the whole table for what is not matched.
_CLAIM_AGAIN = text("""
UPDATE event SET claimed_until = clock_timestamp() + make_interval(secs => :lease)
WHERE matched_at IS NULL AND workflow_id = ANY(:ids)
RETURNING store_code, event_id, name, workflow_id, traceparent
""")

_BACKLOG = text(f"""
{FIRST_OF_EACH_STORE}
SELECT (SELECT count(*) FROM (
        SELECT FROM event WHERE matched_at IS NULL ORDER BY store_code, sequence LIMIT :limit
    ) AS unmatched),
    coalesce(extract(epoch FROM clock_timestamp() - min(accepted_at)), 0)
FROM first
""")

_WAITING = text("""
SELECT count(*) FROM (
    SELECT FROM event WHERE matched_at IS NULL AND store_code = :store_code ORDER BY sequence LIMIT :limit
) AS unmatched
""")


async def claim(connection: AsyncConnection, room: Room, *, after: str = "", lease_seconds: float) -> Claim:
    """Claim events nobody has claimed, as many as there is room for: of each store oldest first, of all stores in turn.

    Busy stores get their share of the batch. The events of quiet ones are each claimed for a workflow of their own
    (`event/{store}/{event id}`) if all together are no more than `room.singly`, else all for the mixed batch; without
    room for that as many as may go singly. `after` is what the last claim said.
    """
    values = asdict(room) | {
        "after": after,
        "stores": STORES_A_CLAIM,
        "depth": DEPTH,
        "busy": list(room.busy),
        "lease": lease_seconds,
    }
    rows = (await connection.execute(_CLAIM, values)).all()
    after, busy = rows[0][-2:]
    return Claim([ClaimedEvent(*row[:-2]) for row in rows if row[0] is not None], after or "", busy)


async def claim_lapsed(
    connection: AsyncConnection, *, singles: int, batches: int, lease_seconds: float
) -> Sequence[ClaimedEvent]:
    """Claim again, under the same workflow ids, events whose lease lapsed before they were matched: those of so many
    workflows of single events, and of so many batches, what lapsed first before the rest."""
    if not await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LAPSED_LOCK}):
        return []
    workflow_ids = [row[0] for row in await connection.execute(_LAPSED, {"singles": singles, "batches": batches})]
    if not workflow_ids:
        return []
    rows = await connection.execute(_CLAIM_AGAIN, {"ids": workflow_ids, "lease": lease_seconds})
    return [ClaimedEvent(*row) for row in rows]


async def backlog(connection: AsyncConnection, *, limit: int) -> EventBacklog:
    """How much is waiting; reads at most `limit` entries of the index of unmatched events."""
    row = (await connection.execute(_BACKLOG, {"limit": limit})).one()
    return EventBacklog(events=row[0], oldest_seconds=float(row[1]))


async def waiting(connection: AsyncConnection, store_code: str, *, limit: int) -> int:
    """How many events of a store are not matched yet, up to a limit."""
    count: int = await connection.scalar(_WAITING, {"store_code": store_code, "limit": limit})
    return count
