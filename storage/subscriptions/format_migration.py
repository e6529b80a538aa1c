"""Format migration: modern copies of legacy subscriptions, which then replace them."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Uuid, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.delivery.identity import message_id
from domain.delivery.lifecycle import OPEN, DeliveryStatus, SubscriptionStatus
from domain.delivery.ordering import ordering_key_of
from domain.wire.bodies import MAIN
from storage.columns import by_column, in_list
from storage.deliveries.transitions import WAITING_AT_MODERN, adopt, cancel_switched_over
from storage.events.days import BODY_OF_EVENT
from storage.mapping import all_as, one_as, table_of
from storage.subscriptions.queries import SubscriptionLimits, check_limits
from storage.subscriptions.tables import FormatMigrationPair, Subscription

_OWN = {"id", "name", "legacy", "status", "status_reason", "status_since", "created_at", "updated_at"}
"""Columns that the modern copy does not take from the legacy subscription."""


class PairRow(NamedTuple):
    """A legacy subscription and the modern one of its pair, if there is one that is not deleted."""

    id: UUID
    event_name: str
    url: str
    name: str | None
    status: str
    modern_id: UUID | None
    modern_name: str | None
    modern_url: str | None
    modern_status: str | None


class Switch(NamedTuple):
    """Number of events by what the format migration does with them.

    `done`: held at the modern subscription and ended at the legacy one; not sent again. `moved`: open at the legacy
    one, perhaps since before the modern one was created; the modern one sends them. `under_way`: those of `moved` that
    are being attempted now. `alone`: held at the modern one only, which sends them.
    """

    done: int
    moved: int
    under_way: int
    alone: int


_LEGACY = table_of(Subscription).alias("legacy")
_MODERN = table_of(Subscription).alias("modern")
_COLUMNS = [
    *(_LEGACY.c[name] for name in ("id", "event_name", "url", "name", "status")),
    *(_MODERN.c[name].label(f"modern_{name}") for name in ("id", "name", "url", "status")),
]
_PAIRS = (
    select(*_COLUMNS)
    .select_from(_LEGACY)
    .outerjoin(FormatMigrationPair, col(FormatMigrationPair.subscription_id) == _LEGACY.c.id)
    .outerjoin(_MODERN, (_MODERN.c.id == col(FormatMigrationPair.modern_id)) & _MODERN.c.deleted_at.is_(None))
    .where(_LEGACY.c.deleted_at.is_(None), _LEGACY.c.legacy)
)

# Open at the legacy one, and not ended at the modern one: held there too, or unknown there because older than it.
_OPEN_FORMERLY = f"""
former.subscription_id = :id AND former.status IN {in_list(OPEN)} AND former.variant <> 'test' AND NOT EXISTS (
    SELECT FROM delivery AS known WHERE known.event_id = former.event_id AND known.subscription_id = :modern_id
        AND known.variant <> 'test' AND known.status <> '{DeliveryStatus.HELD}'
)
"""
_COUNT = text(f"""
SELECT waiting.done, formerly.moved, formerly.under_way, waiting.alone
FROM (
    SELECT count(*) FILTER (WHERE former = 1) AS done, count(*) FILTER (WHERE former = 0) AS alone
    FROM ({WAITING_AT_MODERN}) AS held
) AS waiting, (
    SELECT count(DISTINCT former.event_id) AS moved,
        count(DISTINCT former.event_id) FILTER (WHERE former.status = '{DeliveryStatus.PENDING}' AND EXISTS (
            SELECT FROM attempt WHERE attempt.accepted_on = former.accepted_on
                AND attempt.message_id = former.message_id AND attempt.outcome_at IS NULL)) AS under_way
    FROM delivery AS former WHERE {_OPEN_FORMERLY}
) AS formerly
""")
_UNKNOWN = text(f"""
SELECT DISTINCT ON (former.event_id) former.event_id, former.event_sequence, former.accepted_on,
    CASE WHEN modern.order_key = 'customer' THEN body.data END AS data,
    modern.ordered AND modern.order_key = 'customer' AS by_customer
FROM delivery AS former
JOIN subscription AS modern ON modern.id = :modern_id
JOIN event ON event.store_code = former.store_code AND event.event_id = former.event_id
{BODY_OF_EVENT}
WHERE {_OPEN_FORMERLY} AND NOT EXISTS (
    SELECT FROM delivery AS known WHERE known.event_id = former.event_id AND known.subscription_id = :modern_id
        AND known.variant <> 'test'
)
""")


async def legacy_subscriptions(connection: AsyncConnection, store_code: str) -> Sequence[PairRow]:
    """Return the store's legacy subscriptions, each with the modern one of its pair."""
    query = _PAIRS.where(_LEGACY.c.store_code == store_code)
    by_name = query.order_by(_LEGACY.c.event_name, _LEGACY.c.created_at, _LEGACY.c.id)
    return all_as(PairRow, await connection.execute(by_name))


async def find_legacy(
    connection: AsyncConnection, store_code: str, subscription_id: UUID, *, lock: bool = False
) -> PairRow | None:
    """Return the legacy subscription with the modern one of its pair, or None; `lock`: neither can change meanwhile."""
    query = _PAIRS.where(_LEGACY.c.store_code == store_code, _LEGACY.c.id == subscription_id)
    found = one_as(PairRow, await connection.execute(query))
    if found is None or not lock:
        return found
    both = select(_LEGACY.c.id).where(_LEGACY.c.id.in_([found.id, found.modern_id])).order_by(_LEGACY.c.id)
    await connection.execute(both.with_for_update(key_share=True))
    return one_as(PairRow, await connection.execute(query))


async def create_modern_copy(
    connection: AsyncConnection,
    store_code: str,
    original: PairRow,
    modern_id: UUID,
    name: str,
    limits: SubscriptionLimits,
) -> None:
    """Copy the locked original as a paused modern subscription; raises SubscriptionLimitError."""
    await check_limits(connection, store_code, original.event_name, limits)
    copied = [column for column in table_of(Subscription).c if column.name not in _OWN]
    own = [
        literal(modern_id, Uuid).label("id"),
        literal(name).label("name"),
        literal(value=False).label("legacy"),
        literal(SubscriptionStatus.PAUSED).label("status"),
        func.clock_timestamp().label("status_since"),
    ]
    copy = select(*copied, *own).where(col(Subscription.id) == original.id)
    await connection.execute(insert(Subscription).from_select([column.name for column in (*copied, *own)], copy))
    pair = insert(FormatMigrationPair).values(subscription_id=original.id, modern_id=modern_id)
    await connection.execute(
        pair.on_conflict_do_update(index_elements=["subscription_id"], set_={"modern_id": modern_id})
    )


async def count_switch(connection: AsyncConnection, original: UUID, modern_id: UUID) -> Switch:
    """Count the waiting events by what a format migration would do with them now."""
    return Switch(**(await connection.execute(_COUNT, {"id": original, "modern_id": modern_id})).one()._asdict())


async def share_out(connection: AsyncConnection, original: UUID, modern_id: UUID) -> tuple[int, int]:
    """Assign each waiting event to one of the two locked subscriptions. Return the number of deliveries cancelled at
    the modern one and at the legacy one."""
    rows = (await connection.execute(_UNKNOWN, {"id": original, "modern_id": modern_id})).all()
    if rows:
        columns = {
            **by_column(rows, "event_id, event_sequence, accepted_on"),
            "message_id": [message_id(row.event_id, modern_id, MAIN) for row in rows],
            "ordering_key": [ordering_key_of(modern_id, row.data) if row.by_customer else None for row in rows],
        }
        await adopt(connection, modern_id, columns)
    return await cancel_switched_over(connection, original, modern_id)
