"""Modern twins of legacy subscriptions: made as copies, and put in their place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, func, insert, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.subscriptions import SubscriptionLimits, check_limits
from storage.tables import Subscription

SWITCHED_OVER = "switched_over"
"""Why a delivery was cancelled: the event goes to the other of the two."""

_TABLE: Any = Subscription.__table__  # type: ignore[attr-defined]
_OWN = {
    "id",
    "name",
    "legacy",
    "status",
    "status_reason",
    "status_since",
    "created_at",
    "updated_at",
}
"""What a twin does not have from its original."""


@dataclass(frozen=True, slots=True)
class TwinRow:
    """A legacy subscription and its twin, if it has one that is not deleted."""

    id: UUID
    event_name: str
    url: str
    name: str | None
    status: str
    twin_id: UUID | None
    twin_name: str | None
    twin_url: str | None
    twin_status: str | None


@dataclass(frozen=True, slots=True)
class Switch:
    """What waits, by where it goes when the twin takes over.

    `done`: waits at the twin, and the legacy one has dealt with it; nobody sends it again. `moved`: is open at the
    legacy one; the twin sends it. `under_way`: of these, what is being attempted just now. `alone`: waits at the twin
    alone; the twin sends it.
    """

    done: int
    moved: int
    under_way: int
    alone: int

    @property
    def sent(self) -> int:
        """What the twin sends at once."""
        return self.moved + self.alone


_PAIRS = """
SELECT legacy.id, legacy.event_name, legacy.url, legacy.name, legacy.status, twin.id, twin.name, twin.url, twin.status
FROM subscription AS legacy
LEFT JOIN subscription_twin AS pair ON pair.subscription_id = legacy.id
LEFT JOIN subscription AS twin ON twin.id = pair.twin_id AND twin.deleted_at IS NULL
WHERE legacy.store_code = :store_code AND legacy.deleted_at IS NULL
"""
_LIST = text(f"{_PAIRS} AND legacy.legacy ORDER BY legacy.event_name, legacy.created_at, legacy.id")
_FIND = text(f"{_PAIRS} AND legacy.id = :id AND legacy.legacy")
_LOCK = text("SELECT id FROM subscription WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
_PAIR_UP = text("""
INSERT INTO subscription_twin (subscription_id, twin_id) VALUES (:id, :twin_id)
ON CONFLICT (subscription_id) DO UPDATE SET twin_id = excluded.twin_id
""")

# An event may have two deliveries in legacy, and has one in modern: it is open as long as one of the two is.
_WAITING = """
SELECT held.message_id, (
    SELECT coalesce(max(CASE WHEN former.status IN ('pending', 'held') THEN 2 ELSE 1 END), 0) FROM delivery AS former
    WHERE former.event_id = held.event_id AND former.subscription_id = :id AND former.variant <> 'test'
) AS former, held.event_id
FROM delivery AS held WHERE held.subscription_id = :twin_id AND held.status = 'held' AND held.variant <> 'test'
"""
_COUNT = text(f"""
SELECT count(*) FILTER (WHERE former = 1), count(*) FILTER (WHERE former = 2), count(*) FILTER (WHERE former = 2
    AND EXISTS (SELECT FROM delivery JOIN attempt ON attempt.accepted_on = delivery.accepted_on
        AND attempt.message_id = delivery.message_id AND attempt.outcome_at IS NULL
        WHERE delivery.event_id = waiting.event_id AND delivery.subscription_id = :id AND delivery.status = 'pending')),
    count(*) FILTER (WHERE former = 0)
FROM ({_WAITING}) AS waiting
""")
_CANCEL_DONE = text(f"""
UPDATE delivery SET status = 'cancelled', reason = :reason, next_attempt_at = NULL, ended_at = clock_timestamp(),
    holds_line = false
FROM ({_WAITING}) AS waiting
WHERE waiting.former = 1 AND delivery.message_id = waiting.message_id AND delivery.status = 'held'
""")
_CANCEL_MOVED = text("""
UPDATE delivery SET status = 'cancelled', reason = :reason, next_attempt_at = NULL, ended_at = clock_timestamp(),
    holds_line = false
WHERE subscription_id = :id AND status IN ('pending', 'held') AND variant <> 'test' AND EXISTS (
    SELECT FROM delivery AS held WHERE held.event_id = delivery.event_id AND held.subscription_id = :twin_id
        AND held.status = 'held'
)
""")


async def legacy_subscriptions(connection: AsyncConnection, store_code: str) -> Sequence[TwinRow]:
    """The store's legacy subscriptions, each with its twin."""
    return [TwinRow(*row) for row in await connection.execute(_LIST, {"store_code": store_code})]


async def find_legacy(
    connection: AsyncConnection, store_code: str, subscription_id: UUID, *, lock: bool = False
) -> TwinRow | None:
    """One of them, or None. `lock`: nobody else changes it or its twin until this transaction ends."""
    values = {"store_code": store_code, "id": subscription_id}
    row = (await connection.execute(_FIND, values)).one_or_none()
    if row is not None and lock:
        await connection.execute(_LOCK, {"ids": [one for one in (row[0], row[5]) if one is not None]})
        row = (await connection.execute(_FIND, values)).one_or_none()
    return None if row is None else TwinRow(*row)


async def create_twin(
    connection: AsyncConnection,
    store_code: str,
    original: TwinRow,
    twin_id: UUID,
    name: str,
    limits: SubscriptionLimits,
) -> None:
    """Copy the original, which is locked, as a modern subscription that is paused; raises SubscriptionLimitError.

    Address, headers, key, pace and order are the same.
    """
    await check_limits(connection, store_code, original.event_name, limits)
    copied = [column for column in _TABLE.c if column.name not in _OWN]
    own = [
        literal(twin_id, Uuid).label("id"),
        literal(name).label("name"),
        literal(value=False).label("legacy"),
        literal("paused").label("status"),
        func.clock_timestamp().label("status_since"),
    ]
    copy = select(*copied, *own).where(_TABLE.c.id == original.id)
    names = [*(column.name for column in copied), *(column.name for column in own)]
    await connection.execute(insert(_TABLE).from_select(names, copy))
    await connection.execute(_PAIR_UP, {"id": original.id, "twin_id": twin_id})


async def count_switch(connection: AsyncConnection, original: UUID, twin_id: UUID) -> Switch:
    """What waits now, by where it would go."""
    return Switch(*(await connection.execute(_COUNT, {"id": original, "twin_id": twin_id})).one())


async def share_out(connection: AsyncConnection, original: UUID, twin_id: UUID) -> tuple[int, int]:
    """Leave each event that waits to one of the two, which are locked: how many the twin drops, and the legacy one."""
    values = {"id": original, "twin_id": twin_id, "reason": SWITCHED_OVER}
    dropped = (await connection.execute(_CANCEL_DONE, values)).rowcount
    moved = (await connection.execute(_CANCEL_MOVED, values)).rowcount
    return dropped, moved
