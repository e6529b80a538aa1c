"""Rules that match an event to a subscription and give each delivery its first status."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from domain.delivery.breaker import hold_reason
from domain.delivery.lifecycle import DeliveryStatus, Reason, SubscriptionStatus


class Mismatch(StrEnum):
    """Reason for which a subscription to the event's name gets no delivery of it."""

    CREATED_AFTER = "created_after"
    NOT_YET_ACTIVE = "not_yet_active"


def mismatch(
    *, accepted_at: datetime, created_at: datetime, subscribed_at: datetime, active_from: datetime | None
) -> Mismatch | None:
    """Return the reason for which an event does not match a subscription to its name, or None if it matches.

    `accepted_at` and `subscribed_at` are both by the database's clock: a subscription never receives events that were
    accepted before its creation. `active_from` is compared with `created_at`, the platform's instant of the event.
    """
    if accepted_at < subscribed_at:
        return Mismatch.CREATED_AFTER
    if active_from is not None and created_at < active_from:
        return Mismatch.NOT_YET_ACTIVE
    return None


@dataclass(frozen=True)
class Beginning:
    """Status and reason with which a delivery is created."""

    status: DeliveryStatus
    reason: Reason | None


OVERLOADED = Beginning(DeliveryStatus.HELD, Reason.OVERLOAD)
"""First status beyond the limit of a subscription's deliveries in flight: the rest wait as rows, not in workflows."""

_AT_ONCE = Beginning(DeliveryStatus.PENDING, None)


def beginning(*, status: str, breaker_open: bool, drain_only: bool) -> Beginning:
    """Return the first status and reason of a delivery, by the subscription's state when the event is matched."""
    if status == SubscriptionStatus.DISABLED:
        return Beginning(DeliveryStatus.EXHAUSTED, Reason.SUBSCRIPTION_DISABLED)
    reason = hold_reason(status=status, breaker_open=breaker_open, drain_only=drain_only)
    return _AT_ONCE if reason is None else Beginning(DeliveryStatus.HELD, reason)
