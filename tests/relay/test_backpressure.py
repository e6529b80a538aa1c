"""Backpressure: credits are taken by a start and given back when the first attempts are over."""

import pytest

from relay import backpressure as module
from relay.backpressure import MAX_IN_FLIGHT, Backpressure, WorkflowKind


def without_batch_credits() -> Backpressure:
    backpressure = Backpressure()
    for number in range(MAX_IN_FLIGHT[WorkflowKind.BATCH]):
        backpressure.acquire(f"events/{number}", WorkflowKind.BATCH)
    return backpressure


@pytest.mark.parametrize("kind", WorkflowKind)
def test_each_start_takes_a_credit_and_each_end_gives_one_back(kind: WorkflowKind) -> None:
    backpressure = Backpressure()
    for number in range(MAX_IN_FLIGHT[kind]):
        assert backpressure.credits(kind) == MAX_IN_FLIGHT[kind] - number
        backpressure.acquire(f"some/{number}", kind)
    assert backpressure.credits(kind) == 0
    backpressure.release("some/0")
    assert backpressure.credits(kind) == 1


def test_single_events_have_credits_however_many_batches_are_in_flight() -> None:
    backpressure = without_batch_credits()
    assert backpressure.credits(WorkflowKind.BATCH) == 0
    assert backpressure.credits(WorkflowKind.SINGLE) == MAX_IN_FLIGHT[WorkflowKind.SINGLE]


def test_lapsed_claims_find_credits_though_new_ones_take_all_of_theirs() -> None:
    backpressure = without_batch_credits()
    assert backpressure.credits_for_lapsed(WorkflowKind.BATCH) == MAX_IN_FLIGHT[WorkflowKind.BATCH]
    for number in range(MAX_IN_FLIGHT[WorkflowKind.BATCH]):
        backpressure.acquire(f"events/again/{number}", WorkflowKind.BATCH)
    assert backpressure.credits_for_lapsed(WorkflowKind.BATCH) == backpressure.credits(WorkflowKind.BATCH) == 0
    backpressure.release("events/0")
    assert (backpressure.credits_for_lapsed(WorkflowKind.BATCH), backpressure.credits(WorkflowKind.BATCH)) == (1, 0)


def test_the_relay_is_woken_by_the_first_credit_after_none_and_by_no_other() -> None:
    backpressure = without_batch_credits()
    backpressure.acquire("event/s/1", WorkflowKind.SINGLE)
    backpressure.release("event/s/1")
    assert not backpressure.wake.is_set()
    backpressure.release("events/0")
    assert backpressure.wake.is_set()


def test_a_start_that_temporal_has_not_answered_keeps_its_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOREIGN_AFTER_SECONDS", 0.0)
    assert without_batch_credits().credits(WorkflowKind.BATCH) == 0


def test_a_workflow_that_another_worker_takes_gives_its_credit_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOREIGN_AFTER_SECONDS", 0.0)
    backpressure = without_batch_credits()
    backpressure.started("events/0")
    assert backpressure.credits(WorkflowKind.BATCH) == 1


def test_a_workflow_that_this_worker_takes_keeps_its_credit_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOREIGN_AFTER_SECONDS", 0.0)
    backpressure = without_batch_credits()
    backpressure.entered("events/0")
    backpressure.started("events/0")  # started eagerly, it was entered before the answer came
    assert backpressure.credits(WorkflowKind.BATCH) == 0
    backpressure.release("events/0")
    assert backpressure.credits(WorkflowKind.BATCH) == 1


def test_a_workflow_of_another_worker_takes_no_credit() -> None:
    backpressure = Backpressure()
    backpressure.entered("events/foreign")
    backpressure.started("events/foreign")
    backpressure.release("events/foreign")
    assert backpressure.credits(WorkflowKind.BATCH) == MAX_IN_FLIGHT[WorkflowKind.BATCH]
