"""The verdict on ledgers made by hand: it finds what is wrong, and only that."""

import json
from dataclasses import replace

import pytest

from tests.chaos import verdict
from tests.chaos.findings import Promise, examine, promises
from tests.chaos.ledger import Arrival, Attempt, Disturbance, read_arrivals
from tests.chaos.making import PATH, arrival, emitted, failed, killed, ledger


@pytest.mark.parametrize(
    ("arrivals", "is_lost"),
    [
        ([], True),
        ([arrival()], False),
        ([failed()], True),
        ([failed(), arrival(at=6)], False),
        ([arrival(told=False)], True),
        ([arrival("2")], True),
    ],
    ids=["nothing", "arrived", "failed for good", "retried", "answered to nobody", "another event"],
)
def test_lost_is_what_was_accepted_and_had_no_good_answer_that_could_be_read(
    arrivals: list[Arrival], is_lost: bool
) -> None:
    assert verdict.lost(ledger([emitted()], arrivals)) == ([(PATH, "1")] if is_lost else [])


def test_what_was_not_accepted_is_not_owed() -> None:
    assert verdict.lost(ledger([], [])) == []
    assert verdict.unowed(ledger([emitted()], [arrival(), arrival("2")])) == [(PATH, "2")]


def test_one_delivery_has_one_name() -> None:
    ones = [arrival(message_id="a"), arrival(at=2, message_id="b"), arrival("2"), arrival("2", at=2)]
    assert verdict.renamed(ledger([emitted(), emitted("2")], ones)) == [(PATH, "1")]


@pytest.mark.parametrize(
    ("arrivals", "count"),
    [
        ([arrival(at=1)], 0),
        ([failed(at=1), arrival(at=6)], 0),
        ([arrival(at=1), arrival(at=6)], 1),
        ([arrival(at=1), arrival(at=6), arrival(at=9)], 2),
        ([arrival(at=1, told=False), arrival(at=6)], 0),
        ([arrival(at=1), failed(at=6)], 1),
        ([arrival(at=1, seconds=2), arrival(at=2)], 0),
    ],
    ids=["once", "after a failure", "twice", "thrice", "the first unread", "the repeat failed", "beside each other"],
)
def test_a_duplicate_is_a_request_after_a_good_answer_that_could_be_read(arrivals: list[Arrival], count: int) -> None:
    assert len(verdict.duplicates(ledger([emitted()], arrivals))) == count


@pytest.mark.parametrize(
    ("at", "explained"),
    [(0.5, False), (1.1, True), (1.5, True), (1.501 + 0.02, True), (2.5, False)],
    ids=["before it", "in flight", "at the answer", "not yet written", "long after"],
)
def test_a_kill_explains_a_repeat_of_what_was_in_flight_or_not_written_then(at: float, explained: bool) -> None:
    kill = killed("worker", at)
    [duplicate] = verdict.duplicates(ledger([emitted()], [arrival(at=1, seconds=0.5), arrival(at=6)], kill))
    assert duplicate.cause == (kill if explained else None)


def test_a_repeat_is_laid_to_the_likeliest_of_what_happened_together() -> None:
    api, worker = killed("api", 1.1), killed("worker", 1.2)
    [duplicate] = verdict.duplicates(ledger([emitted()], [arrival(at=1, seconds=0.5), arrival(at=6)], api, worker))
    assert duplicate.cause == worker
    [duplicate] = verdict.duplicates(ledger([emitted()], [arrival(at=1, seconds=0.5), arrival(at=6)], api))
    assert duplicate.cause == api


def test_what_happened_to_one_worker_explains_no_repeat_of_another_ones_attempt() -> None:
    kill = replace(killed("worker", 1.2), detail="worker-1")
    cut = Disturbance("cut", "worker/postgres", 0.5, 4.0, "worker-1, 3.5 s")
    first, again = arrival(at=1, seconds=0.5), arrival(at=6)
    for one in (kill, cut):
        for worker, cause in (("worker-1", one), ("worker-2", None), ("", one)):
            said_of = {first.message_id: [Attempt("none", worker), Attempt("delivered", "worker-3")]}
            [duplicate] = verdict.duplicates(ledger([emitted()], [first, again], one), said_of=said_of)
            assert duplicate.cause == cause
    [duplicate] = verdict.duplicates(ledger([emitted()], [first, again], killed("postgres", 1.2)), said_of=said_of)
    assert duplicate.cause is not None


@pytest.mark.parametrize(
    ("at", "written_at", "explained"),
    [(2.0, None, True), (2.0, 5.9, True), (2.0, 1.6, False), (4.6, None, False), (0.5, None, False)],
    ids=["never written", "late", "before it", "killed long after", "killed before"],
)
def test_a_kill_explains_a_repeat_of_what_our_log_did_not_have_then(
    at: float, written_at: float | None, explained: bool
) -> None:
    kill = replace(killed("worker", at), detail="worker-1")
    first, again = arrival(at=1, seconds=0.5), arrival(at=6)
    good = Attempt("none" if written_at is None else "delivered", "worker-1", written_at)
    said_of = {first.message_id: [good, Attempt("delivered", "worker-2", 6.1)]}
    [duplicate] = verdict.duplicates(ledger([emitted()], [first, again], kill), said_of=said_of)
    assert duplicate.cause == (kill if explained else None)


def test_a_kill_met_also_what_was_answered_and_not_written() -> None:
    kill = killed("worker", 3.0)
    first, again = arrival(at=1, seconds=0.5), arrival(at=6)
    said_of = {first.message_id: [Attempt("none", "worker-1", None), Attempt("delivered", "worker-2", 6.1)]}
    history = ledger([emitted()], [first, again], kill)
    repeated = verdict.duplicates(history, said_of=said_of)
    assert verdict.under_way(history, kill) == 0
    assert verdict.under_way(history, kill, repeated=repeated) == len(repeated) == 1


def test_a_stop_explains_as_long_as_it_lasts() -> None:
    stop = Disturbance("stop", "worker", 0.2, 4.0)
    [duplicate] = verdict.duplicates(ledger([emitted()], [arrival(at=3), arrival(at=6)], stop))
    assert duplicate.cause == stop


@pytest.mark.parametrize(
    ("name", "explained"),
    [
        ("cut worker/postgres", True),
        ("cut incoming receiver", True),
        ("loss worker", True),
        ("reset worker", True),
        ("cut worker/temporal", False),
        ("cut temporal", False),
        ("delay worker/postgres", False),
    ],
)
def test_a_partition_explains_a_repeat_if_a_response_or_its_outcome_was_lost_in_it(name: str, explained: bool) -> None:
    kind, _, target = name.rpartition(" ")
    fault = Disturbance(kind, target, 0.5, 4.0)
    [duplicate] = verdict.duplicates(ledger([emitted()], [arrival(at=3), arrival(at=9)], fault))
    assert duplicate.cause == fault
    assert (duplicate.cause.name in verdict.MAY_REPEAT) is explained


def test_a_worker_cut_from_its_database_may_be_taken_for_dead_until_it_has_connected_again() -> None:
    cut = Disturbance("cut", "worker/postgres", 0.5, 4.0)
    beyond = 4.0 + verdict.RECONNECTED_SECONDS + verdict.NOTICED_SECONDS
    for at, cause in ((beyond - 0.1, cut), (beyond + 0.1, None)):
        [duplicate] = verdict.duplicates(ledger([emitted()], [arrival(at=at), arrival(at=at + 5)], cut))
        assert duplicate.cause == cause


@pytest.mark.parametrize(
    ("first", "again_at", "count"),
    [
        (arrival(at=1, seconds=2), 2.0, 1),
        (arrival(at=1, seconds=2), 2.9, 0),
        (arrival(at=1, kind="hang", status=None, seconds=4), 2.0, 1),
        (arrival(at=1, kind="hang", status=None, seconds=4), 10.0, 0),
    ],
    ids=["during a slow one", "at its end", "during one that fails", "after it"],
)
def test_a_request_beside_one_of_the_same_delivery_has_a_second_sender(
    first: Arrival, again_at: float, count: int
) -> None:
    beside = verdict.together(ledger([emitted()], [first, arrival(at=again_at)], killed("api", 20.0)))
    assert [one.cause for one in beside] == [None] * count


def test_order_is_broken_by_sending_before_the_earlier_one_has_arrived_well() -> None:
    events = [emitted("1", 0.0), emitted("2", 0.5)]
    in_order = [failed("1", 1), arrival("1", 6), arrival("2", 6.1)]
    overtaken = [failed("1", 1), arrival("2", 2), arrival("1", 6)]
    assert verdict.inversions(ledger(events, in_order), PATH) == []
    assert verdict.inversions(ledger(events, overtaken), PATH) == [("2", "1")]


def test_a_repeat_of_what_had_arrived_well_breaks_no_order() -> None:
    events = [emitted("1", 0.0), emitted("2", 0.5)]
    assert verdict.inversions(ledger(events, [arrival("1", 1), arrival("2", 2), arrival("1", 3)]), PATH) == []


def test_events_whose_acceptance_overlapped_have_no_order() -> None:
    events = [emitted("1", 0.0, 1.0), emitted("2", 0.5, 0.9)]
    assert verdict.inversions(ledger(events, [arrival("2", 2), arrival("1", 3)]), PATH) == []


def test_who_is_ordered_by_line_may_overtake_other_lines_alone() -> None:
    events = [emitted(one, number / 10) for number, one in enumerate(("a1", "b1", "a2", "b2"))]
    arrivals = [failed("a1", 1), arrival("b1", 2), arrival("b2", 3), arrival("a1", 6), arrival("a2", 7)]
    assert verdict.inversions(ledger(events, arrivals), PATH, lambda one: one[0]) == []
    overtaken = [failed("a1", 1), arrival("a2", 2), arrival("a1", 6)]
    assert verdict.inversions(ledger(events, overtaken), PATH, lambda one: one[0]) == [("a2", "a1")]


def test_what_was_answered_while_the_database_was_away_was_not_written_either() -> None:
    away = Disturbance("kill", "postgres", 1.0, 1.0, process_seconds=2.0)
    arrivals = [arrival("1", 2.5), arrival("1", 9)]
    [repeated] = verdict.duplicates(ledger([emitted()], arrivals, away, killed("worker", 3.5)))
    assert repeated.cause is not None
    assert repeated.cause.name == "kill postgres"
    late = [arrival("1", 3.3), arrival("1", 9)]
    [unexplained] = verdict.duplicates(ledger([emitted()], late, away))
    assert unexplained.cause is None


@pytest.mark.parametrize(("again_at", "error"), [(6.0, 0.0), (7.0, 1.0), (3.0, -3.0)])
def test_a_retry_is_measured_against_its_schedule_with_the_jitter_of_its_message(again_at: float, error: float) -> None:
    [retry] = verdict.retries(ledger([emitted()], [failed(at=1), arrival(at=again_at)]), PATH, (5, 5))
    assert retry.error == pytest.approx(error, abs=0.5 + 0.01)  # ± 10 % of five seconds


def test_a_request_sent_again_on_a_new_connection_within_its_attempt_is_no_retry() -> None:
    closed, again = (arrival(at=at, kind="reset", status=None, seconds=0.01) for at in (1, 1.1))
    arrivals = [closed, again, arrival(at=6.11)]
    [retry] = verdict.retries(ledger([emitted()], arrivals), PATH, (5, 60))
    assert retry.error == pytest.approx(0, abs=0.5 + 0.01), "one failure, not two"
    late = [closed, arrival(at=4)]
    [early] = verdict.retries(ledger([emitted()], late), PATH, (5, 60))
    assert early.error < -1


def test_what_the_receiver_asked_for_wins_over_the_schedule() -> None:
    [retry] = verdict.retries(ledger([emitted()], [failed(at=1, retry_after=3), arrival(at=4.201)]), PATH, (60,))
    assert retry.error == pytest.approx(0.2)
    assert not retry.disturbed


@pytest.mark.parametrize(
    ("outcome", "written_at", "unknown"),
    [("interrupted", 4.0, True), ("timeout", 4.0, True), ("timeout", 1.1, False)],
    ids=["lost with its worker", "written late", "written before it"],
)
def test_an_early_retry_is_explained_by_an_outcome_that_our_log_did_not_have(
    outcome: str, written_at: float, unknown: bool
) -> None:
    first, again = failed(at=1), arrival(at=4)
    said_of = {first.message_id: [Attempt(outcome, "worker-1", written_at), Attempt("delivered", "worker-2", 4.1)]}
    cut = Disturbance("cut outgoing", "worker", 1.5, 4.0, detail="worker-1")
    [retry] = verdict.retries(ledger([emitted()], [first, again], cut), PATH, (5, 5), said_of)
    assert retry.outcome_unknown is unknown


def test_a_retry_near_a_disturbance_is_told_apart() -> None:
    arrivals = [failed(at=1, retry_after=3), arrival(at=4.2)]
    [retry] = verdict.retries(ledger([emitted()], arrivals, killed("temporal", 3.0)), PATH, (60,))
    assert (retry.disturbed, retry.outcome_unknown) == (True, False)
    [retry] = verdict.retries(ledger([emitted()], arrivals, killed("worker", 1.001)), PATH, (60,))
    assert (retry.disturbed, retry.outcome_unknown) == (True, True)
    [retry] = verdict.retries(ledger([emitted()], arrivals, killed("worker", -20.0)), PATH, (60,))
    assert (retry.disturbed, retry.outcome_unknown) == (False, False)


@pytest.mark.parametrize(
    ("instants", "most"),
    [([], 0), ([1.0], 1), ([0.0, 0.5, 0.999], 3), ([0.0, 0.5, 1.0], 2), ([0.0, 0.6, 1.1, 1.5, 2.2], 3)],
)
def test_the_worst_second_may_begin_anywhere(instants: list[float], most: int) -> None:
    assert verdict.most_in_a_second(instants) == most


def test_what_was_read_late_counts_only_for_seconds_in_which_it_surely_arrived() -> None:
    exact = [(number / 16, number / 16) for number in range(49)]
    assert verdict.surely_in_a_second(exact) == 16
    read_late = [(1.0, 1.25) if 1.0 < at < 1.25 else (at, at) for at, _ in exact]
    assert verdict.most_in_a_second(at for _, at in read_late) == 19
    assert verdict.surely_in_a_second(read_late) == 16


def test_overshoot_is_a_part_of_the_limit() -> None:
    arrivals = [arrival(str(number), 1 + number / 100) for number in range(21)]
    assert verdict.overshoot(ledger([], arrivals), PATH, 20) == pytest.approx(0.05)
    assert verdict.overshoot(ledger([], arrivals), PATH, 50) == 0


def test_what_a_cut_network_lets_through_at_once_is_no_overshoot() -> None:
    arrivals = [arrival(str(number), 4 + number / 100) for number in range(30)]
    for kind, target, overshoot in (("cut", "receiver", 0), ("cut", "worker/postgres", 0.5), ("kill", "worker", 0.5)):
        happened = Disturbance(kind, target, 1.0, 4.0)
        assert verdict.overshoot(ledger([], arrivals, happened), PATH, 20) == pytest.approx(overshoot)


def test_flow_is_back_after_a_cut_when_something_emitted_after_its_end_has_arrived() -> None:
    cut = Disturbance("cut", "postgres", 2.0, 8.0)
    events = [emitted("1", 5.0), emitted("2", 9.0)]
    arrivals = [arrival("1", 8.5, 0), arrival("2", 11.0, 0)]
    assert verdict.recovery(ledger(events, arrivals, cut), cut) == pytest.approx(3.0)


def test_flow_is_back_when_something_emitted_after_the_kill_has_arrived() -> None:
    kill = killed("temporal", 2.0)
    events = [emitted("1", 0.0), emitted("2", 3.0)]
    arrivals = [arrival("1", 2.5, 0), arrival("2", 7.0, 0)]
    assert verdict.recovery(ledger(events, arrivals, kill), kill) == pytest.approx(5.0)
    assert verdict.flow_gap(ledger(events, arrivals, kill), kill) == pytest.approx(0.5)
    assert verdict.recovery(ledger(events[:1], arrivals[:1], kill), kill) is None


def test_what_lasts_puts_a_recovery_off_to_its_end_if_it_begins_while_the_recovery_is_due() -> None:
    kill, events = killed("worker", 2.0), [emitted(str(number), number) for number in range(60)]
    for cut, answered, seconds in (
        (Disturbance("cut", "postgres", 5.0, 13.0), 14.0, 1.0),
        (Disturbance("cut", "postgres", 13.0, 20.0), 21.0, 19.0),
    ):
        arrivals = [arrival(event.event_id, max(event.sent_at, answered), 0) for event in events]
        assert verdict.recovery(ledger(events, arrivals, kill, cut), kill) == pytest.approx(seconds)


def test_a_slow_recovery_breaks_its_promise_and_one_that_was_not_measured_keeps_none() -> None:
    def recovery(answered: float, until: float) -> Promise:
        events = [emitted(str(number), number) for number in range(int(until))]
        arrivals = [arrival(event.event_id, max(event.sent_at, answered), 0) for event in events]
        found = examine(
            ledger(events, arrivals, killed("worker", 5.0), Disturbance("cut", "api", 16.0, 22.0)),
            seed=1,
            seconds=60.0,
            began_at=0.0,
        )
        [promise] = [one for one in promises([found]) if one.text.startswith("from a kill")]
        return promise

    assert [(one.kept, one.broken) for one in (recovery(9.0, 60), recovery(20.0, 60), recovery(4.0, 4))] == [
        (True, False),
        (False, True),
        (False, False),
    ]


def test_a_full_disk_is_known_by_failed_writes_and_by_a_503_while_it_lasts() -> None:
    for writes, unnoticed in ((0, 1), (3, 0)):
        temporal_full = Disturbance("fill", "temporal", 2.0, 6.0, failed_writes=writes)
        assert verdict.fills_unnoticed(ledger([], [], temporal_full)) == unnoticed
    full = Disturbance("fill", "postgres", 2.0, 6.0, failed_writes=3)
    for instants, unnoticed in (((), 1), ((1.0, 7.0), 1), ((5.0,), 0)):
        assert verdict.fills_unnoticed(replace(ledger([], [], full), unavailable=instants)) == unnoticed


def test_latenesses_run_from_the_acceptance_to_the_first_request() -> None:
    events = [emitted("1", 0.0, 0.5), emitted("2", 0.0, 3.0)]
    arrivals = [failed("1", 1.0), arrival("1", 6.0), arrival("2", 2.9)]
    assert verdict.latenesses(ledger(events, arrivals), PATH) == [0.5, 0.0]


def test_a_request_that_never_ended_is_in_the_ledger_all_the_same() -> None:
    begun = {"path": PATH, "event_id": "1", "message_id": "a", "arrived_at": 1.0, "kind": "hang", "status": None}
    answered = {**begun, "event_id": "2", "kind": "ok", "status": 200}
    lines = [
        json.dumps({"n": 1, **begun}),
        json.dumps({"n": 2, **answered}),
        json.dumps({"n": 2, "ended_at": 1.5, "told": True}),
    ]
    unfinished, whole = read_arrivals(lines)
    assert (unfinished.ended_at, unfinished.succeeded) == (None, False)
    assert (whole.ended_at, whole.succeeded) == (1.5, True)
