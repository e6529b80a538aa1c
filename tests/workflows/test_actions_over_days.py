"""Operator actions on deliveries that wait as rows for days lose nothing and send nothing early."""

from uuid import UUID

from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import bulk_action_workflow_id, drain_workflow_id
from storage.deliveries.bulk_actions import BulkActionKind
from storage.subscriptions.queries import disable, enable, pause, resume
from temporal.starts import ActionStarts
from tests.bulk_actions import begun_bulk_action, progress_of
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, status
from tests.skipped_time import DAY, skip, timer_of

EVENT = "CustomerUpdated"


async def ended(running: Pipeline, workflow_id: str) -> None:
    """Wait for a workflow's end while no time is skipped, as it is for whoever waits for a result."""
    workflow = running.client.get_workflow_handle(workflow_id)

    async def completed() -> bool:
        return (await workflow.describe()).status is WorkflowExecutionStatus.COMPLETED

    await eventually(completed, 20, "the end of the workflow, no time skipped")


def acting(running: Pipeline) -> ActionStarts:
    return ActionStarts(running.client, running.settings.task_queue)


async def test_a_pause_of_a_week_loses_nothing_and_its_end_is_not_waited_for(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"))
        async with running.database.transaction() as connection:
            await pause(connection, subscription_id, reason="a person")
        await running.emit(EVENT, "{}", 2)
        await running.until_statuses({"held": 2})
        await acting(running).wake_drain(subscription_id, STORE, EVENT, receiver.url("/hook"))  # it has nothing to do
        await skip(running, skipping, 7 * DAY)
        assert (await running.statuses(), len(receiver.requests)) == ({"held": 2}, 0)
        async with running.database.transaction() as connection:
            await resume(connection, subscription_id)
        await acting(running).wake_drain(subscription_id, STORE, EVENT, receiver.url("/hook"))
        await running.until_statuses({"delivered": 2})


async def test_enabling_after_a_week_sends_what_is_new_at_once_and_leaves_what_ended(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    opens_for_a_month = {"breaker_failures": 1, "breaker_first_probe_seconds": 30 * DAY}
    async with Receiver() as receiver, pipeline(database_url, skipping.client, **opens_for_a_month) as running:
        receiver.script(status(503))
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=[])
        await running.emit(EVENT, "{}")
        await running.until_statuses({"exhausted": 1})
        async with running.database.transaction() as connection:
            await disable(connection, subscription_id, reason="a person")
        await skip(running, skipping, 7 * DAY)
        async with running.database.transaction() as connection:
            await enable(connection, subscription_id)
        await running.emit(EVENT, "{}")
        await running.until_statuses({"exhausted": 1, "delivered": 1})
        await skip(running, skipping, 7 * DAY)
        assert len(receiver.requests) == 2, "what ended is not sent"


async def test_what_is_recovered_is_sent_at_once_and_has_its_whole_schedule_again(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        receiver.script(status(503), status(503))
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=[])
        await running.emit(EVENT, "{}")
        await running.until_statuses({"exhausted": 1})
        await running.edit(subscription_id, retry_schedule=[DAY])
        action_id = await begun_bulk_action(running, BulkActionKind.RECOVER, subscription_id, 1)
        await acting(running).bulk_action(BulkActionKind.RECOVER, action_id, subscription_id, receiver.url("/hook"))
        await sent_again_after_its_day(running, skipping, receiver, subscription_id, before=1)
        await ended(running, bulk_action_workflow_id(BulkActionKind.RECOVER, action_id))
        assert (await progress_of(running, action_id, BulkActionKind.RECOVER)).status == "finished"


async def test_what_is_backfilled_is_sent_at_once_and_has_a_schedule_like_any_other(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        await running.emit(EVENT, "{}")

        async def matched() -> bool:
            return bool(await running.scalar("SELECT matched_at IS NOT NULL FROM event"))

        await eventually(matched, 20, "a matched event")
        assert await running.statuses() == {}
        receiver.script(status(503))
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=[DAY])
        action_id = await begun_bulk_action(running, BulkActionKind.BACKFILL, subscription_id, 1)
        await acting(running).bulk_action(BulkActionKind.BACKFILL, action_id, subscription_id, receiver.url("/hook"))
        await sent_again_after_its_day(running, skipping, receiver, subscription_id, before=0)
        await ended(running, bulk_action_workflow_id(BulkActionKind.BACKFILL, action_id))
        assert (await progress_of(running, action_id, BulkActionKind.BACKFILL)).status == "finished"


async def sent_again_after_its_day(
    running: Pipeline, skipping: WorkflowEnvironment, receiver: Receiver, subscription_id: UUID, before: int
) -> None:
    """See the drain wait for a day after the first of the attempts that are new, and deliver with the second."""
    day = await timer_of(running, drain_workflow_id(subscription_id), at_least=DAY * 0.75)
    assert (await running.statuses(), len(receiver.requests)) == ({"held": 1}, before + 1)
    await skip(running, skipping, day)
    await running.until_statuses({"delivered": 1})
    assert len(receiver.requests) == before + 2
