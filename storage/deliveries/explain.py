"""Facts that explain an event: the event, the store's subscriptions, its deliveries and their senders."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.explain import ExplainedDelivery, ExplainedEvent, ExplainedSubscription
from storage.deliveries.ordering import BEHIND
from storage.events.days import BODY_OF_EVENT, LAST_ATTEMPT_OF_DELIVERY
from storage.mapping import all_as, one_as
from storage.operations.workers import SENDER_ID
from storage.subscriptions.state import SLOWED

_EVENT = text(f"""
SELECT name, created_at, accepted_at, matched_at,
    EXISTS (SELECT FROM delivery WHERE delivery.event_id = event.event_id
        AND delivery.store_code = event.store_code AND delivery.variant = 'test') AS test,
    body.data IS NOT NULL AS body_stored, event.erased_at
FROM event
{BODY_OF_EVENT}
WHERE event.store_code = :store_code AND event.event_id = :event_id
""")

# One probe of the primary key for each store: no index begins with the event's id.
_ELSEWHERE = text("""
SELECT store.code FROM store
CROSS JOIN LATERAL (
    SELECT 1 FROM event WHERE event.store_code = store.code AND event.event_id = :event_id LIMIT 1
) AS found
WHERE store.code <> :store_code ORDER BY store.code
""")

_SUBSCRIPTIONS = text(f"""
SELECT subscription.id, subscription.event_name, subscription.url, subscription.name, subscription.status,
    subscription.status_reason, subscription.status_since, subscription.created_at, subscription.active_from,
    subscription.deleted_at, subscription.ordered, subscription.rate_limit_per_second, health.breaker_opened_at,
    CASE WHEN health.probe_at > statement_timestamp() THEN health.probe_at END AS probe_at, {SLOWED} AS slowed,
    failed.message_id AS last_failed_id, failed.last_failure, failed.last_status_code,
    subscription.certificate_expires_at
FROM subscription LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
LEFT JOIN delivery AS failed ON failed.message_id = health.last_failed_id
WHERE subscription.store_code = :store_code AND (CAST(:id AS uuid) IS NULL OR subscription.id = :id)
    AND (subscription.deleted_at IS NULL OR subscription.event_name = :event_name OR subscription.id = :id)
ORDER BY subscription.event_name <> :event_name, subscription.created_at, subscription.id
""")

_DELIVERIES = text(f"""
SELECT delivery.subscription_id, delivery.message_id, delivery.variant, delivery.status, delivery.reason,
    delivery.attempts, delivery.last_status_code, delivery.last_failure, delivery.ended_at,
    CASE WHEN delivery.next_attempt_at > statement_timestamp() THEN delivery.next_attempt_at END AS next_attempt_at,
    delivery.workflow_id, delivery.retry_id,
    ({SENDER_ID}) IS NOT NULL AS under_way,
    delivery.variant <> 'test' AND (action.kind IS NOT DISTINCT FROM 'backfill'
        OR event.accepted_at < subscription.created_at) AS backfilled,
    {BEHIND} AS behind
FROM delivery
JOIN subscription ON subscription.id = delivery.subscription_id
JOIN event ON event.store_code = delivery.store_code AND event.event_id = delivery.event_id
LEFT JOIN bulk_action AS action ON action.id = delivery.bulk_action_id
{LAST_ATTEMPT_OF_DELIVERY}
WHERE delivery.store_code = :store_code AND delivery.event_id = :event_id
ORDER BY delivery.created_at, delivery.message_id
""")


async def explained_event(connection: AsyncConnection, store_code: str, event_id: UUID) -> ExplainedEvent | None:
    return one_as(ExplainedEvent, await connection.execute(_EVENT, {"store_code": store_code, "event_id": event_id}))


async def stores_with_event(connection: AsyncConnection, store_code: str, event_id: UUID) -> Sequence[str]:
    """Return the codes of other stores that accepted an event of that id."""
    return list(await connection.scalars(_ELSEWHERE, {"store_code": store_code, "event_id": event_id}))


async def explained_subscriptions(
    connection: AsyncConnection, store_code: str, event_name: str, subscription_id: UUID | None
) -> list[ExplainedSubscription]:
    """Return the store's subscriptions, or this one; those to the event first, deleted ones only if to the event."""
    values = {"store_code": store_code, "event_name": event_name, "id": subscription_id}
    return all_as(ExplainedSubscription, await connection.execute(_SUBSCRIPTIONS, values))


async def explained_deliveries(
    connection: AsyncConnection, store_code: str, event_id: UUID
) -> Collection[tuple[UUID, ExplainedDelivery]]:
    """Return (subscription id, delivery) of each delivery of the event, oldest first."""
    rows = await connection.execute(_DELIVERIES, {"store_code": store_code, "event_id": event_id})
    return all_as(_delivery, rows)


def _delivery(subscription_id: UUID, **others: Any) -> tuple[UUID, ExplainedDelivery]:
    return subscription_id, ExplainedDelivery(**others)


async def database_now(connection: AsyncConnection) -> datetime:
    """Return the database's current instant, the clock of all instants in the log."""
    now: datetime = await connection.scalar(text("SELECT clock_timestamp()"))
    return now
