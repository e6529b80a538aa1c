"""The event log: its insert, which is also the outbox entry; accepted events with their bodies; rejected events."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.events.catalogue import has_secrets, mask_secrets
from domain.events.event_type import EventType
from domain.wire.jsontext import JsonValue, canonical, dump, dump_bytes
from storage.columns import by_column, unnest
from storage.events.days import BODY_OF_EVENT
from storage.events.outbox import FIRST_OF_EACH_STORE
from storage.events.tables import RejectedEmit
from storage.mapping import one_as
from storage.sealing import Sealer

EventKey: TypeAlias = tuple[str, UUID]
"""Store code and event id."""

CREATED_AT_FORMAT = 'YYYY-MM-DD"T"HH24:MI:SS"Z"'

REJECTED_KEPT_DAYS = 7
REJECTED_PRUNED_AT_ONCE = 2000
"""Maximum number of rows deleted per call: more than one call can add, so that old rows do not accumulate."""


@dataclass(slots=True)  # Not frozen: that would triple the cost of creating one, for each event.
class NewEvent:
    """A validated event to be stored.

    `created_at` (UTC) and `created_at_text` are None if the emitter gave none; the instant of acceptance is used then.
    `data` is compact exact JSON text, secrets masked; `sealed_data` is the unmasked text, encrypted, if there are
    secrets. `digest` is over name and canonical masked data.
    """

    store_code: str
    event_id: UUID
    name: str
    created_at: datetime | None
    created_at_text: str | None
    data: str
    sealed_data: bytes | None
    digest: bytes
    traceparent: str | None = None
    """W3C traceparent of the span in which it was emitted, if recorded."""

    @property
    def key(self) -> EventKey:
        """Store code and event id."""
        return self.store_code, self.event_id


def new_event(
    store_code: str,
    event_type: EventType,
    event_id: UUID,
    data: JsonValue,
    sealer: Sealer,
    *,
    created_at: datetime | None = None,
    created_at_text: str | None = None,
) -> NewEvent:
    """Return an event of validated data (`validate_data`), its secrets encrypted, and masked in the text."""
    sealed_data = None
    if has_secrets(event_type, data):
        sealed_data = sealer.seal(dump(data))
        data = mask_secrets(event_type, data)
    digest, text = content_digest(event_type.name, data), dump_bytes(data).decode()
    return NewEvent(store_code, event_id, event_type.name, created_at, created_at_text, text, sealed_data, digest)


def content_digest(name: str, masked_data: JsonValue) -> bytes:
    """Return the SHA-256 of the event's name and its canonical data with secrets masked."""
    return sha256(name.encode() + b"\n" + canonical(masked_data)).digest()


class StoredEvent(NamedTuple):
    """The stored event that a repeated id is compared with; once its body was deleted, only by the digest."""

    name: str
    created_at_text: str
    data: str | None
    sealed_data: bytes | None
    digest: bytes


_NEW = """event_id uuid, store_code text, name text, created_at timestamptz, created_at_text text, data text,
    sealed_data bytea, digest bytea, traceparent text"""

# Rows are inserted in the order of ids, so that transactions with the same ids do not deadlock. `sequence` is drawn
# before the sort, so that the outbox preserves the order of arrival. Both instants of a row come from one reading of
# the clock.
_INSERT = text(f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
arrived AS MATERIALIZED (
    SELECT nextval('event_sequence_seq') AS sequence, rows.* FROM {unnest("rows", _NEW)}
), inserted AS (
    INSERT INTO event (store_code, event_id, sequence, name, created_at, created_at_text, created_at_given,
        accepted_at, digest, traceparent) OVERRIDING SYSTEM VALUE
    SELECT store_code, event_id, sequence, name, coalesce(created_at, now),
        coalesce(created_at_text, to_char(now AT TIME ZONE 'UTC', '{CREATED_AT_FORMAT}')),
        created_at_text IS NOT NULL, now, digest, traceparent
    FROM arrived, clock ORDER BY store_code, event_id
    ON CONFLICT (store_code, event_id) DO NOTHING RETURNING store_code, event_id, accepted_on
)
INSERT INTO event_body (accepted_on, store_code, event_id, data, sealed_data)
SELECT accepted_on, store_code, event_id, data, sealed_data FROM inserted JOIN arrived USING (store_code, event_id)
RETURNING store_code, event_id
""")

_STORED = text(f"""
SELECT event.store_code, event.event_id, event.name, event.created_at_text, body.data, body.sealed_data, event.digest
FROM {unnest("wanted", "store_code text, event_id uuid")}
JOIN event USING (store_code, event_id)
{BODY_OF_EVENT}
""")


async def insert_events(connection: AsyncConnection, events: Sequence[NewEvent]) -> frozenset[EventKey]:
    """Insert the events with a new id, with `sequence` in the given order. Return their keys. No id may occur twice."""
    rows = await connection.execute(_INSERT, by_column(events, _NEW))
    return frozenset((row.store_code, row.event_id) for row in rows)


async def stored_events(connection: AsyncConnection, keys: Sequence[EventKey]) -> Mapping[EventKey, StoredEvent]:
    """Return the events with these keys, as far as they exist."""
    wanted = {"store_code": [store_code for store_code, _ in keys], "event_id": [event_id for _, event_id in keys]}
    rows = await connection.execute(_STORED, wanted)
    return {
        (row.store_code, row.event_id): StoredEvent(
            row.name, row.created_at_text, row.data, row.sealed_data, row.digest
        )
        for row in rows
    }


async def known_events(connection: AsyncConnection, store_code: str, event_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Return the ids that the store's log contains."""
    known = text("SELECT event_id FROM event WHERE store_code = :store_code AND event_id = ANY(CAST(:ids AS uuid[]))")
    return frozenset(await connection.scalars(known, {"store_code": store_code, "ids": list(event_ids)}))


# Unmatched events lie between the oldest unmatched sequence and the last one drawn.
_SPAN = text(f"""
{FIRST_OF_EACH_STORE}
SELECT (SELECT last_value FROM event_sequence_seq) - min(sequence) + 1 FROM first
""")


async def outbox_span(connection: AsyncConnection) -> int:
    """Return an upper bound of the number of unmatched events, at the cost of one row per store. It also counts events
    that were matched out of order, and sequence numbers drawn for repeated ids."""
    return await connection.scalar(_SPAN) or 0


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of the log. `data` is exact JSON text, secrets masked; `sealed_data` is the unmasked text, encrypted,
    if there are secrets. Both are None after erasure or the end of the body's retention."""

    event_id: UUID
    name: str
    store_code: str
    timezone: str
    """Current time zone of the store."""
    created_at_text: str
    created_at: datetime
    accepted_at: datetime
    data: str | None
    sealed_data: bytes | None
    workflow_id: str | None
    """Workflow it was claimed for, its own or a batch's; None until a relay claims it."""


# SQL text, because all queries find bodies by the same LATERAL join.
_EVENT = text(f"""
SELECT event.event_id, event.name, event.store_code, store.timezone, event.created_at_text, event.created_at,
    event.accepted_at, body.data, body.sealed_data, event.workflow_id
FROM event JOIN store ON store.code = event.store_code
{BODY_OF_EVENT}
WHERE event.store_code = :store_code AND event.event_id = :event_id
""")


async def find_event(connection: AsyncConnection, store_code: str, event_id: UUID) -> EventRow | None:
    return one_as(EventRow, await connection.execute(_EVENT, {"store_code": store_code, "event_id": event_id}))


class RejectedEvent(NamedTuple):
    """An event that was not accepted, with a reason that contains none of its data."""

    event_id: UUID
    because: str


# SQL text, because a batch is one statement (`unnest`). Sorted like all inserts by key, so that two calls with the same
# ids do not deadlock.
_NOTE = text(f"""
INSERT INTO rejected_emit (store_code, event_id, because)
SELECT :store_code, rejected.event_id, rejected.because
FROM {unnest("rejected", "event_id uuid, because text")}
ORDER BY rejected.event_id
ON CONFLICT (store_code, event_id) DO UPDATE SET because = excluded.because, rejected_at = clock_timestamp()
""")

_PRUNE = text(f"""
DELETE FROM rejected_emit WHERE (store_code, event_id) IN (
    SELECT store_code, event_id FROM rejected_emit
    WHERE rejected_at < clock_timestamp() - interval '{REJECTED_KEPT_DAYS} days'
    ORDER BY rejected_at LIMIT {REJECTED_PRUNED_AT_ONCE} FOR UPDATE SKIP LOCKED
)
""")


async def note_rejected(connection: AsyncConnection, store_code: str, rejected: Collection[RejectedEvent]) -> None:
    """Store rejections, the last one per id, and delete those older than a week."""
    latest = {one.event_id: one.because for one in rejected}
    values = {"store_code": store_code, "event_id": list(latest), "because": list(latest.values())}
    await connection.execute(_NOTE, values)
    await connection.execute(_PRUNE)


async def find_rejected(connection: AsyncConnection, store_code: str, event_id: UUID) -> tuple[datetime, str] | None:
    """Return (instant, reason) of the last rejection of that id within a week, or None."""
    query = select(col(RejectedEmit.rejected_at), col(RejectedEmit.because)).where(
        col(RejectedEmit.store_code) == store_code,
        col(RejectedEmit.event_id) == event_id,
        col(RejectedEmit.rejected_at) > func.clock_timestamp() - timedelta(days=REJECTED_KEPT_DAYS),
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.rejected_at, row.because)
