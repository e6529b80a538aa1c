"""The outbox: accepted events that no workflow has matched yet, claimed with a lease and a committed workflow id.

An event is in the outbox while `matched_at` is null. A claim commits the id of its workflow, which never changes,
before the workflow is started. If the lease lapses before the event is matched, the same id is started again.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.identity import BATCH_PREFIX, SINGLE_PREFIX
from storage.database import Database
from storage.mapping import rows_as
from storage.unavailable import BROKEN_CONNECTION, in_words

OUTBOX_CHANNEL = "outbox"
"""Channel of outbox notifications, sent without a payload after events are committed."""

STORES_A_CLAIM = 300
"""Maximum number of stores per claim, so that a batch of the default size holds at least one event of each. The next
claim resumes behind them, or behind as many as the batch may have events."""

DEPTH = 4
"""Multiple of the batch size that is counted over all stores together, so that a batch is full although some stores
have less than an even share."""

LAPSED_LOCK = 0x0B0C5  # only one relay at a time claims lapsed events again, so that a batch is not split


class ClaimedEvent(NamedTuple):
    """A reference to an event and the workflow it was claimed for."""

    store_code: str
    event_id: UUID
    name: str
    workflow_id: str
    traceparent: str | None = None
    urls: tuple[str, ...] = ()
    """URLs subscribed to an event claimed for a workflow of its own, at the time of the claim."""


class ClaimLimits(NamedTuple):
    """Maximum number of events of one claim.

    `singles` events get a workflow each, if no more are waiting; otherwise `batch_events` share the workflow `batch_id`
    (None: each gets a workflow of its own). With `batch_events` 0 only stores with at most `singles` waiting events are
    claimed from, so that a large backlog is left for a batch.
    """

    singles: int
    batch_events: int
    batch_id: str | None


class Claim(NamedTuple):
    """Claimed events. `after` is the store behind which the next claim resumes, empty to begin with the first store.

    `more`: the stores read have more waiting events than this claim took.
    """

    events: Sequence[ClaimedEvent]
    after: str
    more: bool


class EventBacklog(NamedTuple):
    """Number of unmatched events (counted up to a limit), and age of the oldest in seconds (0 if there are none)."""

    events: int
    oldest_seconds: float


_CLAIMED = f"""store_code, event_id, name, workflow_id, traceparent,
CASE WHEN workflow_id LIKE '{SINGLE_PREFIX}%' THEN ARRAY(
    SELECT url FROM subscription
    WHERE subscription.store_code = event.store_code AND event_name = event.name AND deleted_at IS NULL
    LIMIT 50
) ELSE '{{}}' END AS urls"""
"""The columns of `ClaimedEvent`."""

# Stores with waiting events are found by a skip scan of the index and served round robin, one event each, until the
# limit is reached: of a store with a large backlog only as much is read as one claim could take. Rows are locked store
# by store with SKIP LOCKED, so that concurrent relays skip each other's rows, and updated by ctid, which the lock keeps
# valid: with a join the planner might read the whole event log. A claim that takes nothing still returns one row
# without an event, with the cursor.
_CLAIM = text(f"""
WITH RECURSIVE store AS (
    (SELECT store_code, sequence AS first, 1 AS nth FROM event
        WHERE matched_at IS NULL AND workflow_id IS NULL AND store_code > :after
        ORDER BY store_code, sequence LIMIT 1)
    UNION ALL
    SELECT following.*, store.nth + 1 FROM store, LATERAL (
        SELECT store_code, sequence FROM event
        WHERE matched_at IS NULL AND workflow_id IS NULL AND store_code > store.store_code
        ORDER BY store_code, sequence LIMIT 1
    ) AS following WHERE store.nth < :stores
), waiting AS MATERIALIZED (
    SELECT store.*, counted.events FROM store, LATERAL (
        SELECT count(*) AS events FROM (
            SELECT FROM event WHERE matched_at IS NULL AND workflow_id IS NULL
                AND event.store_code = store.store_code AND sequence >= store.first
            ORDER BY sequence LIMIT 1 + greatest(CAST(:singles AS int), (SELECT least(
                CAST(:batch_events AS int), :depth * CAST(:batch_events AS int) / count(*)) FROM store))
        ) AS unclaimed
    ) AS counted
), ranked AS (
    SELECT store_code, first, row_number() OVER (ORDER BY round, nth) AS number,
        CAST(:batch_events AS int) > 0 AND count(*) OVER () > CAST(:singles AS int) AS batched
    FROM waiting, generate_series(1, waiting.events) AS round
    WHERE CAST(:batch_events AS int) > 0 OR waiting.events <= CAST(:singles AS int)
), share AS MATERIALIZED (
    SELECT store_code, first, count(*) AS events, CASE WHEN batched THEN CAST(:batch_id AS text) END AS workflow_id
    FROM ranked WHERE number <= CASE WHEN batched THEN CAST(:batch_events AS int) ELSE CAST(:singles AS int) END
    GROUP BY store_code, first, batched
), picked AS MATERIALIZED (
    SELECT unclaimed.row_ctid FROM share, LATERAL (
        SELECT ctid AS row_ctid FROM event WHERE matched_at IS NULL AND workflow_id IS NULL
            AND event.store_code = share.store_code AND sequence >= share.first
        ORDER BY sequence LIMIT share.events FOR UPDATE SKIP LOCKED
    ) AS unclaimed
), claimed AS (
    UPDATE event SET claimed_until = clock_timestamp() + make_interval(secs => :lease), workflow_id = coalesce(
        (SELECT share.workflow_id FROM share LIMIT 1), '{SINGLE_PREFIX}' || store_code || '/' || event_id)
    WHERE ctid = ANY(ARRAY(SELECT row_ctid FROM picked))
    RETURNING {_CLAIMED}
)
SELECT claimed.*, coalesce((SELECT store_code FROM store WHERE nth = least(
        CAST(:stores AS int), coalesce(nullif(CAST(:batch_events AS int), 0), :stores))), '') AS after,
    coalesce((SELECT sum(events) FROM waiting), 0) > coalesce((SELECT sum(events) FROM share), 0) AS more
FROM (SELECT) AS one_row LEFT JOIN claimed ON true
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
"""The first unmatched event of each store, by a skip scan of the index."""

# Claims take the events of a store in order, so lapsed claims lie before its first unclaimed event: the backlog behind
# it, which may be a million events, is not read.
_LAPSED = text(f"""
{FIRST_OF_EACH_STORE}, lapsed AS MATERIALIZED (
    SELECT claimed.workflow_id, claimed.workflow_id LIKE '{BATCH_PREFIX}%' AS batch, min(claimed.claimed_until) AS since
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

# Rows are locked in the order of matching, else the two could wait for each other. No join: with one, the planner would
# read the whole table to find the unmatched events.
_CLAIM_AGAIN = text(f"""
WITH locked AS MATERIALIZED (
    SELECT ctid AS row_ctid FROM event WHERE matched_at IS NULL AND workflow_id = ANY(:ids)
    ORDER BY sequence FOR UPDATE
)
UPDATE event SET claimed_until = clock_timestamp() + make_interval(secs => :lease)
WHERE ctid = ANY(ARRAY(SELECT row_ctid FROM locked))
RETURNING {_CLAIMED}
""")

_BACKLOG = text(f"""
{FIRST_OF_EACH_STORE}
SELECT (SELECT count(*) FROM (
        SELECT FROM event WHERE matched_at IS NULL ORDER BY store_code, sequence LIMIT :limit
    ) AS unmatched) AS events,
    CAST(coalesce(extract(epoch FROM clock_timestamp() - min(accepted_at)), 0) AS float8) AS oldest_seconds
FROM first
""")


async def claim(connection: AsyncConnection, limits: ClaimLimits, *, after: str = "", lease_seconds: float) -> Claim:
    """Claim waiting events within the limits: oldest first within a store, round robin over stores.

    An event claimed for a workflow of its own gets the id `event/{store}/{event id}`. `after` is the cursor that the
    previous claim returned.
    """
    values = limits._asdict() | {"after": after, "stores": STORES_A_CLAIM, "depth": DEPTH, "lease": lease_seconds}
    rows = (await connection.execute(_CLAIM, values)).all()
    return Claim([_claimed(row) for row in rows if row.event_id is not None], rows[0].after, rows[0].more)


async def claim_lapsed(
    connection: AsyncConnection, *, singles: int, batches: int, lease_seconds: float
) -> Sequence[ClaimedEvent]:
    """Claim again, under the same workflow ids, events whose lease lapsed before they were matched. At most `singles`
    workflows of one event and `batches` of many; none while another relay does the same."""
    if not await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LAPSED_LOCK}):
        return []
    workflow_ids = list(await connection.scalars(_LAPSED, {"singles": singles, "batches": batches}))
    if not workflow_ids:
        return []
    rows = await connection.execute(_CLAIM_AGAIN, {"ids": workflow_ids, "lease": lease_seconds})
    return [_claimed(row) for row in rows]


def _claimed(row: Row[Any]) -> ClaimedEvent:
    return ClaimedEvent(row.store_code, row.event_id, row.name, row.workflow_id, row.traceparent, tuple(row.urls))


async def backlog(connection: AsyncConnection, *, limit: int) -> EventBacklog:
    """Return the size and age of the outbox; reads at most `limit` entries of the index of unmatched events."""
    return next(rows_as(EventBacklog, await connection.execute(_BACKLOG, {"limit": limit})))


async def waiting(connection: AsyncConnection, store_code: str, *, limit: int) -> int:
    """Return the number of unmatched events of a store, counted up to a limit."""
    waiting = "SELECT FROM event WHERE matched_at IS NULL AND store_code = :store_code ORDER BY sequence LIMIT :limit"
    counted = text(f"SELECT count(*) FROM ({waiting}) AS unmatched")
    count: int = await connection.scalar(counted, {"store_code": store_code, "limit": limit})
    return count


NOTIFY_INTERVAL_SECONDS = 0.02
"""Minimum time between two notifications. It bounds their rate, and adds at most this to an event's latency."""

NOTIFY_SECONDS = 2.0
"""Time-out of a NOTIFY. The events are stored already, so there is no reason to wait for a slower server."""

RECONNECT_SECONDS = 1.0
"""Pause after a broken connection, so that a process tries a server that is down at most once a second."""

_log = logging.getLogger(__name__)


class OutboxNotifier:
    """Debounced outbox notifications, which wake a sleeping relay. `notify` neither waits nor raises.

    A NOTIFY inside each commit takes a server-wide lock and cost more than half of the throughput when measured. So it
    is sent on a connection of its own, after the commit. A lost one delays the relay by one poll interval.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        self._due = False
        self._closing = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    def notify(self) -> None:
        """Schedule a notification, after events were committed."""
        self._due = True
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_while_due(), name="outbox-notifier")

    async def close(self) -> None:
        """Send the notification that is due and close the connection."""
        self._closing.set()
        if self._sending is not None:
            await self._sending
        if self._connection is not None:
            with suppress(*BROKEN_CONNECTION):
                await self._connection.close(timeout=NOTIFY_SECONDS)
            self._connection = None

    async def _send_while_due(self) -> None:
        """Send notifications until none becomes due within an interval."""
        while self._due:
            self._due = False
            try:
                await self._send()
            except BROKEN_CONNECTION as error:
                _log.warning("relay not notified (%s), it polls meanwhile", in_words(error))
                self._drop_connection()
                self._due = True
                pause = RECONNECT_SECONDS
            else:
                pause = NOTIFY_INTERVAL_SECONDS
            if self._closing.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closing.wait()

    async def _send(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.listener()
        await self._connection.execute(f"NOTIFY {OUTBOX_CHANNEL}", timeout=NOTIFY_SECONDS)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
