"""Reading recoveries and backfills: what was asked for, of which subscription, and how it ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from storage.mapping import all_as, columns_for, one_as
from storage.operations.bulk_actions import WindowKind
from storage.operations.tables import WindowAct
from storage.subscriptions.tables import Subscription


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


_ACTS = select(
    *columns_for(WindowAct, WindowActRow, but=("subscription_name", "event_name", "url")),
    col(Subscription.name).label("subscription_name"),
    col(Subscription.event_name),
    col(Subscription.url),
).join(Subscription, col(Subscription.id) == col(WindowAct.subscription_id))


async def find_window_act(connection: AsyncConnection, store_code: str, act_id: UUID) -> WindowActRow | None:
    """Return the store's act of that id, or None."""
    query = _ACTS.where(col(WindowAct.store_code) == store_code, col(WindowAct.id) == act_id)
    return one_as(_act, await connection.execute(query))


async def recent_window_acts(connection: AsyncConnection, store_code: str, most: int) -> list[WindowActRow]:
    """Return the store's acts, the last begun first."""
    query = _ACTS.where(col(WindowAct.store_code) == store_code)
    newest = query.order_by(col(WindowAct.created_at).desc(), col(WindowAct.id)).limit(most)
    return all_as(_act, await connection.execute(newest))


def _act(kind: str, **others: Any) -> WindowActRow:
    return WindowActRow(kind=WindowKind(kind), **others)
