"""Each way of an event not to arrive has its reason, and each reason its words."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from domain.delivery.explain import (
    ENDS,
    HELD_CODES,
    REASONS,
    ExplainedDelivery,
    ExplainedEvent,
    ExplainedSubscription,
    ReasonCode,
    in_words,
    reason_of_delivery,
    reason_of_event,
    reason_without_delivery,
)
from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import TRANSITIONS, DeliveryStatus
from tests.house import ROOT

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVENT = ExplainedEvent("CustomerUpdated", NOON, NOON, NOON, test=False)
SUBSCRIPTION = ExplainedSubscription(
    id=UUID(int=1),
    event_name="CustomerUpdated",
    url="https://receiver.example.com/hook",
    name=None,
    status="active",
    status_reason=None,
    status_since=NOON - HOUR,
    created_at=NOON - HOUR,
    active_from=None,
    deleted_at=None,
    ordered=False,
    rate_limit_per_second=None,
    breaker_opened_at=None,
    probe_at=None,
    slowed=False,
)
DELIVERY = ExplainedDelivery(
    message_id=UUID(int=2),
    variant="main",
    status="pending",
    reason=None,
    attempts=0,
    last_status_code=None,
    last_failure=None,
    next_attempt_at=None,
    ended_at=None,
    under_way=False,
)

Changes = dict[str, Any]

WITHOUT_DELIVERY: list[tuple[ReasonCode, Changes, Changes]] = [
    (ReasonCode.other_event_name, {}, {"event_name": "CustomerRegistered"}),
    (ReasonCode.test_of_another, {"test": True}, {}),
    (ReasonCode.created_after, {}, {"created_at": NOON + HOUR}),
    (ReasonCode.not_yet_active, {}, {"active_from": NOON + HOUR}),
    (ReasonCode.deleted_before, {}, {"deleted_at": NOON - HOUR / 2}),
    (ReasonCode.deleted_before, {"matched_at": None}, {"deleted_at": NOON + HOUR}),
    (ReasonCode.deleted_before, {}, {"deleted_at": NOON - HOUR / 2, "active_from": NOON + HOUR}),
    (ReasonCode.not_matched_yet, {"matched_at": None}, {}),
    (ReasonCode.changed_since, {}, {"active_from": NOON - HOUR}),
    (ReasonCode.delivery_removed_by_retention, {"body_stored": False}, {}),
    (ReasonCode.changed_since, {"body_stored": False, "erased_at": NOON}, {}),
    (ReasonCode.created_after, {"body_stored": False}, {"created_at": NOON + HOUR}),
]

FAILED = {"attempts": 2, "last_failure": "http_5xx", "last_status_code": 503}
LATER = FAILED | {"next_attempt_at": NOON + HOUR}
BREAKER = {"breaker_opened_at": NOON, "probe_at": NOON + HOUR}
HELD = {"status": "held"}
BEHIND = HELD | {"behind": UUID(int=3)}


def ended(reason: str | None, status: str = "exhausted") -> Changes:
    return FAILED | {"status": status, "reason": reason, "ended_at": NOON}


OF_DELIVERY: list[tuple[ReasonCode, Changes, Changes]] = [
    (ReasonCode.delivered, {}, {"status": "delivered", "last_status_code": 204, "ended_at": NOON}),
    (ReasonCode.delivered, {"status": "disabled"}, {"status": "delivered", "ended_at": NOON}),
    (ReasonCode.attempt_under_way, {}, {"under_way": True}),
    (ReasonCode.attempt_under_way, {"status": "paused"}, {"under_way": True}),
    (ReasonCode.about_to_be_sent, {}, {}),
    (ReasonCode.about_to_be_sent, {}, FAILED),
    (ReasonCode.about_to_be_sent, {"status": "paused"}, {"variant": "test"}),
    (ReasonCode.waiting_for_retry, {}, LATER),
    (ReasonCode.waiting_for_retry, BREAKER, LATER),
    (ReasonCode.waiting_for_retry, {"rate_limit_per_second": 1}, LATER | HELD),
    (ReasonCode.paused, {"status": "paused", "status_reason": "by administrator:admin"}, HELD),
    (ReasonCode.paused, {"status": "paused"} | BREAKER, LATER),
    (ReasonCode.breaker_open, BREAKER, HELD),
    (ReasonCode.breaker_open, BREAKER, HELD | LATER),
    (ReasonCode.breaker_open, BREAKER, {}),
    (ReasonCode.behind_ordered, {"ordered": True}, BEHIND),
    (ReasonCode.waiting_for_retry, {"ordered": True}, HELD | LATER),
    (ReasonCode.rate_limited, {"rate_limit_per_second": 5}, HELD),
    (ReasonCode.slowed_down, {"rate_limit_per_second": 5, "slowed": True}, HELD),
    (ReasonCode.waiting_for_drain, {}, HELD),
    (ReasonCode.overload, {}, HELD | {"reason": "overload"}),
    (ReasonCode.rate_limited, {"rate_limit_per_second": 5}, HELD | {"reason": "overload"}),
    (ReasonCode.waiting_for_drain, {}, HELD | {"reason": "a reason of a later version"}),
    (ReasonCode.backfilled, {"rate_limit_per_second": 5}, HELD | {"backfilled": True}),
    (ReasonCode.waiting_for_drain, {}, HELD | {"backfilled": True, "attempts": 1}),
    (ReasonCode.behind_ordered, {"ordered": True}, BEHIND | {"backfilled": True}),
    (ReasonCode.delivered, {}, {"status": "delivered", "ended_at": NOON, "backfilled": True}),
    (ReasonCode.retries_used_up, {}, ended("schedule_used_up")),
    (ReasonCode.outwaited_breaker, {}, ended("breaker_open")),
    (ReasonCode.receiver_gone, {"status": "disabled", "status_reason": "http_gone"}, ended("http_gone")),
    (ReasonCode.disabled_by_receiver, {"status": "disabled"}, ended("disabled_by_receiver")),
    (ReasonCode.aborted_by_receiver, {}, ended("aborted_by_receiver")),
    (ReasonCode.address_blocked, {}, ended("blocked")),
    (ReasonCode.subscription_disabled, {}, ended("subscription_disabled")),
    (ReasonCode.subscription_disabled, {"status": "disabled"}, LATER),
    (ReasonCode.test_failed, {}, ended("test") | {"variant": "test"}),
    (ReasonCode.test_lost, {}, ended("test_lost", "cancelled") | {"variant": "test", "attempts": 0}),
    (ReasonCode.cancelled_by_person, {}, ended("cancelled_by_person", "cancelled")),
    (ReasonCode.switched_over, {}, ended("switched_over", "cancelled")),
    (ReasonCode.subscription_deleted, {}, ended("subscription_deleted", "cancelled")),
    (ReasonCode.subscription_deleted, {"deleted_at": NOON}, LATER),
    (ReasonCode.event_erased, {}, ended("event_erased", "cancelled")),
    (ReasonCode.ended_otherwise, {}, ended(None)),
    (ReasonCode.ended_otherwise, {}, ended("a reason of a later version")),
]
OF_EVENT: dict[ReasonCode, Changes] = {
    ReasonCode.event_matched: {},
    ReasonCode.event_waiting: {"matched_at": None},
    ReasonCode.event_test: {"test": True},
    ReasonCode.event_body_erased: {"body_stored": False, "erased_at": NOON},
    ReasonCode.event_removed_by_retention: {"body_stored": False, "test": True},
}
OF_THE_EVENT = {code for code in ReasonCode if code.startswith("event_") and code is not ReasonCode.event_erased}


def changed_event(changes: Changes) -> ExplainedEvent:
    return replace(EVENT, **changes)


@pytest.mark.parametrize(("code", "event", "subscription"), WITHOUT_DELIVERY)
def test_why_a_subscription_has_no_delivery(code: ReasonCode, event: Changes, subscription: Changes) -> None:
    happened, subscribed = replace(EVENT, **event), replace(SUBSCRIPTION, **subscription)
    assert reason_without_delivery(happened, subscribed) is code
    check_words(code, event=happened, subscription=subscribed)


@pytest.mark.parametrize(("code", "subscription", "delivery"), OF_DELIVERY)
def test_where_a_delivery_stands(code: ReasonCode, subscription: Changes, delivery: Changes) -> None:
    subscribed, made = replace(SUBSCRIPTION, **subscription), replace(DELIVERY, **delivery)
    assert reason_of_delivery(subscribed, made) is code
    check_words(code, event=EVENT, subscription=subscribed, delivery=made)


@pytest.mark.parametrize("code", sorted(OF_THE_EVENT))
def test_how_the_event_itself_stands(code: ReasonCode) -> None:
    known = next((event for event in map(changed_event, OF_EVENT.values()) if reason_of_event(event) is code), None)
    assert (known is not None) == (code in OF_EVENT)
    check_words(code, event=known, stores=("another",), rejected=(NOON, "data.customer: must be an object"))


def check_words(code: ReasonCode, **known: Any) -> None:
    words = in_words(code, **known)
    for text in (words.text, words.remedy):
        assert re.match(r"[A-Z`].*[.!]$", text), text
        assert "{" not in text
        assert "None" not in text


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("http_gone", "(its receiver answered 410)"),
        ("disabled_by_receiver", "(its receiver answered `webhook-delivery: disable`)"),
        ("failing", "(its receiver failed for days without one success)"),
        ("by administrator:admin", "(by administrator:admin)"),
    ],
)
def test_a_disabled_subscription_says_who_disabled_it(reason: str, words: str) -> None:
    subscribed = replace(SUBSCRIPTION, status="disabled", status_reason=reason)
    made = replace(DELIVERY, **ended("subscription_disabled"))
    assert words in in_words(ReasonCode.subscription_disabled, EVENT, subscribed, made).text


def test_a_delivery_after_which_the_receiver_had_its_webhook_disabled_says_so() -> None:
    delivered = replace(DELIVERY, status="delivered", ended_at=NOON)
    disabled = replace(SUBSCRIPTION, status="disabled", status_reason="disabled_by_receiver")
    words = "since 2026-01-02 11:00:00 UTC (its receiver answered `webhook-delivery: disable`)."
    assert words in in_words(ReasonCode.delivered, EVENT, disabled, delivered).text
    assert "disabled" not in in_words(ReasonCode.delivered, EVENT, SUBSCRIPTION, delivered).text


def test_an_attempt_that_is_due_says_how_the_one_before_it_failed() -> None:
    words = in_words(ReasonCode.about_to_be_sent, EVENT, SUBSCRIPTION, replace(DELIVERY, **FAILED)).text
    assert "about to start. Attempt 2 failed (503 server error, http_5xx): The receiver failed" in words
    assert "failed" not in in_words(ReasonCode.about_to_be_sent, EVENT, SUBSCRIPTION, DELIVERY).text


def test_every_reason_has_words_and_a_case_here() -> None:
    cases = {code for code, *_ in WITHOUT_DELIVERY + OF_DELIVERY} | OF_THE_EVENT
    assert cases == set(ReasonCode) == set(REASONS)
    assert list(REASONS) == list(ReasonCode), "the page is in the order of the list"


def test_every_reason_a_delivery_is_held_or_ended_for_is_explained() -> None:
    reasons = {
        status: {one for row in TRANSITIONS if row.target is status for one in row.reasons} for status in DeliveryStatus
    }
    assert set(HELD_CODES) == reasons[DeliveryStatus.HELD]
    assert set(ENDS) == reasons[DeliveryStatus.EXHAUSTED] | reasons[DeliveryStatus.CANCELLED]


def test_what_the_receiver_answered_is_explained_with_what_its_owner_can_do() -> None:
    made = replace(DELIVERY, **LATER)
    words = in_words(ReasonCode.waiting_for_retry, EVENT, SUBSCRIPTION, made)
    assert "attempt 2 failed (503 server error, http_5xx): The receiver failed to handle the request." in words.text
    assert "2026-01-02 13:00:00 UTC" in words.text
    assert "receiver's log" in words.remedy
    here = in_words(ReasonCode.waiting_for_retry, EVENT, SUBSCRIPTION, made, zone=ZoneInfo("Europe/Berlin"))
    assert "Waiting until 2026-01-02 14:00:00, because" in here.text


@pytest.mark.parametrize("failure", sorted(FailureKind))
def test_every_failure_kind_can_be_explained(failure: FailureKind) -> None:
    made = replace(DELIVERY, **(LATER | {"last_failure": str(failure), "last_status_code": None}))
    check_words(ReasonCode.waiting_for_retry, event=EVENT, subscription=SUBSCRIPTION, delivery=made)


def test_a_pause_says_since_when_and_by_whom() -> None:
    paused = replace(SUBSCRIPTION, status="paused", status_reason="by administrator:admin")
    words = in_words(ReasonCode.paused, EVENT, paused, replace(DELIVERY, **HELD))
    assert "since 2026-01-02 11:00:00 UTC (by administrator:admin)" in words.text


def test_the_page_has_a_row_for_each_reason() -> None:
    page = (ROOT / "docs/explain.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(ReasonCode)


def test_a_tls_failure_says_until_when_our_own_certificate_is_valid() -> None:
    expiry = {"certificate_expires_at": NOON}
    words = f"client certificate is valid until {NOON:%Y-%m-%d %H:%M:%S} UTC."
    for failure, own, expected in (("tls", expiry, True), ("tls", {}, False), ("dns", expiry, False)):
        subscription = replace(SUBSCRIPTION, **own)
        delivery = replace(DELIVERY, **LATER | {"last_failure": failure})
        text = in_words(ReasonCode.waiting_for_retry, EVENT, subscription, delivery).text
        assert (words in text) == expected, text
        assert "  " not in text
