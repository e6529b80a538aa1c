"""Why no more attempts of a subscription are begun, and which attempts that concerns."""

from dataclasses import dataclass

from domain.delivery.lifecycle import DeliveryStatus, Reason, ending_before
from storage.deliveries.open import OpenDelivery
from storage.subscriptions.state import Standing


@dataclass(frozen=True, slots=True)
class Stop:
    """Why no more attempts of a subscription are begun, and what becomes of those that were about to be."""

    status: DeliveryStatus
    reason: Reason


SLOWED_DOWN = Stop(DeliveryStatus.HELD, Reason.SLOWED_DOWN)
"""What queues begins anew with the keeper, at the pace that the receiver asks for."""

OVERLOADED = Stop(DeliveryStatus.HELD, Reason.OVERLOAD)
"""The batch of a first attempt ends while it still queues."""

BREAKER_OPEN = Stop(DeliveryStatus.HELD, Reason.BREAKER_OPEN)

DISABLED = Stop(DeliveryStatus.EXHAUSTED, Reason.SUBSCRIPTION_DISABLED)


def stop_of(standing: Standing) -> Stop | None:
    """Why attempts that have not begun are not to begin, as the subscription is now."""
    ending = ending_before(subscription_status=standing.status, subscription_deleted=standing.deleted)
    if ending is not None:
        return Stop(*ending)
    return Stop(DeliveryStatus.HELD, standing.hold_reason) if standing.hold_reason is not None else None


def heeded(stop: Stop | None, delivery: OpenDelivery, trigger: str) -> Stop | None:
    """What a person asks for is sent; what the keeper sends, it sends in spite of breaker and limits."""
    if stop is None or trigger != "automatic":
        return None
    return None if delivery.kept_as is not None and stop.reason in (Reason.BREAKER_OPEN, Reason.LIMITED) else stop
