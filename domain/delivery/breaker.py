"""When a subscription's receiver is left alone, and when it is asked again."""

from dataclasses import dataclass

from domain.delivery.lifecycle import Reason, SubscriptionStatus


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """After `failures` in a row the breaker opens; the first probe goes out, then others at doubled intervals."""

    failures: int = 10
    first_probe_seconds: float = 5.0
    longest_probe_seconds: float = 60.0


def hold_reason(*, status: str, breaker_open: bool, drain_only: bool) -> Reason | None:
    """Why a delivery waits as a row with its subscription's drain; None when it may be attempted at once.

    `kept`: the subscription has a rate limit, a limit of its own on concurrency, or an order, which only one sender for
    all workers can honour.
    """
    if status == SubscriptionStatus.PAUSED:
        return Reason.SUBSCRIPTION_PAUSED
    if breaker_open:
        return Reason.BREAKER_OPEN
    return Reason.LIMITED if drain_only else None
