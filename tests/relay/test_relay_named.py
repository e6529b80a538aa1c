"""An event that comes alone is named by its ring: one relay starts its workflow, claims it meanwhile, and both once."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import event_workflow_id
from relay.prefetch import is_for
from storage.deliveries.matching import match
from storage.events.intake import NewEvent, insert_and_ring
from storage.events.outbox import named_event
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.pipeline import pipeline
from tests.receiver import Receiver
from tests.relay.test_relay import exists, listening, relay_of, started


async def accept(ground: Ground, count: int = 1) -> Sequence[UUID]:
    """Store events as the API does when they come alone."""
    events = [
        NewEvent(STORE, uuid4(), "CustomerUpdated", None, None, "{}", sealed_data=None, digest=b"")
        for _ in range(count)
    ]
    for event in events:
        assert await insert_and_ring(ground.database.quick, event) == {event.key}
    return [event.event_id for event in events]


async def claimed(ground: Ground) -> bool:
    return bool(await ground.scalar("SELECT count(*) = 0 FROM event WHERE workflow_id IS NULL"))


@pytest.fixture(autouse=True)
def _polls_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.relay.test_relay.POLL_SECONDS", 60)


async def test_its_workflow_is_started_once_under_the_id_that_its_claim_commits(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    async with relay_of(cleared_url, temporal.client) as (relay, _):
        await eventually(lambda: listening(ground), 10, "listening")
        [event_id] = await accept(ground)
        workflow_id = event_workflow_id(STORE, event_id)
        await eventually(lambda: exists(temporal.client, workflow_id), 5, "its workflow")
        await eventually(lambda: claimed(ground), 5, "its claim")
        assert await ground.scalar("SELECT workflow_id FROM event") == workflow_id
        [event] = await started(temporal.client, workflow_id)
        assert event.event_id == str(event_id)
        handed_over = relay._metrics.handed_over.labels("single")._value.get()
        assert handed_over == 1


async def test_of_several_that_wait_for_their_claims_none_goes_into_a_batch_too(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.relay.CLAIM_NAMED_SECONDS", 0.2)
    monkeypatch.setattr("relay.batching.SINGLES_PER_SECOND", 1.0)
    async with relay_of(cleared_url, temporal.client):
        await eventually(lambda: listening(ground), 10, "listening")
        await accept(ground, 7)
        await eventually(lambda: claimed(ground), 5, "their claims")
        assert await ground.scalar("SELECT count(*) FROM event WHERE workflow_id LIKE 'events/%'") == 0


async def test_what_is_for_another_worker_is_left_to_it_and_taken_up_if_it_does_not(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    async with relay_of(cleared_url, temporal.client) as (relay, _):
        asked = asyncio.Event()

        def is_not_for_me(_: UUID) -> bool:
            asked.set()
            return False

        relay.is_for_me = is_not_for_me
        await eventually(lambda: listening(ground), 10, "listening")
        await accept(ground)
        await asyncio.wait_for(asked.wait(), 5)
        assert not relay._starts
        await eventually(lambda: claimed(ground), 5, "claimed by whoever is awake")


async def test_it_arrives_once_though_its_claim_follows_its_start(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(cleared_url, temporal.client) as running:
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        for _ in range(30):
            await accept(ground)
        await running.until_statuses({"delivered": 30})
        assert len(receiver.requests) == 30
        assert await ground.scalar("SELECT max(number) FROM attempt") == 1


async def test_a_match_that_comes_before_the_claim_writes_the_workflows_id(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", "http://receiver.example.com/hook")
    [event_id] = await accept(ground)
    async with ground.database.transaction() as connection:
        await match(connection, [(STORE, event_id)], worker_id=uuid4(), may_begin=lambda _: True)
    [delivery] = await ground.deliveries()
    workflow_id = await ground.scalar("SELECT workflow_id FROM event")
    assert workflow_id == delivery.workflow_id == event_workflow_id(STORE, event_id)


async def test_each_event_is_named_by_its_own_ring(ground: Ground) -> None:
    heard: list[str] = []
    listener = await ground.database.listener()
    await listener.add_listener("outbox", lambda *ring: heard.append(ring[-1]))
    event_ids = await accept(ground, 3)

    async def all_heard() -> bool:
        return len(heard) == 3

    await eventually(all_heard, 5, "three rings")
    await listener.close()
    named = [named_event(payload) for payload in heard]
    assert {one.event_id for one in named if one} == set(event_ids)
    assert {one.workflow_id for one in named if one} == {event_workflow_id(STORE, one) for one in event_ids}
    assert named_event("") is None


def test_each_event_is_for_one_of_the_workers_that_live() -> None:
    for workers in (1, 2, 5):
        for event_id in (uuid4() for _ in range(50)):
            assert [is_for(event_id, rank=rank, workers=workers) for rank in range(workers)].count(True) == 1
