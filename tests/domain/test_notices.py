"""What an operator is told, and when a receiver is given up."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from domain.delivery.notices import DisableRules, Notice, NoticeKind, is_given_up, notice_body, notice_line

DAY_SECONDS = 86400
RULES = DisableRules(failing_seconds=5 * DAY_SECONDS, deliveries=10)
NOTICE = Notice(
    id=UUID(int=1),
    kind=NoticeKind.EXHAUSTED,
    store_code="default",
    subscription_id=UUID(int=2),
    event_name="CustomerUpdated",
    target="receiver.example.com/hook",
    count=3,
    reasons=("breaker_open", "schedule_used_up"),
    first_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    last_at=datetime(2026, 1, 2, 5, 4, 6, tzinfo=timezone(timedelta(hours=2))),
)


@pytest.mark.parametrize(
    ("failing_seconds", "deliveries", "given_up"),
    [
        pytest.param(5 * DAY_SECONDS, 10, True, id="just long enough and just enough"),
        pytest.param(5 * DAY_SECONDS - 1, 10, False, id="a second too early"),
        pytest.param(50 * DAY_SECONDS, 9, False, id="one delivery too few"),
        pytest.param(None, 10, False, id="not failing"),
    ],
)
def test_a_receiver_is_given_up_after_days_and_deliveries(
    failing_seconds: float | None, deliveries: int, given_up: bool
) -> None:
    assert is_given_up(RULES, failing_seconds=failing_seconds, deliveries=deliveries) is given_up


def test_a_notice_is_a_standard_webhooks_envelope() -> None:
    assert json.loads(notice_body(NOTICE)) == {
        "type": "delivery.exhausted",
        "timestamp": "2026-01-02T03:04:05Z",
        "data": {
            "storeCode": "default",
            "webhookSubscriptionId": "00000000-0000-0000-0000-000000000002",
            "eventName": "CustomerUpdated",
            "target": "receiver.example.com/hook",
            "reasons": ["breaker_open", "schedule_used_up"],
            "count": 3,
            "lastAt": "2026-01-02T03:04:06Z",
        },
    }


def test_a_line_for_a_person_says_what_where_and_how_often() -> None:
    assert notice_line(NOTICE) == (
        "2026-01-02T03:04:05Z gave up a delivery (delivery.exhausted), receiver kept failing (breaker_open), "
        "retry schedule used up (schedule_used_up), 3 times: "
        "webhook CustomerUpdated to receiver.example.com/hook, id 00000000-0000-0000-0000-000000000002"
    )
    assert "times" not in notice_line(replace(NOTICE, count=1))


@pytest.mark.parametrize("kind", NoticeKind)
def test_a_line_for_a_person_has_words_for_each_kind(kind: NoticeKind) -> None:
    assert f"({kind})" in notice_line(replace(NOTICE, kind=kind, reasons=()))
