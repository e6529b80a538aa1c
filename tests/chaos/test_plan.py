"""What a run is made of is drawn from its seed alone."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product

import pytest

from domain.delivery.retry import JITTER
from tests.chaos.faults import HEALTHY, KINDS, fault
from tests.chaos.ledger import NETWORK_KINDS
from tests.chaos.load import load
from tests.chaos.roles import BY_PATH, RATE_LIMIT, RETRY_SCHEDULE, ROLES, Role, subscribed
from tests.chaos.timetable import (
    COMPONENTS,
    ENDS,
    QUIET_END,
    QUIET_MIDDLE,
    QUIET_START,
    SECONDS_APART,
    timetable,
)


def test_the_same_seed_makes_the_same_run_and_another_seed_another() -> None:
    for plan in (lambda seed: load(seed, 30), lambda seed: timetable(seed, 120, jumps=True)):
        assert plan(1) == plan(1)
        assert plan(1) != plan(2)
    assert fault(1, BY_PATH["/flaky"], "a", 1, down=False) == fault(1, BY_PATH["/flaky"], "a", 1, down=False)


@pytest.mark.parametrize("seconds", [90, 120])
def test_five_seeds_kill_thirty_times_and_each_component(seconds: float) -> None:
    kills = Counter(
        action.target
        for seed in range(1, 6)
        for action in timetable(seed, seconds, jumps=False)
        if action.kind == "kill"
    )
    assert kills.total() >= 30
    assert min(kills[component] for component in COMPONENTS) >= 4


def test_what_cannot_be_killed_is_neither_killed_nor_stopped() -> None:
    reachable = ("api", "worker", "postgres")
    actions = [one for seed in range(5) for one in timetable(seed, 120, jumps=False, components=reachable)]
    assert {one.target for one in actions} == set(reachable)


def test_ten_seeds_with_partitions_cut_each_way_fill_both_disks_and_still_kill_everything() -> None:
    plans = [timetable(seed, 90, jumps=True, partitions=True, full_disks=True) for seed in range(1, 11)]
    done = Counter((action.kind, action.target) for plan in plans for action in plan)
    assert done.total() >= 100
    assert {kind for kind, _ in done} > {*NETWORK_KINDS, "fill", "jump", "stop"}
    assert {one for one in done if one[0] in NETWORK_KINDS} == {*product(NETWORK_KINDS, ENDS)}
    assert min(done["fill", target] for target in ("postgres", "temporal")) >= 1
    assert min(done["kill", component] for component in COMPONENTS) >= 3


def test_one_seed_of_a_minute_kills_several_components_and_leaves_each_time_to_come_back() -> None:
    for seed in range(20):
        actions = timetable(seed, 60, jumps=False)
        assert sum(action.kind == "kill" for action in actions) == 4
        assert len({action.target for action in actions if action.kind == "kill"}) >= 2
        instants = [action.at for action in actions]
        assert min(b - a for a, b in pairwise(instants)) > SECONDS_APART * 0.6
        assert max(instants) < 60 - QUIET_END


def test_a_long_run_has_time_without_disturbances_before_in_the_middle_and_at_the_end() -> None:
    for seed in range(20):
        instants = [0.0, *(action.at for action in timetable(seed, 120, jumps=False)), 120.0]
        gaps = [b - a for a, b in pairwise(instants)]
        assert gaps[0] >= 120 * QUIET_START
        assert gaps[-1] > QUIET_END
        assert max(gaps[1:-1]) > QUIET_MIDDLE


def test_five_seeds_of_a_minute_and_a_half_owe_ten_thousand_deliveries() -> None:
    owed = sum(len(one.event_ids) * len(subscribed(one.event_name)) for seed in range(1, 6) for one in load(seed, 90))
    assert owed >= 10_000


def test_no_event_is_emitted_twice_and_the_limited_ones_come_in_bursts_above_their_limit() -> None:
    emissions = load(3, 60)
    ids = [event_id for one in emissions for event_id in one.event_ids]
    assert len(ids) == len(set(ids))
    limited = [len(one.event_ids) for one in emissions if subscribed(one.event_name)[0].path == "/limited"]
    assert min(limited) > RATE_LIMIT
    assert sum(limited) < RATE_LIMIT * 60 / 2


def test_every_kind_of_fault_is_met_and_every_delivery_gets_through_in_the_end() -> None:
    met: set[str] = set()
    for number in range(2000):
        for role in ROLES:
            kinds = [fault(1, role, str(number), asked, down=False).kind for asked in (1, 2, 3)]
            assert kinds[2] == "ok"
            met |= set(kinds)
    assert met == {"ok", *KINDS}


def test_a_receiver_that_is_down_answers_nothing_well() -> None:
    dead = BY_PATH["/dead"]
    [(begin, end)] = dead.outages(60)
    assert [dead.is_down(at, 60) for at in (begin - 0.1, begin, end - 0.1, end)] == [False, True, True, False]
    during = {fault(1, dead, str(number), 1, down=True).kind for number in range(200)}
    assert during == {"error", "reset", "close"}


@pytest.mark.parametrize("minutes", [1, 14, 60, 600])
def test_no_receiver_of_a_run_of_any_length_is_down_for_longer_than_its_retries_go_on(minutes: int) -> None:
    shortest_schedule = sum(RETRY_SCHEDULE) * (1 - JITTER)
    for role in ROLES:
        outages = role.outages(minutes * 60)
        assert len(outages) == len(role.down)
        assert max((end - begin for begin, end in outages), default=0) <= shortest_schedule / 1.5
        gaps = [begin - end for (_, end), (begin, _) in pairwise(outages)]
        assert min(gaps, default=minutes * 60) >= RETRY_SCHEDULE[0]


@pytest.mark.parametrize("seconds", [3600.0, 36_000.0])
def test_a_run_of_an_hour_and_more_gives_each_delivery_a_good_answer_before_its_retries_are_used_up(
    seconds: float,
) -> None:
    """The worst sender that keeps its promises: every retry at the end of its jitter, nothing held meanwhile."""
    slowest = [delay * (1 + JITTER) for delay in RETRY_SCHEDULE]
    soonest = [delay * (1 - JITTER) for delay in RETRY_SCHEDULE]
    for role in ROLES:
        for begin, end in [*role.outages(seconds), (0.0, 0.0)]:
            for delays in (slowest, soonest):
                assert _good_after(role, begin + 0.01, seconds, delays) <= len(RETRY_SCHEDULE) / 1.5, (role.path, end)


def _good_after(role: Role, at: float, seconds: float, delays: Sequence[float]) -> int:
    """The number of the first good answer to an event that is first sent at this second of the load."""
    for number, delay in enumerate(delays, start=1):
        if fault(1, role, "event", number, down=role.is_down(at, seconds)).kind in (HEALTHY, "slow"):
            return number
        at += delay
    return len(delays) + 1
