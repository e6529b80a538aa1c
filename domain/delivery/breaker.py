"""Circuit breaker of a subscription: its limits, and the reason for holding a delivery."""

from dataclasses import dataclass

from domain.delivery.lifecycle import Reason, SubscriptionStatus


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """Breaker limits. `failures` in a row open the breaker; the interval between probes doubles up to the longest."""

    failures: int = 10
    first_probe_seconds: float = 5.0
    longest_probe_seconds: float = 60.0


def hold_reason(*, status: str, breaker_open: bool, drain_only: bool) -> Reason | None:
    """Return the reason for holding a delivery for its subscription's drain, or None if it may be attempted at once.

    `drain_only`: the subscription has a rate limit, a concurrency limit of its own, an order or adaptive throttling,
    which only a single sender for all workers can honour.
    """
    if status == SubscriptionStatus.PAUSED:
        return Reason.SUBSCRIPTION_PAUSED
    if breaker_open:
        return Reason.BREAKER_OPEN
    return Reason.LIMITED if drain_only else None
