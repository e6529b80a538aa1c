"""Judge an answer: a pure function over one table, which `docs/failure-kinds.md` shows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from domain.delivery.failure_kinds import FailureKind

RETRY_AFTER_MAX_SECONDS = 24 * 60 * 60.0
"""Maximum `Retry-After`; a longer one is taken as a day. A receiver may ask for a pause, not to be forgotten."""


CONTROL_HEADER = "webhook-delivery"


class DeliveryControl(StrEnum):
    """Words of the response header `webhook-delivery` (delivery control of Standard Webhooks)."""

    DISABLE = "disable"
    ABORT_MESSAGE = "abort-message"


class VerdictOutcome(StrEnum):
    """Consequence of an answer for the delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REPEAT = "repeat"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"


_STATUS_FAILURES = dict.fromkeys((408, 425, 429), FailureKind.http_busy) | {410: FailureKind.http_gone}
_CLASS_FAILURES = {3: FailureKind.http_3xx, 4: FailureKind.http_4xx, 5: FailureKind.http_5xx}
_DELTA_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


@dataclass(slots=True)  # not frozen: a frozen one takes 3× as long to create, for each delivery
class Answer:
    """Result of an attempt.

    `status_code` is the status that was read, if any. `failure` is set if the answer did not arrive whole (and then
    takes precedence over the status: a 200 cut off in mid-body is no success) or if no request was sent.
    `retry_after_seconds` is the header as read by `parse_retry_after`, `control` that as read by `parse_control`.
    """

    status_code: int | None
    failure: FailureKind | None
    retry_after_seconds: float | None = None
    control: DeliveryControl | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Consequence of an answer for delivery, subscription and receiver.

    `outcome`: `delivered`; `retry` (by the schedule, or after `retry_after_seconds` if set; exhausted when the schedule
    is used up); `repeat` (soon, beside the schedule); `exhausted` at once; `cancelled`. `failure` is None only when
    delivered. The subscription is disabled with the reason `disables_as`. `counts_against_receiver` is False for faults
    and refusals of ours and for the refusal of one message, which neither open breakers nor disable subscriptions.
    """

    outcome: VerdictOutcome
    failure: FailureKind | None = None
    disables_as: FailureKind | None = None
    counts_against_receiver: bool = False
    retry_after_seconds: float | None = None


_DELIVERED = Verdict(VerdictOutcome.DELIVERED)
_DELIVERED_LAST = Verdict(VerdictOutcome.DELIVERED, disables_as=FailureKind.disabled_by_receiver)
_CONTROLLED = {
    DeliveryControl.DISABLE: FailureKind.disabled_by_receiver,
    DeliveryControl.ABORT_MESSAGE: FailureKind.aborted_by_receiver,
}
"""Failure kinds of a 4xx with a word of the header."""

_NOT_COUNTED = {
    FailureKind.subscription_disabled: VerdictOutcome.EXHAUSTED,
    FailureKind.subscription_deleted: VerdictOutcome.CANCELLED,
    FailureKind.event_erased: VerdictOutcome.CANCELLED,
    FailureKind.breaker_open: VerdictOutcome.EXHAUSTED,
    FailureKind.aborted_by_receiver: VerdictOutcome.EXHAUSTED,
    FailureKind.proxy_refused: VerdictOutcome.RETRY,  # Not repeated: a subscription may name a refused receiver.
    FailureKind.proxy_unavailable: VerdictOutcome.REPEAT,
    FailureKind.interrupted: VerdictOutcome.REPEAT,
    FailureKind.internal: VerdictOutcome.REPEAT,
}
"""Outcomes of the failures that do not count against the receiver."""

_RULES: Mapping[FailureKind, Verdict] = (
    {kind: Verdict(VerdictOutcome.RETRY, kind, counts_against_receiver=True) for kind in FailureKind}
    | {kind: Verdict(outcome, kind) for kind, outcome in _NOT_COUNTED.items()}
    | {FailureKind.blocked: Verdict(VerdictOutcome.EXHAUSTED, FailureKind.blocked, counts_against_receiver=True)}
    | {
        kind: Verdict(VerdictOutcome.EXHAUSTED, kind, disables_as=kind, counts_against_receiver=True)
        for kind in (FailureKind.http_gone, FailureKind.disabled_by_receiver)
    }
)


def status_failure(status_code: int) -> FailureKind | None:
    """Return the failure kind of a status, None for any 2xx. Numbers that are no final HTTP status are invalid."""
    if 200 <= status_code <= 299:
        return None
    return _STATUS_FAILURES.get(status_code) or _CLASS_FAILURES.get(status_code // 100, FailureKind.invalid_response)


def verdict(answer: Answer) -> Verdict:
    """Judge an answer. Raises ValueError if it has neither a status nor a failure, which no attempt produces."""
    failure = answer.failure
    if failure is None:
        if answer.status_code is None:
            raise ValueError("an answer has a status code or a failure kind")
        failure = status_failure(answer.status_code)
        if failure is None:
            return _DELIVERED_LAST if answer.control is DeliveryControl.DISABLE else _DELIVERED
        if answer.control is not None and failure is not FailureKind.http_gone:  # a 410 says more than either word
            failure = _CONTROLLED[answer.control]
    rule = _RULES[failure]
    if answer.retry_after_seconds is None or rule.outcome is not VerdictOutcome.RETRY:
        return rule
    return replace(rule, retry_after_seconds=answer.retry_after_seconds)


def parse_control(value: str, status_code: int) -> tuple[DeliveryControl | None, str]:
    """Return the word of a `webhook-delivery` header, or None and the reason for which the header is ignored."""
    try:
        control = DeliveryControl(value.strip())
    except ValueError:
        return None, f"an unknown {CONTROL_HEADER}, ignored"
    if status_code // 100 not in (2, 4):
        return None, f"{CONTROL_HEADER} with neither a 2xx nor a 4xx, ignored"
    if control is DeliveryControl.ABORT_MESSAGE and status_code // 100 == 2:
        return None, f"{CONTROL_HEADER}: {control} with a 2xx, ignored: the delivery has arrived"
    return control, ""


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Return the seconds a `Retry-After` header asks to wait, at most 24 hours, or None to follow the schedule.

    Takes seconds (with a fraction, as some receivers write) or an HTTP date; `now` is aware. Garbage, zero, negative
    and past values are None: "no need to wait" must not turn the retry schedule into a burst of requests.
    """
    text = value.strip()
    if _DELTA_SECONDS.fullmatch(text):
        # More than 9 digits exceed the limit in any case, so they are not converted.
        seconds = RETRY_AFTER_MAX_SECONDS if len(text.partition(".")[0].lstrip("0")) > 9 else float(text)
    else:
        try:
            instant = parsedate_to_datetime(text)
            if instant.tzinfo is None:
                instant = instant.replace(tzinfo=UTC)
            seconds = (instant - now).total_seconds()
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
    return min(seconds, RETRY_AFTER_MAX_SECONDS) if seconds > 0 else None
