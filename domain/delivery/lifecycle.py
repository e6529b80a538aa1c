"""The lifecycle of a delivery: statuses, reasons, the table of transitions, and the decisions around an attempt.

`TRANSITIONS` is the whole lifecycle. `storage/deliveries/transitions.py` holds the statements that carry it out,
`tests/model/lifecycle.py` explores it with a crash after each step, and `docs/lifecycle.md` shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.retry import retry_delay
from domain.delivery.verdict import Verdict, VerdictOutcome


class DeliveryStatus(StrEnum):
    """State of a delivery. `delivered`, `exhausted` and `cancelled` are terminal."""

    PENDING = "pending"
    HELD = "held"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"


class SubscriptionStatus(StrEnum):
    """State of a webhook; it decides if its deliveries are sent, held or ended unsent."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class Reason(StrEnum):
    """Reason for which a delivery is held, exhausted or cancelled; stored and returned under exactly these words."""

    SUBSCRIPTION_PAUSED = "subscription_paused"
    BREAKER_OPEN = "breaker_open"
    """Held: the circuit breaker is open. Exhausted: the retry schedule ended while it was open."""
    LIMITED = "limited"
    """The drain alone sends to this subscription: rate limit, concurrency limit, order or adaptive throttling."""
    SLOWED_DOWN = "slowed_down"
    """The receiver answered 429 while the delivery queued for its first attempt."""
    OVERLOAD = "overload"
    """Too many first attempts of the subscription were under way, its batch ended, or too many retries waited."""
    RETRY = "retry"
    """An attempt by the drain failed; the delivery waits for its next attempt."""
    RECOVERED = "recovered"
    BACKFILLED = "backfilled"

    SCHEDULE_USED_UP = "schedule_used_up"
    HTTP_GONE = "http_gone"
    DISABLED_BY_RECEIVER = "disabled_by_receiver"
    ABORTED_BY_RECEIVER = "aborted_by_receiver"
    BLOCKED = "blocked"
    SUBSCRIPTION_DISABLED = "subscription_disabled"
    TEST = "test"
    """Pending: the delivery is a test, which is attempted once. Exhausted: that attempt failed."""

    SUBSCRIPTION_DELETED = "subscription_deleted"
    EVENT_ERASED = "event_erased"
    CANCELLED_BY_PERSON = "cancelled_by_person"
    SWITCHED_OVER = "switched_over"
    """A format migration left the event to the other subscription of the pair."""
    TEST_LOST = "test_lost"
    """The process that was to start the test died before it did."""


OPEN = (DeliveryStatus.PENDING, DeliveryStatus.HELD)
"""Statuses of a delivery that is still to be sent."""

ENDED_UNSENT = (DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELLED)
"""Terminal statuses without a 2xx."""

TERMINAL = (DeliveryStatus.DELIVERED, *ENDED_UNSENT)

STATUS_WORDS: Mapping[str, str] = {
    **{status: status.value for status in DeliveryStatus},
    DeliveryStatus.PENDING: "waiting",
    DeliveryStatus.EXHAUSTED: "gave up",
}
"""Statuses in the words of panel, command line and pages; the API has the names above."""

UNCHANGED = "unchanged"
"""Pseudo-status of a failed manual attempt, which changes neither status nor schedule nor failure count."""


class Cause(StrEnum):
    """Cause of a transition."""

    MATCH = "match"
    SEND_TEST = "send test"
    BACKFILL = "backfill"
    SUCCESS = "a 2xx"
    FAILURE = "a failed attempt, to be retried"
    MANUAL_FAILURE = "a failed attempt that a person asked for"
    FINAL_FAILURE = "a failed attempt, the last"
    ERASED_BODY = "an attempt that finds the event erased"
    SUSPEND = "an attempt that falls due while the subscription is suspended"
    OUTWAIT = "the retry schedule ends behind an open breaker"
    DISABLE = "the subscription is disabled"
    DELETE = "the subscription is deleted"
    ERASE = "the event is erased"
    CANCEL = "cancel"
    RETRY = "later attempts are scheduled"
    RECOVER = "recover"
    ADOPT = "format migration: the modern subscription takes the event over"
    SWITCH_OVER = "format migration: the other subscription has the event"
    LOSE_TEST = "a test is not started within a minute"
    ASSIGN_ORDER_KEY = "the drain computes a missing ordering key"
    RELEASE_ORDER = "the FIFO group of an exhausted delivery is released"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the lifecycle. `source` is None when the delivery is created; `reasons` lists the resulting reasons.

    A row whose source equals its target changes other columns than the status: attempts, instants, ordering.
    """

    source: DeliveryStatus | None
    target: DeliveryStatus
    cause: Cause
    reasons: tuple[Reason, ...] = ()


HOLD_REASONS = (Reason.SUBSCRIPTION_PAUSED, Reason.BREAKER_OPEN, Reason.LIMITED, Reason.SLOWED_DOWN, Reason.OVERLOAD)
"""Reasons for which a pending delivery passes to the drain."""

_ENDED_BY_RECEIVER = (Reason.HTTP_GONE, Reason.DISABLED_BY_RECEIVER, Reason.ABORTED_BY_RECEIVER)
_FINAL = (Reason.SCHEDULE_USED_UP, *_ENDED_BY_RECEIVER, Reason.BLOCKED)


def _transitions() -> tuple[Transition, ...]:
    pending, held, delivered, exhausted, cancelled = DeliveryStatus
    matched_held = (Reason.SUBSCRIPTION_PAUSED, Reason.BREAKER_OPEN, Reason.LIMITED, Reason.OVERLOAD)
    return (
        Transition(None, pending, Cause.MATCH),
        Transition(None, held, Cause.MATCH, matched_held),
        Transition(None, exhausted, Cause.MATCH, (Reason.SUBSCRIPTION_DISABLED,)),
        Transition(None, pending, Cause.SEND_TEST, (Reason.TEST,)),
        Transition(None, held, Cause.BACKFILL, (Reason.BACKFILLED,)),
        Transition(None, held, Cause.ADOPT, (Reason.SUBSCRIPTION_PAUSED,)),
        *(Transition(source, delivered, Cause.SUCCESS) for source in OPEN),
        # A redelivery succeeds, or an attempt that was in progress when the delivery ended.
        Transition(exhausted, delivered, Cause.SUCCESS),
        Transition(cancelled, delivered, Cause.SUCCESS),
        Transition(delivered, delivered, Cause.SUCCESS),
        Transition(pending, pending, Cause.FAILURE),
        Transition(pending, held, Cause.FAILURE, (Reason.OVERLOAD,)),
        Transition(held, held, Cause.FAILURE, (Reason.RETRY, Reason.BREAKER_OPEN)),
        *(Transition(status, status, Cause.MANUAL_FAILURE) for status in DeliveryStatus),
        Transition(pending, exhausted, Cause.FINAL_FAILURE, (*_FINAL, Reason.TEST)),
        Transition(held, exhausted, Cause.FINAL_FAILURE, _FINAL),
        *(Transition(source, cancelled, Cause.ERASED_BODY, (Reason.EVENT_ERASED,)) for source in OPEN),
        Transition(pending, held, Cause.SUSPEND, HOLD_REASONS),
        Transition(held, exhausted, Cause.OUTWAIT, (Reason.BREAKER_OPEN,)),
        *(Transition(source, exhausted, Cause.DISABLE, (Reason.SUBSCRIPTION_DISABLED,)) for source in OPEN),
        *(Transition(source, cancelled, Cause.DELETE, (Reason.SUBSCRIPTION_DELETED,)) for source in OPEN),
        *(Transition(source, cancelled, Cause.ERASE, (Reason.EVENT_ERASED,)) for source in OPEN),
        *(Transition(source, cancelled, Cause.CANCEL, (Reason.CANCELLED_BY_PERSON,)) for source in OPEN),
        # For an ordered subscription with `afterExhausted: hold`, cancelling releases the successors.
        Transition(exhausted, cancelled, Cause.CANCEL, (Reason.CANCELLED_BY_PERSON,)),
        Transition(pending, pending, Cause.RETRY),
        *(Transition(status, held, Cause.RECOVER, (Reason.RECOVERED,)) for status in TERMINAL),
        *(Transition(source, cancelled, Cause.SWITCH_OVER, (Reason.SWITCHED_OVER,)) for source in OPEN),
        Transition(pending, cancelled, Cause.LOSE_TEST, (Reason.TEST_LOST,)),
        Transition(held, held, Cause.ASSIGN_ORDER_KEY),
        Transition(exhausted, exhausted, Cause.RELEASE_ORDER),
    )


TRANSITIONS = _transitions()
"""Every permitted creation and change of a delivery."""

INTERNAL_ERROR_DELAY_SECONDS = 15.0
"""Delay after an internal error, such as a missing encryption key. The retry schedule is not used up by it."""


@dataclass(slots=True)  # not frozen: a frozen one takes 3× as long to create, for each delivery
class Step:
    """A delivery's state after an attempt: its `status` is a DeliveryStatus or `UNCHANGED`.

    `next_in_seconds` is set while an attempt is scheduled; `failure` is that of the attempt, None if it succeeded;
    `attempts` counts all so far, this one included, and is filled in by the sender of the attempt.
    """

    status: str
    reason: Reason | None
    failures: int
    next_in_seconds: float | None
    failure: FailureKind | None = None
    status_code: int | None = None
    attempts: int = 0


def step_before(*, subscription_status: str, subscription_deleted: bool) -> FailureKind | None:
    """Return the failure kind that forbids a request before it is sent, or None."""
    if subscription_deleted:
        return FailureKind.subscription_deleted
    if subscription_status == SubscriptionStatus.DISABLED:
        return FailureKind.subscription_disabled
    return None


def ending_before(*, subscription_status: str, subscription_deleted: bool) -> tuple[DeliveryStatus, Reason] | None:
    """Return (status, reason) with which a delivery ends unsent, or None if it is to be sent."""
    failure = step_before(subscription_status=subscription_status, subscription_deleted=subscription_deleted)
    if failure is None:
        return None
    deleted = failure is FailureKind.subscription_deleted
    return DeliveryStatus.CANCELLED if deleted else DeliveryStatus.EXHAUSTED, Reason(failure)


def step_after(
    verdict: Verdict, *, status_code: int | None, failures: int, schedule: Sequence[int], message_id: UUID
) -> Step:
    """Return the delivery's next state. `failures` counts the failed attempts of this round before this one."""
    failure = verdict.failure
    if verdict.outcome is VerdictOutcome.DELIVERED:
        return Step(DeliveryStatus.DELIVERED, None, failures, None, None, status_code)
    if verdict.outcome is VerdictOutcome.REPEAT:
        return Step(DeliveryStatus.PENDING, None, failures, INTERNAL_ERROR_DELAY_SECONDS, failure, status_code)
    if verdict.outcome is not VerdictOutcome.RETRY:
        # A failure kind that ends a delivery at once needs a `Reason` of the same value.
        status, reason = DeliveryStatus(verdict.outcome), None if failure is None else Reason(failure)
        return Step(status, reason, failures + 1, None, failure, status_code)
    delay = retry_delay(schedule, failures + 1, message_id, verdict.retry_after_seconds)
    if delay is None:
        return Step(DeliveryStatus.EXHAUSTED, Reason.SCHEDULE_USED_UP, failures + 1, None, failure, status_code)
    return Step(DeliveryStatus.PENDING, None, failures + 1, delay, failure, status_code)
