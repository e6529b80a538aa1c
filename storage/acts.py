"""What a person does to single deliveries, and to all that failed in a window."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.identity import keeper_workflow_id

PAGE = 500
"""Deliveries opened again in one transaction of a recovery."""


@dataclass(frozen=True, slots=True)
class ActedOn:
    """A delivery somebody acts on: its status before, who keeps it, and how its subscription is."""

    message_id: UUID
    event_id: UUID
    variant: str
    status: str
    workflow_id: str | None
    subscription_id: UUID
    event_name: str
    url: str
    subscription_status: str
    subscription_deleted: bool
    breaker_open: bool
    ordered: bool


_FOR_ACT = text("""
SELECT delivery.message_id, delivery.event_id, delivery.variant, delivery.status, delivery.workflow_id,
    delivery.subscription_id, delivery.event_name, delivery.url, subscription.status,
    subscription.deleted_at IS NOT NULL, health.breaker_opened_at IS NOT NULL, subscription.ordered
FROM delivery
JOIN subscription ON subscription.id = delivery.subscription_id
LEFT JOIN subscription_health AS health ON health.subscription_id = delivery.subscription_id
WHERE delivery.store_code = :store_code AND delivery.message_id = :id FOR UPDATE OF delivery
""")

_FIRST_HELD = text("""
SELECT message_id FROM delivery WHERE subscription_id = :id AND status = 'held'
ORDER BY event_sequence, message_id LIMIT 1
""")

_CANCEL = text("""
UPDATE delivery SET status = 'cancelled', reason = :reason, next_attempt_at = NULL, ended_at = clock_timestamp()
WHERE message_id = :id AND status IN ('pending', 'held')
""")

_DUE = text("UPDATE delivery SET next_attempt_at = clock_timestamp() WHERE message_id = :id AND status = 'held'")

_PROBE_DUE = text("""
UPDATE subscription_health SET probe_at = clock_timestamp()
WHERE subscription_id = :id AND breaker_opened_at IS NOT NULL AND probe_at > clock_timestamp()
""")

_MATCHING = """
delivery.subscription_id = :subscription_id AND delivery.status = ANY(:statuses) AND delivery.variant <> 'test'
AND delivery.created_at >= :since AND delivery.created_at < :until
"""

_COUNT = text(f"SELECT count(*) FROM delivery WHERE {_MATCHING}")

_BEGIN = text("""
INSERT INTO recover (id, store_code, subscription_id, since, until, statuses, count)
VALUES (:id, :store_code, :subscription_id, :since, :until, :statuses, :count)
ON CONFLICT (subscription_id) WHERE status = 'running' DO NOTHING
""")

_REQUEST = text("""
SELECT subscription_id, since, until, statuses, cursor_created_at, cursor_message_id, count FROM recover
WHERE id = :id AND status = 'running' FOR UPDATE
""")

_OPEN_AGAIN = text(f"""
WITH page AS MATERIALIZED (
    SELECT message_id, created_at FROM delivery
    WHERE {_MATCHING} AND (CAST(:cursor_created_at AS timestamptz) IS NULL
        OR (created_at, message_id) > (:cursor_created_at, CAST(:cursor_message_id AS uuid)))
    ORDER BY created_at, message_id LIMIT :page FOR UPDATE
), opened AS (
    UPDATE delivery SET status = 'held', reason = 'recovered', failures = 0, next_attempt_at = NULL, ended_at = NULL,
        workflow_id = :keeper_id
    FROM page WHERE delivery.message_id = page.message_id
)
SELECT message_id, created_at FROM page ORDER BY created_at, message_id
""")

_MOVED = text("""
UPDATE recover SET moved = moved + :opened, cursor_created_at = coalesce(:cursor_created_at, cursor_created_at),
    cursor_message_id = coalesce(:cursor_message_id, cursor_message_id)
WHERE id = :id RETURNING moved
""")

_MOVED_SO_FAR = text("SELECT moved, count FROM recover WHERE id = :id AND status = 'running'")

_RUNNING = text("SELECT id FROM recover WHERE subscription_id = :id AND status = 'running'")

_END_RECOVER = text("""
UPDATE recover SET status = :status, ended_at = clock_timestamp() WHERE id = :id AND status = 'running'
""")

_WAITING = text("""
SELECT count(*) FROM (
    SELECT 1 FROM delivery WHERE subscription_id = :id AND status = 'held' AND reason = 'recovered' LIMIT :limit
) AS waiting
""")

_PROGRESS = text("""
SELECT subscription_id, status, moved, count FROM recover WHERE store_code = :store_code AND id = :id
""")


async def delivery_for_act(connection: AsyncConnection, store_code: str, message_id: UUID) -> ActedOn | None:
    """The delivery, locked for the rest of the transaction; None when the store has none of that id."""
    row = (await connection.execute(_FOR_ACT, {"store_code": store_code, "id": message_id})).one_or_none()
    return ActedOn(*row) if row is not None else None


async def first_held(connection: AsyncConnection, subscription_id: UUID) -> UUID | None:
    """The held delivery of the event accepted first: the one an ordered subscription sends next."""
    found: UUID | None = await connection.scalar(_FIRST_HELD, {"id": subscription_id})
    return found


async def cancel(connection: AsyncConnection, message_id: UUID, *, reason: str) -> bool:
    """End an open delivery; False when it has ended already. An attempt under way is finished, and may succeed."""
    return (await connection.execute(_CANCEL, {"id": message_id, "reason": reason})).rowcount == 1


async def make_due(connection: AsyncConnection, message_id: UUID) -> None:
    """Let a held delivery not wait for its retry."""
    await connection.execute(_DUE, {"id": message_id})


async def make_probe_due(connection: AsyncConnection, subscription_id: UUID) -> None:
    """Let whoever asks an unwell receiver next not wait for the interval."""
    await connection.execute(_PROBE_DUE, {"id": subscription_id})


async def count_recoverable(
    connection: AsyncConnection, subscription_id: UUID, *, since: datetime, until: datetime, statuses: Sequence[str]
) -> int:
    """How many deliveries a recovery would open again."""
    values = {"subscription_id": subscription_id, "since": since, "until": until, "statuses": list(statuses)}
    return int(await connection.scalar(_COUNT, values) or 0)


async def begin_recover(  # noqa: PLR0913 - the columns of one row
    connection: AsyncConnection,
    recover_id: UUID,
    *,
    store_code: str,
    subscription_id: UUID,
    since: datetime,
    until: datetime,
    statuses: Sequence[str],
    count: int,
) -> bool:
    """Note a recovery; False when one of this subscription is running."""
    values = {
        "id": recover_id,
        "store_code": store_code,
        "subscription_id": subscription_id,
        "since": since,
        "until": until,
        "statuses": list(statuses),
        "count": count,
    }
    return (await connection.execute(_BEGIN, values)).rowcount == 1


async def open_page(connection: AsyncConnection, recover_id: UUID) -> tuple[int, int, bool] | None:
    """Open the next page again: (moved so far, count, whether there may be more). None when it is not running."""
    request = (await connection.execute(_REQUEST, {"id": recover_id})).one_or_none()
    if request is None:
        return None
    subscription_id, since, until, statuses, created_at, message_id, count = request
    values = {
        "subscription_id": subscription_id,
        "since": since,
        "until": until,
        "statuses": statuses,
        "cursor_created_at": created_at,
        "cursor_message_id": message_id,
        "page": PAGE,
        "keeper_id": keeper_workflow_id(subscription_id),
    }
    page = (await connection.execute(_OPEN_AGAIN, values)).all()
    last = page[-1] if page else None
    moved = await connection.scalar(
        _MOVED,
        {
            "id": recover_id,
            "opened": len(page),
            "cursor_created_at": last.created_at if last else None,
            "cursor_message_id": last.message_id if last else None,
        },
    )
    return int(moved or 0), count, len(page) == PAGE


async def page_before(connection: AsyncConnection, recover_id: UUID) -> tuple[int, int, bool] | None:
    """The same as it stands, opening nothing, while the pages opened before have not been sent."""
    row = (await connection.execute(_MOVED_SO_FAR, {"id": recover_id})).one_or_none()
    return (row[0], row[1], True) if row is not None else None


async def end_recover(connection: AsyncConnection, recover_id: UUID, status: str) -> bool:
    """`finished` or `cancelled`; False when it had ended. What was opened again goes on."""
    return (await connection.execute(_END_RECOVER, {"id": recover_id, "status": status})).rowcount == 1


async def recovered_waiting(connection: AsyncConnection, subscription_id: UUID, *, limit: int) -> int:
    """Deliveries opened again and not attempted yet, counted up to a limit."""
    return int(await connection.scalar(_WAITING, {"id": subscription_id, "limit": limit}) or 0)


async def running_recover(connection: AsyncConnection, subscription_id: UUID) -> UUID | None:
    """The recovery of a subscription that is running, if any."""
    found: UUID | None = await connection.scalar(_RUNNING, {"id": subscription_id})
    return found


async def recover_progress(
    connection: AsyncConnection, store_code: str, recover_id: UUID
) -> tuple[UUID, str, int, int] | None:
    """(subscription, status, opened again so far, count); None when the store has none of that id."""
    row = (await connection.execute(_PROGRESS, {"store_code": store_code, "id": recover_id})).one_or_none()
    return (row[0], row[1], row[2], row[3]) if row is not None else None
