"""Operator actions on single deliveries."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.deliveries.ordering import BEHIND
from storage.mapping import one_as


@dataclass(frozen=True, slots=True)
class ActedOn:
    """The delivery of an operator action: status, the activity of its retries, and the state of its subscription."""

    message_id: UUID
    event_id: UUID
    variant: str
    status: str
    attempts: int
    """Attempts recorded so far."""
    retry_id: str | None
    """Id of the standalone activity that owns its later attempts."""
    subscription_id: UUID
    event_name: str
    url: str
    subscription_status: str
    subscription_deleted: bool
    breaker_open: bool
    ordered: bool
    behind: UUID | None
    """The delivery that an ordered subscription has to end before it."""
    holds_group: bool
    """Exhausted, with successors that wait for a person's decision."""


_FOR_ACTION = text(f"""
SELECT delivery.message_id, delivery.event_id, delivery.variant, delivery.status, delivery.attempts,
    delivery.retry_id,
    delivery.subscription_id, delivery.event_name, delivery.url,
    subscription.status AS subscription_status, subscription.deleted_at IS NOT NULL AS subscription_deleted,
    health.breaker_opened_at IS NOT NULL AS breaker_open, subscription.ordered, {BEHIND} AS behind,
    delivery.holds_group
FROM delivery
JOIN subscription ON subscription.id = delivery.subscription_id
LEFT JOIN subscription_health AS health ON health.subscription_id = delivery.subscription_id
WHERE delivery.store_code = :store_code AND delivery.message_id = :id FOR UPDATE OF delivery
""")


async def delivery_for_action(connection: AsyncConnection, store_code: str, message_id: UUID) -> ActedOn | None:
    """Return the delivery, locked for the rest of the transaction, or None if the store has none of that id."""
    return one_as(ActedOn, await connection.execute(_FOR_ACTION, {"store_code": store_code, "id": message_id}))
