"""Subscription states and live workers, read every second by workers with attempts in flight."""

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
"""SQL over a row `subscription`: a limit, ordering or adaptive throttling applies that only the drain can observe."""


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """The part of a subscription that decides whether attempts may begin."""

    subscription_id: UUID
    status: str
    deleted: bool
    breaker_open: bool
    drain_only: bool
    max_concurrency: int | None

    @property
    def hold_reason(self) -> Reason | None:
        """Reason to hold deliveries for the drain; None when they may be attempted at once."""
        return hold_reason(status=self.status, breaker_open=self.breaker_open, drain_only=self.drain_only)


_STATES = text(f"""
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
    """Return the current states of these subscriptions, without those that do not exist."""
    if not subscription_ids:
        return []
    return all_as(SubscriptionState, await connection.execute(_STATES, {"ids": list(subscription_ids)}))


async def live_workers(connection: AsyncConnection) -> list[UUID]:
    """Return the ids of workers seen within a lease, in the same order for every caller."""
    return list(await connection.scalars(_LIVE))
