"""Explain an event that did not arrive (yet): a closed list of reasons, the rule that selects one, and its words.

`docs/explain.md` is rendered from this list by `docs/render.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from functools import partial
from uuid import UUID

from domain.delivery.failure_kinds import EXPLANATIONS, FailureKind, failure_explanation, failure_in_words
from domain.delivery.lifecycle import ENDED_UNSENT, HOLD_REASONS, OPEN, DeliveryStatus, Reason, SubscriptionStatus
from domain.delivery.matching import Mismatch, mismatch
from domain.delivery.notices import FAILING
from domain.wire.bodies import TEST


class ReasonCode(StrEnum):
    """Reasons that explain an event or its delivery to one webhook; part of the API."""

    event_matched = "event_matched"
    event_waiting = "event_waiting"
    event_test = "event_test"
    event_body_erased = "event_body_erased"
    event_removed_by_retention = "event_removed_by_retention"
    event_rejected = "event_rejected"
    event_elsewhere = "event_elsewhere"
    event_unknown = "event_unknown"

    other_event_name = "other_event_name"
    test_of_another = "test_of_another"
    created_after = "created_after"
    not_yet_active = "not_yet_active"
    deleted_before = "deleted_before"
    not_matched_yet = "not_matched_yet"
    delivery_removed_by_retention = "delivery_removed_by_retention"
    changed_since = "changed_since"

    attempt_under_way = "attempt_under_way"
    about_to_be_sent = "about_to_be_sent"
    waiting_for_retry = "waiting_for_retry"
    paused = "paused"
    breaker_open = "breaker_open"
    behind_ordered = "behind_ordered"
    rate_limited = "rate_limited"
    slowed_down = "slowed_down"
    overload = "overload"
    backfilled = "backfilled"
    waiting_for_drain = "waiting_for_drain"

    delivered = "delivered"
    retries_used_up = "retries_used_up"
    outwaited_breaker = "outwaited_breaker"
    receiver_gone = "receiver_gone"
    disabled_by_receiver = "disabled_by_receiver"
    aborted_by_receiver = "aborted_by_receiver"
    address_blocked = "address_blocked"
    subscription_disabled = "subscription_disabled"
    test_failed = "test_failed"
    test_lost = "test_lost"
    cancelled_by_person = "cancelled_by_person"
    switched_over = "switched_over"
    subscription_deleted = "subscription_deleted"
    event_erased = "event_erased"
    ended_otherwise = "ended_otherwise"


NOT_ACCEPTED = frozenset({ReasonCode.event_rejected, ReasonCode.event_elsewhere, ReasonCode.event_unknown})
"""Codes of an event that the store has not accepted."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Text and remedy of a reason; `{names}` are placeholders for the facts of a case."""

    about: str
    text: str
    remedy: str


_BY_ITSELF = "Nothing: it continues by itself."


def _of_failure(kind: FailureKind) -> tuple[str, str]:
    return EXPLANATIONS[kind].meaning, EXPLANATIONS[kind].remedy


_EXPLAINED: Mapping[str, Mapping[ReasonCode, tuple[str, str]]] = {
    "the event": {
        ReasonCode.event_matched: (
            "Accepted at {accepted} and matched to the store's webhooks.",
            "See each webhook.",
        ),
        ReasonCode.event_waiting: (
            "Accepted at {accepted}; no worker has matched it yet.",
            "If this lasts longer than a few seconds, check on the dashboard or with `loyalty-webhooks status` whether "
            "a worker is running.",
        ),
        ReasonCode.event_test: (
            "A sample that was sent as a test at {accepted}, to one webhook only.",
            "Nothing.",
        ),
        ReasonCode.event_body_erased: (
            "Accepted at {accepted}; its data was erased at {erased}, at its customer's request.",
            "Nothing: the data was erased on purpose and cannot be restored.",
        ),
        ReasonCode.event_removed_by_retention: (
            "Accepted at {accepted}, so long ago that retention has removed its data and deliveries.",
            "Set a longer retention in the store's settings, for future events.",
        ),
        ReasonCode.event_rejected: (
            "Its emit was rejected with a 400 at {rejected}, so it was never accepted: {because}.",
            "Have the platform correct that and emit the event again; the same id may be used.",
        ),
        ReasonCode.event_elsewhere: (
            "It was accepted in {stores}, not in this store.",
            "Look in that store, or have the platform emit to the right one.",
        ),
        ReasonCode.event_unknown: (
            "No event of this id was accepted in this store.",
            "Compare the id with the response to the emit: only a 202 means accepted. Likely causes: the emit was "
            "rejected (400, 401, 403 or 404) or got no response, it went to another store, or it had no `eventId` "
            "and was given another.",
        ),
    },
    "no delivery was made": {
        ReasonCode.other_event_name: (
            "It subscribes to {subscribed}; this event is {event}.",
            "Subscribe to the event's name.",
        ),
        ReasonCode.test_of_another: ("The event is a test of another webhook.", "Send a test to this one."),
        ReasonCode.created_after: (
            "It was created at {created}, after the event had been accepted.",
            "Backfill a window with the event: a webhook receives only events that are accepted after its creation.",
        ),
        ReasonCode.not_yet_active: (
            "It is active from {active_from}, and the event's `createdAt` is before that.",
            "Set an earlier `activeFrom`, for future events.",
        ),
        ReasonCode.deleted_before: ("It was deleted at {deleted}, before the event was matched.", "Subscribe again."),
        ReasonCode.not_matched_yet: ("It will get the event as soon as a worker matches it.", _BY_ITSELF),
        ReasonCode.delivery_removed_by_retention: (
            "Retention has removed any delivery of the event, which was accepted at {accepted}.",
            "Ask the receiver's owner whether the event arrived.",
        ),
        ReasonCode.changed_since: (
            "It would match the event now, but did not at {matched}, when the event was matched; it has changed since.",
            "Backfill the time at which the event was accepted: an event is matched once.",
        ),
    },
    "the delivery is open": {
        ReasonCode.attempt_under_way: ("An attempt is in progress.", _BY_ITSELF),
        ReasonCode.about_to_be_sent: (
            "Waiting: its next attempt is due and about to start. {attempt_before}",
            _BY_ITSELF,
        ),
        ReasonCode.waiting_for_retry: (
            "Waiting until {next_attempt}, because attempt {attempts} failed ({failure}): {failure_meaning}",
            "{failure_remedy} Send now makes an attempt at once.",
        ),
        ReasonCode.paused: (
            "Held because its webhook has been paused since {since} ({why}); nothing is lost in the meantime.",
            "Resume the webhook.",
        ),
        ReasonCode.breaker_open: (
            "Held because the receiver has kept failing since {breaker_since}. The last failure ({last}): "
            "{last_meaning} The next probe is {probe}.",
            "{last_remedy} Send now tries the receiver at once. The first success releases the held deliveries.",
        ),
        ReasonCode.behind_ordered: (
            "Held because its webhook is ordered, and delivery {behind} comes before it.",
            "Find out why that one waits; cancel it to release its successors.",
        ),
        ReasonCode.rate_limited: (
            "Held because its webhook is limited to {rate} requests a second.",
            "Raise the limit if the receiver can take more.",
        ),
        ReasonCode.slowed_down: (
            "Held because the receiver has answered 429, so its webhook is throttled for a while.",
            "Have the receiver accept more, or set the rate limit to what it accepts.",
        ),
        ReasonCode.overload: (
            "Held because too many attempts of its webhook were in progress, or too many retries were due at once.",
            _BY_ITSELF,
        ),
        ReasonCode.backfilled: ("Held because a person backfilled it, behind earlier deliveries.", _BY_ITSELF),
        ReasonCode.waiting_for_drain: ("Held because other deliveries of its webhook come first.", _BY_ITSELF),
    },
    "the delivery ended": {
        ReasonCode.delivered: (
            "Delivered at {ended}: the receiver answered with a 2xx. {disabled_since}",
            "Look for it in the receiver's log; redeliver sends it again.",
        ),
        ReasonCode.retries_used_up: (
            "Gave up after {attempts} attempts, the last of which failed ({failure}): {failure_meaning}",
            "{failure_remedy} Then redeliver it, or recover the time of the outage.",
        ),
        ReasonCode.outwaited_breaker: _of_failure(FailureKind.breaker_open),
        ReasonCode.receiver_gone: _of_failure(FailureKind.http_gone),
        ReasonCode.disabled_by_receiver: _of_failure(FailureKind.disabled_by_receiver),
        ReasonCode.aborted_by_receiver: _of_failure(FailureKind.aborted_by_receiver),
        ReasonCode.address_blocked: _of_failure(FailureKind.blocked),
        ReasonCode.subscription_disabled: (
            "Gave up because its webhook was disabled. It has been {status} since {since} ({why}).",
            EXPLANATIONS[FailureKind.subscription_disabled].remedy,
        ),
        ReasonCode.test_failed: (
            "The test failed ({failure}): {failure_meaning} A test is not retried.",
            "{failure_remedy} Then send another.",
        ),
        ReasonCode.test_lost: (
            "The test was not started, because the process that was to start it was stopped at that moment.",
            "Send another.",
        ),
        ReasonCode.cancelled_by_person: (
            "A person cancelled it at {ended}; the audit says who.",
            "Redeliver it if that was a mistake.",
        ),
        ReasonCode.switched_over: (
            "At {ended} a modern webhook took over from a legacy one; the other of the two has the event.",
            "Nothing: see the event's other delivery.",
        ),
        ReasonCode.subscription_deleted: (EXPLANATIONS[FailureKind.subscription_deleted].meaning, "Subscribe again."),
        ReasonCode.event_erased: _of_failure(FailureKind.event_erased),
        ReasonCode.ended_otherwise: (
            "Ended at {ended} without success: {reason}.",
            "Redeliver, or recover the time.",
        ),
    },
}

REASONS: Mapping[ReasonCode, Explanation] = {
    code: Explanation(about, *words) for about, codes in _EXPLAINED.items() for code, words in codes.items()
}


@dataclass(frozen=True, slots=True)
class ExplainedEvent:
    """The facts of an accepted event that explain its matching. `test`: a sample that a person sent.

    `body_stored`: False once the data was erased (`erased_at`) or removed by retention.
    """

    name: str
    created_at: datetime
    accepted_at: datetime
    matched_at: datetime | None
    test: bool
    body_stored: bool = True
    erased_at: datetime | None = None

    @property
    def outlived(self) -> bool:
        """True if retention has removed its data and deliveries."""
        return not self.body_stored and self.erased_at is None


@dataclass(frozen=True, slots=True)
class ExplainedSubscription:
    """The current state of a subscription, with its receiver's health."""

    id: UUID
    event_name: str
    url: str
    name: str | None
    status: str
    status_reason: str | None
    status_since: datetime
    created_at: datetime
    active_from: datetime | None
    deleted_at: datetime | None
    ordered: bool
    rate_limit_per_second: int | None
    breaker_opened_at: datetime | None
    probe_at: datetime | None
    """Instant of the next probe; None if it is due."""
    slowed: bool
    """True while adaptive throttling applies: the receiver has recently answered 429."""
    last_failed_id: UUID | None = None
    """The delivery that failed last, while the receiver fails."""
    last_failure: str | None = None
    last_status_code: int | None = None
    certificate_expires_at: datetime | None = None
    """Expiry of its own client certificate, if it has one."""


@dataclass(frozen=True, slots=True)
class ExplainedDelivery:
    """The current state of a delivery. `under_way`: a live worker has begun an attempt and not recorded its outcome.

    `behind` is the delivery that an ordered subscription sends before this one, if any.
    """

    message_id: UUID
    variant: str
    status: str
    reason: str | None
    attempts: int
    last_status_code: int | None
    last_failure: str | None
    next_attempt_at: datetime | None
    """Instant of the next attempt; None if it is due, or there is none."""
    ended_at: datetime | None
    under_way: bool
    backfilled: bool = False
    """Created by a backfill; without it, the event would not have matched this subscription."""
    behind: UUID | None = None
    workflow_id: str | None = None
    """Workflow of the first attempt, or the drain."""
    retry_id: str | None = None
    """Standalone activity of the retries."""


HELD_CODES: Mapping[str, ReasonCode] = {
    **dict.fromkeys((*HOLD_REASONS, Reason.RETRY, Reason.RECOVERED), ReasonCode.waiting_for_drain),
    Reason.OVERLOAD: ReasonCode.overload,
    Reason.BACKFILLED: ReasonCode.backfilled,
}
"""Explanation of a held delivery that is due and no longer suspended, by the reason for which it was held."""

ENDS: Mapping[str, ReasonCode] = {
    Reason.SCHEDULE_USED_UP: ReasonCode.retries_used_up,
    Reason.BREAKER_OPEN: ReasonCode.outwaited_breaker,
    Reason.HTTP_GONE: ReasonCode.receiver_gone,
    Reason.DISABLED_BY_RECEIVER: ReasonCode.disabled_by_receiver,
    Reason.ABORTED_BY_RECEIVER: ReasonCode.aborted_by_receiver,
    Reason.BLOCKED: ReasonCode.address_blocked,
    Reason.SUBSCRIPTION_DISABLED: ReasonCode.subscription_disabled,
    Reason.TEST: ReasonCode.test_failed,
    Reason.TEST_LOST: ReasonCode.test_lost,
    Reason.CANCELLED_BY_PERSON: ReasonCode.cancelled_by_person,
    Reason.SWITCHED_OVER: ReasonCode.switched_over,
    Reason.SUBSCRIPTION_DELETED: ReasonCode.subscription_deleted,
    Reason.EVENT_ERASED: ReasonCode.event_erased,
}
"""Explanation of a delivery that ended without success, by the reason stored with it."""


def reason_of_event(event: ExplainedEvent) -> ReasonCode:
    """Return the reason that describes an accepted event, apart from its deliveries."""
    if event.erased_at is not None:
        return ReasonCode.event_body_erased
    if event.outlived:
        return ReasonCode.event_removed_by_retention
    if event.test:
        return ReasonCode.event_test
    return ReasonCode.event_waiting if event.matched_at is None else ReasonCode.event_matched


def reason_without_delivery(event: ExplainedEvent, subscription: ExplainedSubscription) -> ReasonCode:
    """Return the reason for which a subscription has no delivery of an event."""
    if subscription.event_name != event.name:
        return ReasonCode.other_event_name
    if event.test:
        return ReasonCode.test_of_another
    found = mismatch(
        accepted_at=event.accepted_at,
        created_at=event.created_at,
        subscribed_at=subscription.created_at,
        active_from=subscription.active_from,
    )
    if found is Mismatch.CREATED_AFTER:
        return ReasonCode.created_after
    deleted, matched = subscription.deleted_at, event.matched_at
    if deleted is not None and (matched is None or deleted <= matched):
        return ReasonCode.deleted_before
    if found is Mismatch.NOT_YET_ACTIVE:
        return ReasonCode.not_yet_active
    since = ReasonCode.delivery_removed_by_retention if event.outlived else ReasonCode.changed_since
    return ReasonCode.not_matched_yet if matched is None else since


def reason_of_delivery(subscription: ExplainedSubscription, delivery: ExplainedDelivery) -> ReasonCode:
    """Return the reason that describes a delivery's current state."""
    if delivery.status == DeliveryStatus.DELIVERED:
        return ReasonCode.delivered
    if delivery.status in ENDED_UNSENT:
        # During a rolling restart, a stored reason may be known to the newer version only.
        return ENDS.get(delivery.reason or "", ReasonCode.ended_otherwise)
    if delivery.under_way or delivery.variant == TEST:
        return ReasonCode.attempt_under_way if delivery.under_way else ReasonCode.about_to_be_sent
    if subscription.deleted_at is not None:
        return ReasonCode.subscription_deleted
    if subscription.status == SubscriptionStatus.DISABLED:
        return ReasonCode.subscription_disabled
    return _reason_of_waiting(subscription, delivery)


def next_attempt_at(subscription: ExplainedSubscription, delivery: ExplainedDelivery) -> datetime | None:
    """Return the instant of the next attempt or probe; None if it is due, or waits for something without an instant."""
    if delivery.status not in OPEN or subscription.status != SubscriptionStatus.ACTIVE:
        return None
    probed = delivery.status == DeliveryStatus.HELD and subscription.breaker_opened_at is not None
    return subscription.probe_at if probed else delivery.next_attempt_at


def _reason_of_waiting(subscription: ExplainedSubscription, delivery: ExplainedDelivery) -> ReasonCode:
    held = delivery.status == DeliveryStatus.HELD
    later = delivery.next_attempt_at is not None
    if subscription.status == SubscriptionStatus.PAUSED:
        return ReasonCode.paused
    if subscription.breaker_opened_at is not None and (held or not later):
        return ReasonCode.breaker_open
    if held and delivery.behind is not None:
        return ReasonCode.behind_ordered
    if later:
        return ReasonCode.waiting_for_retry
    return _reason_of_held(subscription, delivery) if held else ReasonCode.about_to_be_sent


def _reason_of_held(subscription: ExplainedSubscription, delivery: ExplainedDelivery) -> ReasonCode:
    if delivery.backfilled and not delivery.attempts:
        return ReasonCode.backfilled
    if subscription.slowed:
        return ReasonCode.slowed_down
    if subscription.rate_limit_per_second is not None:
        return ReasonCode.rate_limited
    return HELD_CODES.get(delivery.reason or "", ReasonCode.waiting_for_drain)


STATUS_REASONS = {
    FailureKind.http_gone: "its receiver answered 410",
    FailureKind.disabled_by_receiver: "its receiver answered `webhook-delivery: disable`",
    FAILING: "its receiver failed for days without one success",
}
"""Reasons of automatic status changes of a subscription, for people."""


def in_words(
    code: ReasonCode,
    event: ExplainedEvent | None = None,
    subscription: ExplainedSubscription | None = None,
    delivery: ExplainedDelivery | None = None,
    stores: tuple[str, ...] = (),
    rejected: tuple[datetime, str] | None = None,
    zone: tzinfo | None = None,
) -> Explanation:
    """Return the reason's explanation with the known facts filled in; times are in `zone`, or in UTC with its name."""
    at = partial(shown, zone=zone)
    known = {"stores": ", ".join(stores)}
    certificate = subscription and subscription.certificate_expires_at
    own_certificate = f"The webhook's client certificate is valid until {at(certificate)}." if certificate else ""
    if rejected is not None:
        known |= {"rejected": at(rejected[0]), "because": rejected[1]}
    if event is not None:
        known |= {"event": event.name, "accepted": at(event.accepted_at), "matched": at(event.matched_at)}
        known |= {"erased": at(event.erased_at)}
    if subscription is not None:
        why, probe = subscription.status_reason, subscription.probe_at
        known |= {
            "subscribed": subscription.event_name,
            "created": at(subscription.created_at),
            "active_from": at(subscription.active_from),
            "deleted": at(subscription.deleted_at),
            "status": subscription.status,
            "since": at(subscription.status_since),
            "why": STATUS_REASONS.get(why or "", why) or "no reason is noted",
            "breaker_since": at(subscription.breaker_opened_at),
            "probe": "due now" if probe is None else f"at {at(probe)}",
            **_answer("last", subscription.last_failure, subscription.last_status_code, own_certificate),
            "rate": str(subscription.rate_limit_per_second),
        }
        disabled = subscription.status == SubscriptionStatus.DISABLED
        known["disabled_since"] = _filled("Its webhook has been disabled since {since} ({why}).", known) * disabled
    if delivery is not None:
        known |= {
            "ended": at(delivery.ended_at),
            "attempts": str(delivery.attempts),
            **_answer("failure", delivery.last_failure, delivery.last_status_code, own_certificate),
            "next_attempt": at(delivery.next_attempt_at),
            "behind": str(delivery.behind),
            "reason": delivery.reason or "no reason is noted",
        }
        failed = delivery.last_failure is not None
        known["attempt_before"] = _filled("Attempt {attempts} failed ({failure}): {failure_meaning}", known) * failed
    reason = REASONS[code]
    text = _filled(reason.text, known)
    if delivery is not None and delivery.backfilled and code is not ReasonCode.backfilled:
        text = f"A person backfilled it. {text}"
    return Explanation(reason.about, text, _filled(reason.remedy, known))


def _answer(name: str, failure: str | None, status_code: int | None, own_certificate: str) -> dict[str, str]:
    known = failure_explanation(failure)
    return {
        name: failure_in_words(failure, status_code) if failure else "no answer is noted",
        f"{name}_meaning": f"{known.meaning} {own_certificate * (failure == FailureKind.tls)}" if known else "",
        f"{name}_remedy": known.remedy if known else "",
    }


def shown(instant: datetime | None, zone: tzinfo | None = None) -> str:
    """Return `2026-01-02 03:04:05 UTC`, or the time without a zone name if `zone` is given: it is the reader's own."""
    if instant is None:
        return "an unknown time"
    return instant.astimezone(zone or UTC).strftime("%Y-%m-%d %H:%M:%S" if zone else "%Y-%m-%d %H:%M:%S UTC")


def _filled(text: str, known: dict[str, str]) -> str:
    filled = re.sub(r"\{(\w+)\}", lambda name: known[name[1]], text)
    return " ".join(filled.split())
