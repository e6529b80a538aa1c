"""The event log: accepted events with their bodies."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.events.days import BODY_OF_EVENT
from storage.mapping import one_as


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of the log.

    `data` is exact JSON text, secrets masked; `sealed_data` is the unmasked text, encrypted, if there are secrets. Both
    are None after erasure or the end of the body's retention.
    """

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
    """Return the store's event of that id, or None."""
    return one_as(EventRow, await connection.execute(_EVENT, {"store_code": store_code, "event_id": event_id}))
