"""Intake of events: the insert, which is also the outbox entry; comparison of repeated ids; the backlog's size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.events.catalogue import has_secrets, mask_secrets
from domain.events.event_type import EventType
from domain.wire.jsontext import JsonValue, canonical, dump, dump_bytes
from storage.events.days import BODY_OF_EVENT
from storage.events.outbox import FIRST_OF_EACH_STORE
from storage.sealing import Sealer

EventKey: TypeAlias = tuple[str, UUID]
"""Store code and event id."""

CREATED_AT_FORMAT = 'YYYY-MM-DD"T"HH24:MI:SS"Z"'


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
        """Identity of the event: store code and event id."""
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
    return NewEvent(
        store_code=store_code,
        event_id=event_id,
        name=event_type.name,
        created_at=created_at,
        created_at_text=created_at_text,
        data=dump_bytes(data).decode(),
        sealed_data=sealed_data,
        digest=content_digest(event_type.name, data),
    )


def content_digest(name: str, masked_data: JsonValue) -> bytes:
    """Return the SHA-256 of the event's name and its canonical data with secrets masked."""
    return sha256(name.encode() + b"\n" + canonical(masked_data)).digest()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """The stored event that a repeated id is compared with; once its body was deleted, only by the digest."""

    name: str
    created_at_text: str
    data: str | None
    sealed_data: bytes | None
    digest: bytes


# Rows are inserted in the order of ids, so that transactions with the same ids do not deadlock. `sequence` is drawn
# before the sort, so that the outbox preserves the order of arrival. Both instants of a row come from one reading of
# the clock.
_INSERT = text(f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
arrived AS MATERIALIZED (
    SELECT nextval('event_sequence_seq') AS sequence, rows.*
    FROM unnest(
        CAST(:store_code AS text[]), CAST(:event_id AS uuid[]), CAST(:name AS text[]),
        CAST(:created_at AS timestamptz[]), CAST(:created_at_text AS text[]), CAST(:data AS text[]),
        CAST(:sealed_data AS bytea[]), CAST(:digest AS bytea[]), CAST(:traceparent AS text[])
    ) AS rows (store_code, event_id, name, created_at, created_at_text, data, sealed_data, digest, traceparent)
), inserted AS (
    INSERT INTO event (
        store_code, event_id, sequence, name, created_at, created_at_text, created_at_given, accepted_at,
        digest, traceparent
    ) OVERRIDING SYSTEM VALUE
    SELECT
        store_code, event_id, sequence, name, coalesce(created_at, now),
        coalesce(created_at_text, to_char(now AT TIME ZONE 'UTC', '{CREATED_AT_FORMAT}')),
        created_at_text IS NOT NULL, now, digest, traceparent
    FROM arrived, clock
    ORDER BY store_code, event_id
    ON CONFLICT (store_code, event_id) DO NOTHING
    RETURNING store_code, event_id, accepted_on
), with_body AS (
    INSERT INTO event_body (accepted_on, store_code, event_id, data, sealed_data)
    SELECT accepted_on, store_code, event_id, data, sealed_data
    FROM inserted JOIN arrived USING (store_code, event_id)
    RETURNING store_code, event_id
)
SELECT store_code, event_id FROM with_body
""")

_INSERT_COLUMNS = (
    "store_code",
    "event_id",
    "name",
    "created_at",
    "created_at_text",
    "data",
    "sealed_data",
    "digest",
    "traceparent",
)

_STORED = text(f"""
SELECT event.store_code, event.event_id, event.name, event.created_at_text, body.data, body.sealed_data, event.digest
FROM unnest(CAST(:store_codes AS text[]), CAST(:event_ids AS uuid[])) AS wanted (store_code, event_id)
JOIN event USING (store_code, event_id)
{BODY_OF_EVENT}
""")


async def insert_events(connection: AsyncConnection, events: Sequence[NewEvent]) -> frozenset[EventKey]:
    """Insert the events with a new id, in the given order, and return their keys. No id may be given twice."""
    columns = {name: [getattr(event, name) for event in events] for name in _INSERT_COLUMNS}
    rows = await connection.execute(_INSERT, columns)
    return frozenset((row.store_code, row.event_id) for row in rows)


async def stored_events(connection: AsyncConnection, keys: Sequence[EventKey]) -> Mapping[EventKey, StoredEvent]:
    """Return the events with these keys, as far as they exist."""
    rows = await connection.execute(
        _STORED, {"store_codes": [store_code for store_code, _ in keys], "event_ids": [id_ for _, id_ in keys]}
    )
    return {
        (row.store_code, row.event_id): StoredEvent(
            name=row.name,
            created_at_text=row.created_at_text,
            data=row.data,
            sealed_data=row.sealed_data,
            digest=row.digest,
        )
        for row in rows
    }


_KNOWN = text("""
SELECT event_id FROM event WHERE store_code = :store_code AND event_id = ANY(CAST(:event_ids AS uuid[]))
""")


async def known_events(connection: AsyncConnection, store_code: str, event_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Return the ids that the store's log contains."""
    rows = await connection.scalars(_KNOWN, {"store_code": store_code, "event_ids": list(event_ids)})
    return frozenset(rows)


# Unmatched events lie between the oldest unmatched sequence and the last one drawn: one index probe per store, no
# count.
_SPAN = text(f"""
{FIRST_OF_EACH_STORE}
SELECT (SELECT last_value FROM event_sequence_seq) - min(sequence) + 1 FROM first
""")


async def outbox_span(connection: AsyncConnection) -> int:
    """Return an upper bound of the number of unmatched events, at the cost of one row per store.

    It also counts events that were matched out of order, and sequence numbers drawn for repeated ids.
    """
    return await connection.scalar(_SPAN) or 0
