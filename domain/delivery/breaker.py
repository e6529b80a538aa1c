"""When a subscription's receiver is left alone, and when it is asked again."""

from dataclasses import dataclass
from datetime import timedelta

from domain.delivery.lifecycle import Reason, SubscriptionStatus


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """After `failures` in a row the breaker opens; the first probe goes out, then others at doubled intervals."""

    failures: int = 10
    first_probe_seconds: float = 5.0
    longest_probe_seconds: float = 60.0

    def next_interval(self, interval_seconds: float | None) -> float:
        """Seconds until the next probe after one that failed."""
        if interval_seconds is None:
            return self.first_probe_seconds
        return min(interval_seconds * 2, self.longest_probe_seconds)


def hold_reason(*, status: str, breaker_open: bool, kept: bool) -> Reason | None:
    """Why a delivery waits as a row with its subscription's keeper; None when it may be attempted at once.

    `kept`: the subscription has a rate limit, a limit of its own on concurrency, or an order, which only one sender for
    all workers can honour.
    """
    if status == SubscriptionStatus.PAUSED:
        return Reason.SUBSCRIPTION_PAUSED
    if breaker_open:
        return Reason.BREAKER_OPEN
    return Reason.LIMITED if kept else None


def schedule_length(retry_schedule: tuple[int, ...]) -> timedelta:
    """How long a delivery is tried for at most; one that waited longer behind a breaker is exhausted."""
    return timedelta(seconds=sum(retry_schedule))
