"""What becomes of a delivery after each answer, and how long a receiver may ask us to wait."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.delivery.failure_kinds import EXPLANATIONS, FailureKind
from domain.delivery.verdict import (
    RETRY_AFTER_MAX_SECONDS,
    Answer,
    DeliveryControl,
    Verdict,
    parse_control,
    parse_retry_after,
    status_failure,
    verdict,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 226, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert verdict(Answer(status, None)) == Verdict("delivered")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, FailureKind.http_3xx),
        (301, FailureKind.http_3xx),
        (304, FailureKind.http_3xx),
        (308, FailureKind.http_3xx),
        (400, FailureKind.http_4xx),
        (401, FailureKind.http_4xx),
        (403, FailureKind.http_4xx),
        (404, FailureKind.http_4xx),
        (408, FailureKind.http_busy),
        (409, FailureKind.http_4xx),
        (413, FailureKind.http_4xx),
        (422, FailureKind.http_4xx),
        (425, FailureKind.http_busy),
        (429, FailureKind.http_busy),
        (499, FailureKind.http_4xx),
        (500, FailureKind.http_5xx),
        (503, FailureKind.http_5xx),
        (599, FailureKind.http_5xx),
        (0, FailureKind.invalid_response),
        (101, FailureKind.invalid_response),
        (199, FailureKind.invalid_response),
        (600, FailureKind.invalid_response),
        (999, FailureKind.invalid_response),
    ],
)
def test_every_other_status_is_retried_under_its_kind(status: int, kind: FailureKind) -> None:
    judged = verdict(Answer(status, None))
    assert (judged.outcome, judged.failure, judged.counts_against_receiver) == ("retry", kind, True)
    assert judged.disables_as is None


def test_410_exhausts_the_delivery_and_disables_the_subscription() -> None:
    judged = verdict(Answer(410, None, 60.0))
    assert judged == Verdict(
        "exhausted", FailureKind.http_gone, disables_as=FailureKind.http_gone, counts_against_receiver=True
    )


@pytest.mark.parametrize(
    "kind",
    ["dns", "dns_refused", "oauth2_token", "connect", "tls", "timeout", "reset", "invalid_response"],
)
def test_failures_on_the_way_are_retried(kind: str) -> None:
    assert verdict(Answer(None, FailureKind(kind))) == Verdict("retry", FailureKind(kind), counts_against_receiver=True)


def test_a_blocked_address_is_exhausted_at_once() -> None:
    judged = verdict(Answer(None, FailureKind.blocked))
    assert (judged.outcome, judged.disables_as) == ("exhausted", None)


@pytest.mark.parametrize("kind", ["event_erased", "subscription_deleted"])
def test_what_was_erased_or_deleted_is_cancelled(kind: str) -> None:
    assert verdict(Answer(None, FailureKind(kind))) == Verdict("cancelled", FailureKind(kind))


@pytest.mark.parametrize("kind", ["interrupted", "internal", "proxy_unavailable"])
def test_internal_errors_never_count_against_the_receiver(kind: str) -> None:
    assert verdict(Answer(None, FailureKind(kind))) == Verdict("repeat", FailureKind(kind))


def test_a_refusal_by_the_egress_proxy_is_retried_by_the_schedule_and_blames_no_receiver() -> None:
    assert verdict(Answer(None, FailureKind.proxy_refused)) == Verdict("retry", FailureKind.proxy_refused)


@pytest.mark.parametrize("kind", [FailureKind.reset, FailureKind.timeout, FailureKind.invalid_response])
def test_a_200_that_did_not_arrive_whole_is_no_success(kind: FailureKind) -> None:
    assert verdict(Answer(200, kind)).outcome == "retry"


@pytest.mark.parametrize("status", [301, 404, 408, 429, 500, 503])
def test_retry_after_goes_along_with_whatever_is_retried(status: int) -> None:
    assert verdict(Answer(status, None, 90.0)).retry_after_seconds == 90.0


@pytest.mark.parametrize("answer", [Answer(200, None, 90.0), Answer(410, None, 90.0)])
def test_retry_after_means_nothing_where_nothing_is_retried(answer: Answer) -> None:
    assert verdict(answer).retry_after_seconds is None


def test_an_answer_without_status_or_failure_is_a_bug_and_said_so() -> None:
    with pytest.raises(ValueError, match="status code or a failure kind"):
        verdict(Answer(None, None))


@given(st.integers(-1000, 100_000))
def test_every_number_a_receiver_may_send_is_judged(status: int) -> None:
    judged = verdict(Answer(status, None))
    assert (judged.failure is None) == (200 <= status <= 299) == (judged.outcome == "delivered")
    assert status_failure(status) == judged.failure


@pytest.mark.parametrize("kind", FailureKind, ids=str)
def test_every_kind_has_a_verdict_and_an_explanation_in_one_sentence_each(kind: FailureKind) -> None:
    judged = verdict(Answer(None, kind))
    assert judged.failure is kind
    assert judged.outcome != "delivered"
    explanation = EXPLANATIONS[kind]
    for sentence in (explanation.meaning, explanation.remedy):
        assert sentence.endswith(".")
        assert ". " not in sentence
    of_receiver = explanation.stage in {"on the way", "the receiver's answer"}
    assert judged.counts_against_receiver == (of_receiver and kind is not FailureKind.aborted_by_receiver)


DISABLED, ABORTED = FailureKind.disabled_by_receiver, FailureKind.aborted_by_receiver


@pytest.mark.parametrize(
    ("status", "value", "expected"),
    [
        (200, "disable", Verdict("delivered", disables_as=DISABLED)),
        (204, "abort-message", Verdict("delivered")),
        (400, "disable", Verdict("exhausted", DISABLED, disables_as=DISABLED, counts_against_receiver=True)),
        (429, "disable", Verdict("exhausted", DISABLED, disables_as=DISABLED, counts_against_receiver=True)),
        (422, " abort-message ", Verdict("exhausted", ABORTED)),
        (410, "abort-message", verdict(Answer(410, None))),
        (200, "stop", Verdict("delivered")),
        (404, "Disable", verdict(Answer(404, None))),
        (404, "disable, abort-message", verdict(Answer(404, None))),
        (404, "", verdict(Answer(404, None))),
        (301, "disable", verdict(Answer(301, None))),
        (503, "abort-message", verdict(Answer(503, None))),
    ],
)
def test_a_receiver_controls_its_deliveries_by_two_words_on_a_2xx_or_4xx(
    status: int, value: str, expected: Verdict
) -> None:
    control, ignored = parse_control(value, status)
    assert verdict(Answer(status, None, control=control)) == expected
    assert (control is None) == bool(ignored)


def test_a_word_on_an_answer_that_broke_off_counts_for_nothing() -> None:
    assert verdict(Answer(200, FailureKind.reset, control=DeliveryControl.DISABLE)).disables_as is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0120", 120.0),
        ("1.5", 1.5),
        ("86400", 86400.0),
        ("86401", 86400.0),
        ("999999999999", 86400.0),
        ("9" * 5000, 86400.0),
        ("0" * 5000 + "7", 7.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 13:00:30 +0100", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
        ("0", None),
        ("-1", None),
        ("+5", None),
        ("", None),
        ("soon", None),
        ("1e3", None),
        ("1,000", None),
        ("٣", None),
        ("120, 60", None),
        ("0x10", None),
        ("nan", None),
        ("inf", None),
        ("Sun, 01 Mar 2026 11:59:59 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Sun, 31 Feb 2026 12:00:00 GMT", None),
        ("Sun, 01 Mar 0000 12:00:00 GMT", None),
        ("Sun, 01 Mar 2026 99:00:00 GMT", None),
        ("2026-03-01T12:00:30Z", None),
        ("\x00", None),
    ],
    ids=lambda value: repr(value)[:32],
)
def test_retry_after_is_seconds_or_a_date_up_to_a_day_and_anything_else_is_ignored(
    value: str, seconds: float | None
) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_retry_after_does_not_depend_on_the_time_zone_of_now() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert parse_retry_after("Sun, 01 Mar 2026 12:00:30 GMT", elsewhere) == 30.0


@given(st.text(max_size=60))
def test_no_header_value_breaks_the_parser(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 < seconds <= RETRY_AFTER_MAX_SECONDS
