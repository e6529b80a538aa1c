"""Retention runs by itself every night; a run does all there is to do, and shows it in the Web UI."""

from uuid import uuid4

import pytest
from temporalio.client import ScheduleActionStartWorkflow
from temporalio.testing import WorkflowEnvironment

from storage.events.days import filed_days
from temporal.messages import RetentionRun
from temporal.schedules import Upkeep, ensure_retention, retention_schedule_id
from tests.deadlines import eventually
from tests.old_days import day_of, old_event
from tests.pipeline import STORE, pipeline
from workflows.retention import RetentionWorkflow


async def test_a_run_thins_every_day_that_is_due_and_forgets_the_oldest_ids(
    database_url: str, temporal: WorkflowEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    async with pipeline(database_url, temporal.client) as running:
        await old_event(running, 31, "delivered")
        await old_event(running, 91, "delivered", "held")
        await old_event(running, 401, "exhausted")
        kept = await old_event(running, 31, "exhausted")
        result = await temporal.client.execute_workflow(
            RetentionWorkflow.run,
            RetentionRun(),
            id=f"retention-{uuid4()}",
            task_queue=running.settings.task_queue,
        )
        assert (result.days, result.deliveries_deleted, result.open_deleted, result.ids_forgotten) == (3, 4, 1, 1)
        assert result.bytes_freed > 0
        rows = await running.execute("SELECT event_id FROM event_body")
        assert [row.event_id for row in rows] == [kept]
        async with running.database.transaction() as connection:
            assert day_of(-7) in await filed_days(connection, "attempt")
    deleted = f"deleted 1 deliveries of store {STORE}, accepted on {day_of(91)}, that were still pending or held"
    assert deleted in caplog.text


async def test_its_schedule_is_made_once_and_mended_and_a_pause_stays(temporal: WorkflowEnvironment) -> None:
    client, queue = temporal.client, f"queue-{uuid4()}"
    assert await ensure_retention(client, queue) is Upkeep.CREATED
    assert await ensure_retention(client, queue) is Upkeep.NOTHING
    handle = client.get_schedule_handle(retention_schedule_id(queue))
    await handle.pause(note="while the disks are moved")
    described = await handle.describe()
    assert isinstance(described.schedule.action, ScheduleActionStartWorkflow)
    assert described.schedule.action.workflow == "apply-retention"
    assert await ensure_retention(client, queue) is Upkeep.NOTHING
    assert (await handle.describe()).schedule.state.paused


async def test_it_can_be_asked_for_at_once(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with pipeline(database_url, temporal.client) as running:
        await old_event(running, 31, "delivered")
        await ensure_retention(temporal.client, running.settings.task_queue)
        await temporal.client.get_schedule_handle(retention_schedule_id(running.settings.task_queue)).trigger()

        async def gone() -> bool:
            return not await running.execute("SELECT FROM event_body")

        await eventually(gone, 20, "the day dropped")
