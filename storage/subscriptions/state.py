"""How subscriptions stand and which workers live, read every second by workers that have attempts under way."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import hold_reason
from domain.delivery.lifecycle import Reason
from storage.mapping import all_as
from storage.operations.workers import LEASE_SECONDS
from storage.subscriptions.throttling import SLOWED

DRAIN_ONLY = f"""(subscription.rate_limit_per_second IS NOT NULL OR subscription.ordered
    OR subscription.max_concurrency IS NOT NULL OR {SLOWED})"""
"""SQL over a row `subscription`: it has a limit or an order that only its drain can honour, or its receiver has
answered 429 lately."""


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """A subscription as far as it says whether more may be sent."""

    subscription_id: UUID
    status: str
    deleted: bool
    breaker_open: bool
    drain_only: bool
    max_concurrency: int | None

    @property
    def hold_reason(self) -> Reason | None:
        """Why deliveries wait for the drain; None when they may be attempted at once."""
        return hold_reason(status=self.status, breaker_open=self.breaker_open, drain_only=self.drain_only)


_STANDING = text(f"""
SELECT subscription.id AS subscription_id, subscription.status, subscription.deleted_at IS NOT NULL AS deleted,
    health.breaker_opened_at IS NOT NULL AS breaker_open, {DRAIN_ONLY} AS drain_only, subscription.max_concurrency
FROM subscription LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
WHERE subscription.id = ANY(:ids)
""")

_LIVE = text(f"""
SELECT id FROM worker WHERE seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds' ORDER BY id
""")


async def subscription_states(
    connection: AsyncConnection, subscription_ids: Collection[UUID]
) -> list[SubscriptionState]:
    """How these subscriptions are now; those that are not there are left out."""
    if not subscription_ids:
        return []
    return all_as(SubscriptionState, await connection.execute(_STANDING, {"ids": list(subscription_ids)}))


async def live_workers(connection: AsyncConnection) -> list[UUID]:
    """The workers that have been seen within a lease, in one order for all who ask."""
    return list(await connection.scalars(_LIVE))
