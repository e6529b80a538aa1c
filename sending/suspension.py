"""Suspensions: why attempts of a subscription are not begun, and what becomes of the queued ones."""

from dataclasses import dataclass

from domain.delivery.lifecycle import DeliveryStatus, Reason, ending_before
from storage.deliveries.open import OpenDelivery, SubscriptionFacts


@dataclass(frozen=True, slots=True)
class Suspension:
    """Status and reason of the deliveries whose attempts had not begun when their subscription was suspended."""

    status: DeliveryStatus
    reason: Reason


SLOWED_DOWN = Suspension(DeliveryStatus.HELD, Reason.SLOWED_DOWN)
"""The receiver answered 429: the drain sends the queued deliveries at the rate of its adaptive throttling."""

OVERLOADED = Suspension(DeliveryStatus.HELD, Reason.OVERLOAD)
"""A batch ended while its first attempts were queued: the drain sends them."""

BREAKER_OPEN = Suspension(DeliveryStatus.HELD, Reason.BREAKER_OPEN)

DISABLED = Suspension(DeliveryStatus.EXHAUSTED, Reason.SUBSCRIPTION_DISABLED)


def suspension_of(subscription: SubscriptionFacts) -> Suspension | None:
    """Return the suspension that follows from the current subscription, or None."""
    ending = ending_before(subscription_status=subscription.status, subscription_deleted=subscription.deleted)
    if ending is not None:
        return Suspension(*ending)
    return Suspension(DeliveryStatus.HELD, subscription.hold_reason) if subscription.hold_reason is not None else None


def suspension_for(suspension: Suspension | None, delivery: OpenDelivery, trigger: str) -> Suspension | None:
    """Return the suspension if it applies, or None. Manual attempts and tests ignore every suspension; drain attempts
    ignore breaker and limits."""
    if suspension is None or trigger != "automatic":
        return None
    from_drain = delivery.hold_again_as is not None
    return None if from_drain and suspension.reason in (Reason.BREAKER_OPEN, Reason.LIMITED) else suspension
