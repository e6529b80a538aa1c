"""What becomes of a delivery before and after each attempt: the whole table of it."""

from uuid import UUID

import pytest

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import (
    INTERNAL_ERROR_DELAY_SECONDS,
    OPEN,
    TERMINAL,
    TRANSITIONS,
    Cause,
    DeliveryStatus,
    Reason,
    Step,
    ending_before,
    step_after,
    step_before,
)
from domain.delivery.retry import retry_delay
from domain.delivery.verdict import Answer, DeliveryControl, verdict

MESSAGE = UUID("0d3f6f0a-8a60-5f0b-9a0b-3d3c1f7f4f11")
SCHEDULE = (60, 600)
DISABLE, ABORT = DeliveryControl


def after(answer: Answer, failures: int = 0, schedule: tuple[int, ...] = SCHEDULE) -> Step:
    return step_after(
        verdict(answer), status_code=answer.status_code, failures=failures, schedule=schedule, message_id=MESSAGE
    )


@pytest.mark.parametrize(
    ("answer", "failures", "expected"),
    [
        pytest.param(Answer(200, None), 0, ("delivered", None, 0), id="2xx delivers"),
        pytest.param(Answer(204, None), 2, ("delivered", None, 2), id="2xx delivers at the last attempt"),
        pytest.param(Answer(500, None), 0, ("pending", None, 1), id="first failure"),
        pytest.param(Answer(500, None), 1, ("pending", None, 2), id="second failure"),
        pytest.param(Answer(500, None), 2, ("exhausted", "schedule_used_up", 3), id="third failure of two retries"),
        pytest.param(Answer(500, None), 9, ("exhausted", "schedule_used_up", 10), id="the schedule was shortened"),
        pytest.param(Answer(503, None, 7.0), 2, ("exhausted", "schedule_used_up", 3), id="Retry-After after the last"),
        pytest.param(Answer(410, None), 0, ("exhausted", "http_gone", 1), id="410 at once"),
        pytest.param(Answer(400, None, None, DISABLE), 0, ("exhausted", "disabled_by_receiver", 1), id="disable"),
        pytest.param(Answer(400, None, 9.0, ABORT), 1, ("exhausted", "aborted_by_receiver", 2), id="abort-message"),
        pytest.param(Answer(200, None, None, ABORT), 1, ("delivered", None, 1), id="abort-message with a 2xx"),
        pytest.param(Answer(None, FailureKind.blocked), 0, ("exhausted", "blocked", 1), id="blocked at once"),
        pytest.param(Answer(200, FailureKind.reset), 0, ("pending", None, 1), id="200 that broke off"),
        pytest.param(Answer(None, FailureKind.internal), 0, ("pending", None, 0), id="internal error uses nothing up"),
        pytest.param(Answer(None, FailureKind.internal), 2, ("pending", None, 2), id="internal error does not end it"),
        pytest.param(Answer(None, FailureKind.proxy_unavailable), 2, ("pending", None, 2), id="nor does the proxy's"),
        pytest.param(Answer(None, FailureKind.proxy_refused), 0, ("pending", None, 1), id="a refusal by the proxy"),
        pytest.param(
            Answer(None, FailureKind.proxy_refused), 2, ("exhausted", "schedule_used_up", 3), id="still refused"
        ),
        pytest.param(Answer(None, FailureKind.interrupted), 2, ("pending", None, 2), id="a dead worker is ours"),
    ],
)
def test_the_table_of_steps(answer: Answer, failures: int, expected: tuple[str, str | None, int]) -> None:
    step = after(answer, failures)
    assert (step.status, step.reason, step.failures) == expected


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_next_attempt_is_named_exactly_while_the_delivery_is_open(kind: FailureKind, failures: int) -> None:
    step = after(Answer(None, kind), failures)
    assert step.status in set(DeliveryStatus)
    assert (step.next_in_seconds is not None) == (step.status == "pending")
    assert step.failure == kind


@pytest.mark.parametrize("kind", sorted(set(FailureKind) - {FailureKind.breaker_open}))  # no attempt fails with it
@pytest.mark.parametrize("failures", [0, 2])
def test_what_an_answer_makes_of_a_pending_delivery_is_a_row_of_the_table(kind: FailureKind, failures: int) -> None:
    step = after(Answer(None, kind), failures)
    rows = [row for row in TRANSITIONS if row.source is DeliveryStatus.PENDING and row.target == step.status]
    assert any(step.reason in row.reasons or (step.reason is None and not row.reasons) for row in rows)


@pytest.mark.parametrize(("status", "deleted"), [("disabled", False), ("active", True), ("disabled", True)])
def test_an_end_without_an_attempt_is_a_row_of_the_table(status: str, deleted: bool) -> None:
    ending = ending_before(subscription_status=status, subscription_deleted=deleted)
    assert ending is not None
    found = {row.source for row in TRANSITIONS if row.target is ending[0] and ending[1] in row.reasons}
    assert set(OPEN) <= found


def test_every_reason_is_given_by_a_transition_and_every_status_can_be_reached_and_left() -> None:
    assert {reason for row in TRANSITIONS for reason in row.reasons} == set(Reason)
    assert {row.target for row in TRANSITIONS} == set(DeliveryStatus)
    assert {row.source for row in TRANSITIONS if row.source is not row.target} == {None, *DeliveryStatus}
    keys = [(row.source, row.target, row.cause) for row in TRANSITIONS]
    assert len(set(keys)) == len(keys)


def test_a_held_delivery_never_becomes_pending_again() -> None:
    assert {row.source for row in TRANSITIONS if row.target is DeliveryStatus.PENDING} == {None, DeliveryStatus.PENDING}


def test_what_has_ended_is_opened_by_a_person_alone() -> None:
    opened = {row.cause for row in TRANSITIONS if row.source in TERMINAL and row.target in OPEN}
    assert opened == {Cause.RECOVER}


def test_the_delay_is_the_schedules() -> None:
    assert after(Answer(500, None), 1).next_in_seconds == retry_delay(SCHEDULE, 2, MESSAGE, None)


def test_the_receivers_wish_is_the_delay() -> None:
    assert after(Answer(429, None, 3600.0)).next_in_seconds == 3600


def test_an_internal_error_waits_its_own_time_whatever_the_schedule() -> None:
    assert after(Answer(None, FailureKind.internal), 0, ()).next_in_seconds == INTERNAL_ERROR_DELAY_SECONDS


@pytest.mark.parametrize(
    ("status", "deleted", "expected"),
    [
        pytest.param("active", False, None, id="active"),
        pytest.param("disabled", False, FailureKind.subscription_disabled, id="disabled"),
        pytest.param("disabled", True, FailureKind.subscription_deleted, id="deleted and disabled: deleted"),
        pytest.param("active", True, FailureKind.subscription_deleted, id="deleted"),
    ],
)
def test_no_request_for_a_subscription_that_is_gone(status: str, deleted: bool, expected: FailureKind | None) -> None:
    assert step_before(subscription_status=status, subscription_deleted=deleted) == expected
