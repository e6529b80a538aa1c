"""The keeper's rounds by themselves: what may come between two readings of an ordered subscription."""

import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.testing import ActivityEnvironment

import worker
from activities import keep
from activities.keep import KeeperActivities
from activities.messages import KeeperRound, KeeperRoundResult
from domain.notices import DisableRules
from storage.keeping import overtaken
from tests.receiver import Receiver
from tests.workbench import Workbench, workbench


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url) as bench:
        yield bench


async def round_of(bench: Workbench, subscription_id: UUID) -> KeeperRoundResult:
    """One round of the subscription's keeper."""
    activities = KeeperActivities(
        bench.database,
        bench.dispatcher,
        worker.breaker_rules(bench.settings),
        DisableRules(86400.0, 100),
        bench.settings.retry_schedule_seconds,
    )
    result: KeeperRoundResult = await ActivityEnvironment().run(
        activities.keep_held, KeeperRound(str(subscription_id), False)
    )
    return result


async def test_an_event_matched_between_two_readings_is_not_overtaken(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"), ordered=True)
    first = await bench.emit("CustomerUpdated", '{"customer":{"customerId":"first"}}')
    second = await bench.emit("CustomerUpdated", '{"customer":{"customerId":"second"}}')
    await bench.attempt_events(second)
    pending = [first]

    async def with_a_match_before(connection: AsyncConnection, identity: UUID, sequence: int) -> bool:
        if pending:
            await bench.attempt_events(pending.pop())
        return await overtaken(connection, identity, sequence)

    monkeypatch.setattr(keep, "overtaken", with_a_match_before)
    await round_of(bench, subscription_id)
    arrived = [json.loads(request.body)["data"]["customer"]["customerId"] for request in receiver.requests]
    assert arrived == ["first", "second"]
