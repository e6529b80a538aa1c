"""What becomes of a delivery before and after an attempt: decided here, done elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.retry import retry_delay
from domain.delivery.verdict import Verdict

OWN_FAULT_DELAY_SECONDS = 15.0
"""After a fault of ours (encryption key missing, say) the delivery waits so long; the schedule is not used up."""


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class Step:
    """A delivery's state after an attempt. `next_in_seconds` is set exactly while it stays `pending`."""

    status: str
    reason: str | None
    failures: int
    next_in_seconds: float | None
    failure: FailureKind | None = None
    """Of the attempt; None when it succeeded."""
    status_code: int | None = None
    attempts: int = 0
    """Attempts of the delivery so far, this one included; filled in by whoever made it."""


def step_before(*, subscription_status: str, subscription_deleted: bool) -> FailureKind | None:
    """Why no request is to be sent (any more); None when it is to be sent."""
    if subscription_deleted:
        return FailureKind.subscription_deleted
    if subscription_status == "disabled":
        return FailureKind.subscription_disabled
    return None


def ending_before(*, subscription_status: str, subscription_deleted: bool) -> tuple[str, FailureKind] | None:
    """(status, reason) with which a delivery ends unsent; None when it is to be sent."""
    failure = step_before(subscription_status=subscription_status, subscription_deleted=subscription_deleted)
    if failure is None:
        return None
    return "cancelled" if failure is FailureKind.subscription_deleted else "exhausted", failure


def step_after(
    verdict: Verdict, *, status_code: int | None, failures: int, schedule: Sequence[int], message_id: UUID
) -> Step:
    """The delivery's next state. `failures` counts the failed attempts of this round before this one."""
    failure = verdict.failure
    if verdict.outcome == "delivered":
        return Step("delivered", None, failures, None, None, status_code)
    if verdict.outcome in ("exhausted", "cancelled"):
        return Step(verdict.outcome, failure, failures + 1, None, failure, status_code)
    if not verdict.counts_against_receiver:
        return Step("pending", None, failures, OWN_FAULT_DELAY_SECONDS, failure, status_code)
    delay = retry_delay(schedule, failures + 1, message_id, verdict.retry_after_seconds)
    if delay is None:
        return Step("exhausted", "schedule_used_up", failures + 1, None, failure, status_code)
    return Step("pending", None, failures + 1, delay, failure, status_code)
