"""Reading recoveries and backfills: what was asked for, of which subscription, and how it ended."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.operations.bulk_actions import WindowKind


@dataclass(frozen=True, slots=True)
class WindowActRow:
    """One act as it was asked for, with its subscription (which may have been deleted since)."""

    id: UUID
    kind: WindowKind
    subscription_id: UUID
    subscription_name: str | None
    event_name: str
    url: str
    since: datetime
    until: datetime
    statuses: list[str]
    rate_per_second: int | None
    status: str
    count: int
    opened: int
    created_at: datetime
    ended_at: datetime | None


_ACTS = """
SELECT act.id, act.kind, act.subscription_id, subscription.name, subscription.event_name, subscription.url, act.since,
    act.until, act.statuses, act.rate_per_second, act.status, act.count, act.opened, act.created_at, act.ended_at
FROM window_act AS act JOIN subscription ON subscription.id = act.subscription_id
WHERE act.store_code = :store_code
"""
_FIND = text(f"{_ACTS} AND act.id = :id")
_RECENT = text(f"{_ACTS} ORDER BY act.created_at DESC, act.id LIMIT :most")


async def find_window_act(connection: AsyncConnection, store_code: str, act_id: UUID) -> WindowActRow | None:
    """The store's act of that id, or None."""
    row = (await connection.execute(_FIND, {"store_code": store_code, "id": act_id})).one_or_none()
    return None if row is None else WindowActRow(row[0], WindowKind(row[1]), *row[2:])


async def recent_window_acts(connection: AsyncConnection, store_code: str, most: int) -> list[WindowActRow]:
    """The store's acts, the last begun first."""
    rows = await connection.execute(_RECENT, {"store_code": store_code, "most": most})
    return [WindowActRow(row[0], WindowKind(row[1]), *row[2:]) for row in rows]
