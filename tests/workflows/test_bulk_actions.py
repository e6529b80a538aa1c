"""A recovery opens each delivery that ended once more, a backfill each event that had none; and they tell how far."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import bulk_action_workflow_id, message_id
from storage.deliveries.bulk_actions import (
    BulkActionKind,
    BulkActionProgress,
    BulkActionStatus,
    count_missing,
    count_recoverable,
    end_bulk_action,
)
from storage.deliveries.bulk_pages import go_on
from temporal import drains
from temporal.drains import Drains
from temporal.starts import ActionStarts
from tests.bulk_actions import begun_bulk_action, everything, fail_many, progress_of
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, status

NAME = "CustomerUpdated"


@pytest.fixture
async def running(database_url: str, temporal: WorkflowEnvironment) -> AsyncIterator[Pipeline]:
    async with pipeline(database_url, temporal.client, retry_schedule_seconds=(600,), breaker_failures=3) as started:
        yield started


async def emitted(running: Pipeline, count: int) -> list[UUID]:
    """Events that have been matched."""
    ids = await running.emit(NAME, "{}", count=count)

    async def matched() -> bool:
        return bool(await running.scalar("SELECT count(*) = 0 FROM event WHERE matched_at IS NULL"))

    await eventually(matched, 20, "matched events")
    return ids


async def begin(
    running: Pipeline, kind: BulkActionKind, subscription_id: UUID, count: int, rate: int | None = None
) -> UUID:
    """An act on everything, begun."""
    action_id = await begun_bulk_action(running, kind, subscription_id, count)
    acting = ActionStarts(running.client, running.settings.task_queue)
    await acting.bulk_action(kind, action_id, subscription_id, "http://receiver.example.com/hook")
    return action_id


async def ended(running: Pipeline, action_id: UUID, kind: BulkActionKind) -> BulkActionProgress:
    """How it stands once its workflow has ended."""
    async with asyncio.timeout(60):
        await running.client.get_workflow_handle(bulk_action_workflow_id(kind, action_id)).result()
    return await progress_of(running, action_id, kind)


async def fresh(running: Pipeline, receiver: Receiver, failed: int, **columns: object) -> UUID:
    """A subscription of which so many deliveries have failed."""
    subscription_id = await running.subscribe(NAME, receiver.url("/hook"), **columns)
    [event_id] = await emitted(running, 1)
    await running.until_statuses({"delivered": 1})
    await fail_many(running, subscription_id, event_id, failed)
    return subscription_id


@pytest.mark.parametrize("kind", list(BulkActionKind))
async def test_an_act_whose_start_got_lost_goes_on_by_itself(
    running: Pipeline, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, kind: BulkActionKind
) -> None:
    """The API was killed after it noted the act. Until the act is open, an ordered subscription is sent nothing."""
    monkeypatch.setattr(drains, "WATCH_SECONDS", 0.1)
    subscription_id = await fresh(running, receiver, 3, ordered=True)
    action_id = await begun_bulk_action(running, kind, subscription_id, 3)
    looking = Drains(running.client, running.settings.task_queue)
    watching = asyncio.create_task(looking.watch(running.database, running.worker_id))
    try:
        await running.execute("UPDATE bulk_action SET created_at = created_at - interval '1 minute'")

        async def finished() -> bool:
            return (await progress_of(running, action_id, kind)).status == "finished"

        await eventually(finished, 30, "the act's end")
    finally:
        watching.cancel()
    assert (await running.statuses())["delivered"] == (4 if kind is BulkActionKind.RECOVER else 1)


async def test_a_recovery_delivers_each_exactly_once_more(running: Pipeline, receiver: Receiver) -> None:
    subscription_id = await fresh(running, receiver, 1_205)  # more than two pages
    async with running.database.transaction() as connection:
        count = await count_recoverable(connection, subscription_id, everything(("exhausted",)))
    assert count == 1_205
    action_id = await begin(running, BulkActionKind.RECOVER, subscription_id, count)
    found = await ended(running, action_id, BulkActionKind.RECOVER)
    assert (found.status, found.opened) == ("finished", 1_205)
    await running.until_statuses({"delivered": 1_206}, 60)
    assert len(receiver.requests) == 1_206
    async with running.database.transaction() as connection:
        assert not await end_bulk_action(connection, action_id, BulkActionStatus.CANCELLED), "it has ended"


async def test_what_failed_again_and_what_waits_is_told_apart(running: Pipeline, receiver: Receiver) -> None:
    subscription_id = await fresh(running, receiver, 6)
    receiver.script(status(200), status(200), status(200), status(503))
    receiver.otherwise = status(410)
    action_id = await begin(running, BulkActionKind.RECOVER, subscription_id, 6)
    found = await ended(running, action_id, BulkActionKind.RECOVER)
    assert (found.count, found.opened, found.delivered) == (6, 6, 3)
    assert found.failed_again + found.waiting == 3, "the rest ended with the subscription, or waits for its retry"


async def test_it_is_finished_when_each_has_been_attempted_not_when_each_is_open(
    running: Pipeline, receiver: Receiver
) -> None:
    subscription_id = await fresh(running, receiver, 2)
    await running.edit(subscription_id, status="paused")
    action_id = await begin(running, BulkActionKind.RECOVER, subscription_id, 2)

    async def open_again() -> bool:
        return (await progress_of(running, action_id, BulkActionKind.RECOVER)).opened == 2

    await eventually(open_again, 20, "both open")
    found = await progress_of(running, action_id, BulkActionKind.RECOVER)
    assert (found.status, found.waiting, found.delivered) == ("running", 2, 0)
    await running.edit(subscription_id, status="active")
    found = await ended(running, action_id, BulkActionKind.RECOVER)
    assert found.status == "finished"
    assert found.delivered + found.waiting == 2


async def test_disabling_the_subscription_ends_it(running: Pipeline, receiver: Receiver) -> None:
    subscription_id = await fresh(running, receiver, 2)
    await running.edit(subscription_id, status="disabled")
    action_id = await begin(running, BulkActionKind.RECOVER, subscription_id, 2)
    found = await ended(running, action_id, BulkActionKind.RECOVER)
    assert (found.status, found.opened) == ("cancelled", 0)


async def test_a_pace_is_kept_whoever_opens_the_pages(running: Pipeline, receiver: Receiver) -> None:
    subscription_id = await fresh(running, receiver, 60)
    await running.edit(subscription_id, status="paused")
    action_id = await begun_bulk_action(running, BulkActionKind.RECOVER, subscription_id, 60, rate_per_second=20)
    began = asyncio.get_running_loop().time()
    opened = 0
    while opened < 60:
        async with running.database.transaction() as connection:
            steps = await go_on(connection, action_id)
        assert steps is not None
        opened = steps.opened
        elapsed = asyncio.get_running_loop().time() - began
        assert opened <= 20 * elapsed + 2, "two were opened at once"
        await asyncio.sleep(0)
    assert steps.opened == 60


async def test_a_recovery_behind_an_open_breaker_asks_at_once_and_begins_the_schedule_anew(
    running: Pipeline, receiver: Receiver
) -> None:
    subscription_id = await fresh(running, receiver, 3)
    long_ago = datetime.now(UTC) - timedelta(days=9)  # far longer than the retry schedule
    await running.execute("UPDATE delivery SET created_at = :at", at=long_ago)
    await running.execute("UPDATE subscription SET status_since = :at", at=long_ago)
    await running.execute(
        "INSERT INTO subscription_health (subscription_id, failures_in_row, breaker_opened_at, probe_at, "
        "probe_interval_seconds) VALUES (:id, 3, :at, now() + interval '1 hour', 60)",
        id=subscription_id,
        at=long_ago,
    )
    action_id = await begin(running, BulkActionKind.RECOVER, subscription_id, 3)
    assert (await ended(running, action_id, BulkActionKind.RECOVER)).status == "finished"
    await running.until_statuses({"delivered": 4})


async def test_a_backfill_makes_one_delivery_of_each_event_that_has_none(running: Pipeline, receiver: Receiver) -> None:
    ids = await emitted(running, 1_100)  # more than two pages
    await running.emit("CustomerRegistered", "{}", count=3)
    subscription_id = await running.subscribe(NAME, receiver.url("/hook"))
    ids += await emitted(running, 2)
    await running.until_statuses({"delivered": 2})
    async with running.database.transaction() as connection:
        assert await count_missing(connection, STORE, subscription_id, everything()) == 1_100
    action_id = await begin(running, BulkActionKind.BACKFILL, subscription_id, 1_100)
    found = await ended(running, action_id, BulkActionKind.BACKFILL)
    assert (found.status, found.opened) == ("finished", 1_100)
    await running.until_statuses({"delivered": 1_102}, 60)
    sent = [json.loads(request.body)["messageId"] for request in receiver.requests]
    assert sorted(sent) == sorted(str(message_id(one, subscription_id, "main")) for one in ids)
    again = await begin(running, BulkActionKind.BACKFILL, subscription_id, 0)
    assert (await ended(running, again, BulkActionKind.BACKFILL)).opened == 0, "a second finds nothing"


async def test_a_backfill_of_a_level_change_makes_both_legacy_deliveries(running: Pipeline, receiver: Receiver) -> None:
    for data in ('{"automatic":true}', '{"automatic":false}'):
        await running.emit("CustomerLevelChanged", data)
    subscription_id = await running.subscribe("CustomerLevelChanged", receiver.url("/hook"), legacy=True)
    action_id = await begin(running, BulkActionKind.BACKFILL, subscription_id, 2)
    found = await ended(running, action_id, BulkActionKind.BACKFILL)
    assert (found.count, found.opened) == (3, 3)
    await running.until_statuses({"delivered": 3})


async def test_an_ordered_subscription_gets_the_past_before_what_comes_meanwhile(
    running: Pipeline, receiver: Receiver
) -> None:
    past = await emitted(running, 520)
    subscription_id = await running.subscribe(NAME, receiver.url("/hook"), ordered=True)
    action_id = await begun_bulk_action(running, BulkActionKind.BACKFILL, subscription_id, 520)
    [new] = await emitted(running, 1)  # held, and not let go before what was accepted earlier is there
    acting = ActionStarts(running.client, running.settings.task_queue)
    await acting.bulk_action(BulkActionKind.BACKFILL, action_id, subscription_id, "http://x/")
    assert (await ended(running, action_id, BulkActionKind.BACKFILL)).opened == 520
    await running.until_statuses({"delivered": 521}, 60)
    in_order = await running.execute(
        "SELECT event_id FROM event WHERE event_id = ANY(:ids) ORDER BY sequence", ids=[*past, new]
    )
    expected = [str(message_id(row.event_id, subscription_id, "main")) for row in in_order]
    assert [json.loads(request.body)["messageId"] for request in receiver.requests] == expected
