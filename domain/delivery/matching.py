"""Which subscriptions an event goes to, and how each delivery begins."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from domain.delivery.breaker import hold_reason


class Mismatch(StrEnum):
    """Why a subscription of the event's name gets no delivery of it."""

    CREATED_AFTER = "created_after"
    NOT_YET_ACTIVE = "not_yet_active"


def mismatch(
    *, accepted_at: datetime, created_at: datetime, subscribed_at: datetime, active_from: datetime | None
) -> Mismatch | None:
    """Why an event does not match a subscription to its name; None when it does.

    `accepted_at` and `subscribed_at` are both by the database's clock: nobody gets what was accepted before they
    subscribed. `active_from` is compared with `created_at`, the platform's own instant of the event.
    """
    if accepted_at < subscribed_at:
        return Mismatch.CREATED_AFTER
    if active_from is not None and created_at < active_from:
        return Mismatch.NOT_YET_ACTIVE
    return None


@dataclass(frozen=True)
class Beginning:
    """Status and reason a delivery is created with."""

    status: str
    reason: str | None


BUSY = Beginning("held", "busy")
"""So much of this subscription is under way in the worker already that the rest waits as rows, not as workflows."""

_AT_ONCE = Beginning("pending", None)


def beginning(*, status: str, breaker_open: bool, kept: bool) -> Beginning:
    """How a delivery to a subscription begins, by the subscription's state when the event is matched."""
    if status == "disabled":
        return Beginning("exhausted", "subscription_disabled")
    reason = hold_reason(status=status, breaker_open=breaker_open, kept=kept)
    return _AT_ONCE if reason is None else Beginning("held", reason)
