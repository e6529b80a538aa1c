"""How the relay batches: single workflows at a low rate, batches that gather, and how many workflows are in flight."""

import time
from functools import partial

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import event_workflow_id
from relay.backpressure import MAX_IN_FLIGHT, WorkflowKind
from relay.batching import (
    GATHER_SECONDS,
    NEXT_BATCH_SECONDS,
    QUIET_SECONDS,
    SINGLES_BURST,
    SINGLES_PER_SECOND,
    Batching,
)
from relay.relay import Relay
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.relay.test_relay import another_client, exists, relay_of, through_proxy


def test_single_workflows_have_a_burst_and_then_a_rate() -> None:
    batching = Batching()
    now = time.monotonic()
    assert batching.singles(now) == SINGLES_BURST
    batching.claimed(now, singles=int(SINGLES_BURST), batch=False, more=False)
    assert batching.singles(now) == 0
    assert batching.may_batch(now)
    assert batching.singles(now + 4.5 / SINGLES_PER_SECOND) == 4
    assert batching.singles(now + 60) == SINGLES_BURST


def test_events_gather_after_a_batch_that_left_none() -> None:
    batching = Batching()
    now = time.monotonic()
    assert batching.pause(now) is None
    batching.claimed(now, singles=0, batch=True, more=False)
    assert not batching.may_batch(now)
    assert batching.singles(now) == 0
    assert batching.pause(now) == pytest.approx(GATHER_SECONDS)
    assert batching.may_batch(now + GATHER_SECONDS)
    assert batching.singles(now + GATHER_SECONDS) == SINGLES_BURST


def test_a_batch_that_left_a_backlog_is_followed_by_a_batch_at_once() -> None:
    batching = Batching()
    now = time.monotonic()
    batching.claimed(now, singles=0, batch=True, more=True)
    assert batching.may_batch(now)
    assert batching.singles(now) == 0, "an event of a backlog starts no workflow of its own"


def test_batches_begin_small_and_grow_and_begin_anew_after_a_pause() -> None:
    batching = Batching()
    now = time.monotonic()
    assert grown(batching, now) == [100, 150, 225, 338, 507, 600]
    assert batching.batch_events(600, now + QUIET_SECONDS) == 600
    assert grown(batching, now + 2 * QUIET_SECONDS) == [100, 150, 225, 338, 507, 600]


def test_batches_are_small_for_a_while_after_an_event_of_a_quiet_store_beside_a_backlog() -> None:
    batching = Batching()
    now = time.monotonic()
    assert grown(batching, now)[-1] == 600
    batching.claimed(now, singles=0, batch=True, more=True, quiet=True)
    assert grown(batching, now) == [100] * 6
    assert grown(batching, now + QUIET_SECONDS) == [100, 150, 225, 338, 507, 600]


def test_an_event_of_a_quiet_store_waits_for_the_next_small_batch_unless_that_is_long_in_coming() -> None:
    batching = Batching()
    now = time.monotonic()
    batching.claimed(now, singles=0, batch=True, more=True, quiet=True)
    assert batching.singles(now + NEXT_BATCH_SECONDS - 0.01) == 0
    later = now + NEXT_BATCH_SECONDS
    assert batching.singles(later) == SINGLES_BURST
    batching.claimed(later, singles=1, batch=False, more=True, quiet=True)
    assert batching.pause(later) == pytest.approx(GATHER_SECONDS)
    batching.claimed(later, singles=0, batch=True, more=False)
    assert batching.singles(later + GATHER_SECONDS) > 0, "the backlog is over"


def grown(batching: Batching, now: float) -> list[int]:
    """The sizes of six batches of a backlog."""
    sizes = []
    for _ in range(6):
        sizes.append(batching.batch_events(600, now))
        batching.claimed(now, singles=0, batch=True, more=True)
    return sizes


def test_a_small_batch_has_as_many_events_as_may_start_a_workflow_each() -> None:
    sizes = [Batching().batch_events(most, time.monotonic()) for most in (2, 10, 20, 60, 600)]
    assert sizes == [2, 10, 10, 10, 100]


async def test_many_backlogs_share_whole_batches(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.relay.test_relay.LEASE_SECONDS", 60)
    monkeypatch.setattr("relay.backpressure.FOREIGN_AFTER_SECONDS", 60)
    for number in range(7):  # ten events of seven stores: two of some, one of the others
        await ground.add_store(f"store-{number}")
        await ground.emit("CustomerUpdated", "{}", 100, store=f"store-{number}")
    assert await sizes_of_batches(ground, cleared_url, temporal) == [10, 15, 23]


async def test_beside_a_quiet_store_the_batches_of_a_backlog_are_small_and_those_of_two_backlogs_are_not(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.relay.test_relay.LEASE_SECONDS", 60)
    monkeypatch.setattr("relay.backpressure.FOREIGN_AFTER_SECONDS", 60)
    monkeypatch.setattr("relay.batching.QUIET_SECONDS", 60)
    await ground.add_store("second")
    await ground.add_store("small")
    await ground.emit("CustomerUpdated", "{}", 1000)
    await ground.emit("CustomerUpdated", "{}", 1000, store="second")
    assert await sizes_of_batches(ground, cleared_url, temporal) == [10, 15, 23]
    await ground.emit("CustomerUpdated", "{}", store="small")
    assert await sizes_of_batches(ground, cleared_url, temporal) == [10, 10, 10]


async def sizes_of_batches(ground: Ground, database_url: str, temporal: WorkflowEnvironment) -> list[int]:
    """The sizes of the batches a fresh relay claims before its credits are used up."""
    before = await ground.scalar("SELECT count(DISTINCT workflow_id) FROM event")
    claimed = "SELECT count(DISTINCT workflow_id) - :before = :n FROM event"
    async with relay_of(database_url, temporal.client, batch_events=60):
        most = MAX_IN_FLIGHT[WorkflowKind.BATCH]
        await eventually(lambda: ground.scalar(claimed, before=before, n=most), 30, "all credits in use")
    rows = await ground.execute(
        "SELECT count(*) FROM event WHERE claimed_until IS NOT NULL AND matched_at IS NULL "
        "GROUP BY workflow_id ORDER BY count(*)"
    )
    await ground.execute("UPDATE event SET matched_at = now() WHERE workflow_id IS NOT NULL")
    return [row.count for row in rows]


async def test_many_claims_that_lapsed_are_handed_over_a_few_at_a_time(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.relay.LAPSED_CHECK_SECONDS", 0.2)
    event_ids = await ground.emit("CustomerUpdated", "{}", 200)
    await ground.execute(
        "UPDATE event SET workflow_id = 'event/' || store_code || '/' || event_id, claimed_until = clock_timestamp()"
    )
    async with through_proxy(temporal.client.service_client.config.target_host) as (address, proxy):
        client = await another_client(temporal, address)
        proxy.cut(refuse=True)
        async with relay_of(cleared_url, client) as (relay, _):
            await eventually(lambda: some_begun_and_no_more(ground, relay), 20, "five rounds took up no more")
            assert len(relay._starts) == 2 * MAX_IN_FLIGHT[WorkflowKind.SINGLE]
            proxy.mend()
            for event_id in event_ids:
                name = event_workflow_id(STORE, event_id)
                await eventually(partial(exists, temporal.client, name), 30, f"{name} started")


async def some_begun_and_no_more(ground: Ground, relay: Relay) -> bool:
    lapsed_a_second_ago = "SELECT max(claimed_until) < clock_timestamp() - interval '1 second' FROM event"
    return bool(relay._starts) and bool(await ground.scalar(lapsed_a_second_ago))
