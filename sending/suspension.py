"""Why no more attempts of a subscription are begun, and which attempts that concerns."""

from dataclasses import dataclass

from domain.delivery.lifecycle import DeliveryStatus, Reason, ending_before
from storage.deliveries.open import OpenDelivery
from storage.subscriptions.state import SubscriptionState


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why no more attempts of a subscription are begun, and what becomes of those that were about to be."""

    status: DeliveryStatus
    reason: Reason


SLOWED_DOWN = Suspension(DeliveryStatus.HELD, Reason.SLOWED_DOWN)
"""What queues begins anew with the drain, at the pace that the receiver asks for."""

OVERLOADED = Suspension(DeliveryStatus.HELD, Reason.OVERLOAD)
"""The batch of a first attempt ends while it still queues."""

BREAKER_OPEN = Suspension(DeliveryStatus.HELD, Reason.BREAKER_OPEN)

DISABLED = Suspension(DeliveryStatus.EXHAUSTED, Reason.SUBSCRIPTION_DISABLED)


def suspension_of(state: SubscriptionState) -> Suspension | None:
    """Why attempts that have not begun are not to begin, as the subscription is now."""
    ending = ending_before(subscription_status=state.status, subscription_deleted=state.deleted)
    if ending is not None:
        return Suspension(*ending)
    return Suspension(DeliveryStatus.HELD, state.hold_reason) if state.hold_reason is not None else None


def suspension_for(stop: Suspension | None, delivery: OpenDelivery, trigger: str) -> Suspension | None:
    """What a person asks for is sent; what the drain sends, it sends in spite of breaker and limits."""
    if stop is None or trigger != "automatic":
        return None
    return None if delivery.hold_again_as is not None and stop.reason in (Reason.BREAKER_OPEN, Reason.LIMITED) else stop
