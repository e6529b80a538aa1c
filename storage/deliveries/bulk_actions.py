"""Bulk actions on a time window: recover deliveries that ended without success, backfill earlier events.

`storage/deliveries/bulk_pages.py` carries them out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.delivery.lifecycle import OPEN, DeliveryStatus
from storage.columns import in_list
from storage.deliveries.skip_scan import BRANCHES, IN_BRANCH
from storage.deliveries.tables import RUNNING, BulkAction
from storage.events.days import BODY_OF_EVENT
from storage.mapping import all_as, columns_for, one_as
from storage.subscriptions.tables import Subscription


class BulkActionKind(StrEnum):
    """Kind of a bulk action; also the prefix of its workflow's id."""

    RECOVER = "recover"
    BACKFILL = "backfill"


class BulkActionStatus(StrEnum):
    """State of a bulk action."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Creation of deliveries to recover, or acceptance of events to backfill, from `since` until before `until`."""

    since: datetime
    until: datetime
    statuses: Sequence[str] = ()
    """Statuses of the deliveries to recover."""


@dataclass(frozen=True, slots=True)
class NewBulkAction:
    """A bulk action about to begin. `rate_per_second` None: as fast as the drain sends."""

    id: UUID
    kind: BulkActionKind
    store_code: str
    subscription_id: UUID
    window: TimeWindow
    rate_per_second: int | None
    count: int


@dataclass(frozen=True, slots=True)
class BulkActionProgress:
    """Deliveries of a bulk action that were delivered, failed again (or were cancelled), or are still open. A delivery
    that a later bulk action opened again counts only there."""

    subscription_id: UUID
    status: str
    count: int
    opened: int
    delivered: int
    failed_again: int
    waiting: int


@dataclass(frozen=True, slots=True)
class BulkActionRow:
    """One bulk action as requested, with its subscription (which may have been deleted since)."""

    id: UUID
    kind: BulkActionKind
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


_COUNT_RECOVERABLE = text(f"""
WITH RECURSIVE {BRANCHES}
SELECT count(*) FROM branch JOIN delivery ON {IN_BRANCH}
    AND delivery.created_at >= :since AND delivery.created_at < :until AND delivery.variant <> 'test'
WHERE branch.status = ANY(:statuses)
""")

# Unmatched events accepted after the subscription was created are left out: their match creates the delivery.
MISSING = """
event.name = subscription.event_name AND body.data IS NOT NULL
AND (event.matched_at IS NOT NULL OR event.accepted_at < subscription.created_at)
AND NOT EXISTS (
    SELECT FROM delivery WHERE delivery.event_id = event.event_id AND delivery.store_code = event.store_code
        AND (delivery.subscription_id = subscription.id OR delivery.variant = 'test')
)
"""

ACCEPTED = "event.store_code = :store_code AND event.accepted_at >= :since AND event.accepted_at < :until"

_COUNT_MISSING = text(f"""
SELECT count(*) FROM event JOIN subscription ON subscription.id = :subscription_id
{BODY_OF_EVENT}
WHERE {ACCEPTED} AND {MISSING}
""")

_PROGRESS = text(f"""
SELECT action.subscription_id, action.status, action.count, action.opened,
    count(*) FILTER (WHERE of.status = '{DeliveryStatus.DELIVERED}') AS delivered,
    count(*) FILTER (WHERE of.status IN ('{DeliveryStatus.EXHAUSTED}', '{DeliveryStatus.CANCELLED}')) AS failed_again,
    count(*) FILTER (WHERE of.status IN {in_list(OPEN)}) AS waiting
FROM bulk_action AS action LEFT JOIN delivery AS of ON of.bulk_action_id = action.id
WHERE action.store_code = :store_code AND action.id = :id AND action.kind = :kind GROUP BY action.id
""")

_BULK_ACTIONS = select(
    *columns_for(BulkAction, BulkActionRow, but=("subscription_name", "event_name", "url")),
    col(Subscription.name).label("subscription_name"),
    col(Subscription.event_name),
    col(Subscription.url),
).join(Subscription, col(Subscription.id) == col(BulkAction.subscription_id))


async def count_recoverable(connection: AsyncConnection, subscription_id: UUID, window: TimeWindow) -> int:
    """Return the number of deliveries a recovery would open again."""
    values = {"subscription_id": subscription_id, **asdict(window)}
    return int(await connection.scalar(_COUNT_RECOVERABLE, values) or 0)


async def count_missing(connection: AsyncConnection, store_code: str, subscription_id: UUID, window: TimeWindow) -> int:
    """Return the number of events a backfill would create deliveries for."""
    values = {"store_code": store_code, "subscription_id": subscription_id, **asdict(window)}
    return int(await connection.scalar(_COUNT_MISSING, values) or 0)


async def begin_bulk_action(connection: AsyncConnection, action: NewBulkAction) -> bool:
    """Store a running bulk action; return False if the subscription has one already."""
    columns = asdict(action)
    begin = insert(BulkAction).values(**columns.pop("window"), **columns)
    unless_running = begin.on_conflict_do_nothing(index_elements=["subscription_id"], index_where=text(RUNNING))
    return (await connection.execute(unless_running)).rowcount == 1


async def running_bulk_action(connection: AsyncConnection, subscription_id: UUID) -> tuple[UUID, BulkActionKind] | None:
    running = select(BulkAction).where(col(BulkAction.subscription_id) == subscription_id, text(RUNNING))
    row = (await connection.execute(running)).one_or_none()
    return (row.id, BulkActionKind(row.kind)) if row is not None else None


async def end_bulk_action(connection: AsyncConnection, action_id: UUID, status: BulkActionStatus) -> bool:
    """Give a running action its last status; return False when it had ended. Opened deliveries are still sent."""
    running = update(BulkAction).where(col(BulkAction.id) == action_id, text(RUNNING))
    return (await connection.execute(running.values(status=status, ended_at=func.clock_timestamp()))).rowcount == 1


async def bulk_action_progress(
    connection: AsyncConnection, store_code: str, action_id: UUID, kind: BulkActionKind
) -> BulkActionProgress | None:
    """Return the progress of a bulk action, or None if the store has none of that id and kind."""
    values = {"store_code": store_code, "id": action_id, "kind": kind}
    return one_as(BulkActionProgress, await connection.execute(_PROGRESS, values))


async def find_bulk_action(connection: AsyncConnection, store_code: str, action_id: UUID) -> BulkActionRow | None:
    query = _BULK_ACTIONS.where(col(BulkAction.store_code) == store_code, col(BulkAction.id) == action_id)
    return one_as(_bulk_action, await connection.execute(query))


async def recent_bulk_actions(connection: AsyncConnection, store_code: str, most: int) -> list[BulkActionRow]:
    """Return the store's bulk actions, last begun first."""
    query = _BULK_ACTIONS.where(col(BulkAction.store_code) == store_code)
    newest = query.order_by(col(BulkAction.created_at).desc(), col(BulkAction.id)).limit(most)
    return all_as(_bulk_action, await connection.execute(newest))


def _bulk_action(kind: str, **others: Any) -> BulkActionRow:
    return BulkActionRow(kind=BulkActionKind(kind), **others)
