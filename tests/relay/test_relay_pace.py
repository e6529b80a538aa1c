"""How the relay paces itself: who is busy, how much a batch holds, and how many workflows are open at once."""

import time
from functools import partial

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import event_workflow_id
from relay.backpressure import MOST_OPEN, Way
from relay.batching import QUIET_SECONDS, Pace
from relay.relay import Relay
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.relay.test_relay import another_client, exists, listening, relay_of, through_proxy


def test_a_store_that_emits_steadily_more_than_may_go_singly_is_busy_until_it_rests() -> None:
    pace = Pace()
    now = time.monotonic()
    for step in range(100):  # of 50 ms: 20 a second of one store, 200 of the other
        pace.took_of("small", 1)
        pace.took_of("steady", 10)
        assert pace.busy_stores(now + step / 20) == (["steady"] if step else [])
    assert pace.busy_stores(now + 5 + 1) == []


def test_batches_of_a_busy_store_hold_less_for_a_while_after_a_quiet_ones_event() -> None:
    pace = Pace()
    now = time.monotonic()
    assert pace.share(Way.BATCH, now) == 1
    for way in (Way.SINGLE, Way.MIXED):
        pace.took(way, now, full=False)
        assert pace.share(Way.BATCH, now) < 1
        assert pace.share(Way.MIXED, now) == 1
        now += QUIET_SECONDS
        assert pace.share(Way.BATCH, now) == 1
    pace.took(Way.BATCH, now, full=True)
    assert pace.share(Way.BATCH, now) == 1


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
            assert len(relay._starts) == 2 * MOST_OPEN[Way.SINGLE]
            proxy.mend()
            for event_id in event_ids:
                name = event_workflow_id(STORE, event_id)
                await eventually(partial(exists, temporal.client, name), 30, f"{name} started")


async def some_begun_and_no_more(ground: Ground, relay: Relay) -> bool:
    lapsed_a_second_ago = "SELECT max(claimed_until) < clock_timestamp() - interval '1 second' FROM event"
    return bool(relay._starts) and bool(await ground.scalar(lapsed_a_second_ago))


async def test_beside_single_events_a_place_of_batches_is_left_free_and_taken_soon_after(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.relay.test_relay.POLL_SECONDS", 60)
    monkeypatch.setattr("tests.relay.test_relay.LEASE_SECONDS", 60)
    monkeypatch.setattr("relay.backpressure.FOREIGN_AFTER_SECONDS", 60)
    monkeypatch.setattr("relay.batching.QUIET_SECONDS", 60)
    await ground.add_store("small")
    async with relay_of(cleared_url, temporal.client, batch_events=30):
        await eventually(lambda: listening(ground), 10, "listening")
        await single_event_claimed(ground)
        await ground.emit("CustomerUpdated", "{}", 200)
        await eventually(lambda: batches_claimed(ground, MOST_OPEN[Way.BATCH] - 1), 10, "all batches but one")
        await single_event_claimed(ground)
        assert await batches_claimed(ground, MOST_OPEN[Way.BATCH] - 1)
        monkeypatch.setattr("relay.batching.QUIET_SECONDS", 1)
        await single_event_claimed(ground)
        await eventually(lambda: batches_claimed(ground, MOST_OPEN[Way.BATCH]), 10, "the one that was left free")
    sizes = await ground.execute(
        "SELECT count(*) FROM event WHERE workflow_id LIKE 'events/%' GROUP BY workflow_id ORDER BY count(*)"
    )
    assert [row.count for row in sizes] == [5, 5, 30]


async def single_event_claimed(ground: Ground) -> None:
    await ground.emit("CustomerUpdated", "{}", store="small")
    unclaimed = "SELECT count(*) = 0 FROM event WHERE workflow_id IS NULL AND store_code = 'small'"
    await eventually(lambda: ground.scalar(unclaimed), 10, "a single event claimed")


async def batches_claimed(ground: Ground, count: int) -> bool:
    claimed = "SELECT count(DISTINCT workflow_id) = :n FROM event WHERE workflow_id LIKE 'events/%'"
    return bool(await ground.scalar(claimed, n=count))
