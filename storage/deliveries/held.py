"""Held deliveries as their drain sees them: subscription state, next due instants, drains to wake."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus, SubscriptionStatus
from storage.deliveries.open import DUE_SOON_SECONDS
from storage.mapping import one_as
from storage.subscriptions.state import DRAIN_ONLY, PER_SECOND, REST_SECONDS

ENDED_LATELY_SECONDS = 60
"""Period in which the drain of a disabled or deleted subscription is woken to end its pending deliveries. Held
deliveries wake the drain for as long as there are any; a pending delivery that is missed ends at its next attempt."""


@dataclass(frozen=True, slots=True)
class DrainState:
    """The subscription state that a drain works by. `probe_in_seconds` is negative when a probe is due."""

    status: str
    deleted: bool
    breaker_open: bool
    probe_in_seconds: float | None
    rate_limit_per_second: int | None
    per_second: float | None
    """Current rate, from the rate limit and adaptive throttling; None: unlimited."""
    rest_seconds: float
    """Seconds until the end of the receiver's `Retry-After`; 0 if there is none."""
    ordered: bool
    retry_schedule: Sequence[int] | None
    drain_only: bool
    max_concurrency: int | None
    by_customer: bool
    """If ordered, with a FIFO group for each customer."""
    holds_groups: bool
    """If ordered, an exhausted delivery holds its successors back."""

    def lasts(self, now: "DrainState | None") -> bool:
        """Return True if `now` differs from this state by the passage of time alone, without a rest or a lower rate."""
        if now is None or now.rest_seconds > 0 or (now.per_second or inf) < (self.per_second or inf):
            return False
        timeless = replace(
            now, probe_in_seconds=self.probe_in_seconds, per_second=self.per_second, rest_seconds=self.rest_seconds
        )
        return timeless == self


_STATE = text(f"""
SELECT subscription.status, subscription.deleted_at IS NOT NULL AS deleted,
    health.breaker_opened_at IS NOT NULL AS breaker_open,
    CAST(extract(epoch FROM health.probe_at - clock_timestamp()) AS float8) AS probe_in_seconds,
    subscription.rate_limit_per_second, CAST({PER_SECOND} AS float8) AS per_second,
    CAST({REST_SECONDS} AS float8) AS rest_seconds, subscription.ordered, subscription.retry_schedule,
    {DRAIN_ONLY} AS drain_only, subscription.max_concurrency, subscription.order_key = 'customer' AS by_customer,
    subscription.after_exhausted = 'hold' AS holds_groups
FROM subscription LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
WHERE subscription.id = :id
""")

_HELD = f"FROM delivery WHERE subscription_id = :id AND status = '{DeliveryStatus.HELD}'"

_NEXT_DUE = text(f"""
SELECT CAST(greatest(extract(epoch FROM next_attempt_at - clock_timestamp()), 0) AS float8)
{_HELD} AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 1
""")

_NEXT_ALLOWED = text(f"""
SELECT CAST(extract(epoch FROM min(not_before) - statement_timestamp()) AS float8)
{_HELD} AND not_before > statement_timestamp()
""")

_TO_DRAIN = text(f"""
WITH RECURSIVE drain AS (
    (SELECT subscription_id FROM delivery WHERE status = '{DeliveryStatus.HELD}' ORDER BY subscription_id LIMIT 1)
    UNION ALL
    SELECT (SELECT delivery.subscription_id FROM delivery
        WHERE delivery.status = '{DeliveryStatus.HELD}' AND delivery.subscription_id > drain.subscription_id
        ORDER BY delivery.subscription_id LIMIT 1)
    FROM drain WHERE drain.subscription_id IS NOT NULL
)
SELECT subscription.id, subscription.store_code, subscription.event_name, subscription.url
FROM drain JOIN subscription ON subscription.id = drain.subscription_id
LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
WHERE subscription.status = '{SubscriptionStatus.DISABLED}' OR subscription.deleted_at IS NOT NULL
    OR subscription.status = '{SubscriptionStatus.ACTIVE}' AND CASE WHEN health.breaker_opened_at IS NOT NULL
        THEN coalesce(health.probe_at <= clock_timestamp(), true)
        ELSE EXISTS (SELECT FROM delivery WHERE delivery.subscription_id = subscription.id
                AND delivery.status = '{DeliveryStatus.HELD}' AND delivery.next_attempt_at IS NULL)
            OR EXISTS (SELECT FROM delivery WHERE delivery.subscription_id = subscription.id
                AND delivery.status = '{DeliveryStatus.HELD}'
                AND delivery.next_attempt_at <= statement_timestamp() + make_interval(secs => :due_soon)) END
UNION
SELECT id, store_code, event_name, url FROM subscription
WHERE status = '{SubscriptionStatus.DISABLED}'
        AND status_since > clock_timestamp() - make_interval(secs => :ended_lately)
    OR deleted_at > clock_timestamp() - make_interval(secs => :ended_lately)
""")


async def drain_state(connection: AsyncConnection, subscription_id: UUID) -> DrainState | None:
    """Return the current state, or None if there is no such subscription."""
    return one_as(DrainState, await connection.execute(_STATE, {"id": subscription_id}))


async def next_due_seconds(connection: AsyncConnection, subscription_id: UUID) -> float | None:
    """Return the seconds until the first retry of a held delivery is due; None if none is scheduled."""
    seconds: float | None = await connection.scalar(_NEXT_DUE, {"id": subscription_id})
    return seconds


async def next_allowed_seconds(connection: AsyncConnection, subscription_id: UUID) -> float | None:
    """Return the seconds until the first `not_before` of held deliveries passes; None if no receiver asked to wait."""
    seconds: float | None = await connection.scalar(_NEXT_ALLOWED, {"id": subscription_id})
    return seconds


async def subscriptions_to_drain(connection: AsyncConnection) -> Sequence[tuple[UUID, str, str, str]]:
    """Return (id, store code, event name, URL) of subscriptions with deliveries to send, now or soon, or to end."""
    rows = await connection.execute(_TO_DRAIN, {"ended_lately": ENDED_LATELY_SECONDS, "due_soon": DUE_SOON_SECONDS})
    return [(row.id, row.store_code, row.event_name, row.url) for row in rows]


async def subscription_for_drain(
    connection: AsyncConnection, subscription_id: UUID
) -> tuple[UUID, str, str, str] | None:
    """Return (id, store code, event name, URL) for starting a subscription's drain, or None."""
    columns = text("SELECT id, store_code, event_name, url FROM subscription WHERE id = :id")
    row = (await connection.execute(columns, {"id": subscription_id})).one_or_none()
    return None if row is None else (row.id, row.store_code, row.event_name, row.url)
