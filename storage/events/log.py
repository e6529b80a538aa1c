"""Reading accepted events."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.events.days import BODY_OF_EVENT
from storage.mapping import one_as


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of the log. `data` is exact JSON text, secrets masked; `sealed_data` the whole, when there are any.

    Both are None when the body is gone: erased, or older than the store keeps bodies."""

    event_id: UUID
    name: str
    store_code: str
    timezone: str
    """Of the store, as it is now."""
    created_at_text: str
    created_at: datetime
    accepted_at: datetime
    data: str | None
    sealed_data: bytes | None
    workflow_id: str | None
    """The workflow it was handed to: its own or a batch's; null until a relay has claimed it."""


# SQL, because the body is found by the LATERAL that every reader of bodies shares.
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
