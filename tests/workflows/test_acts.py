"""What a person does to deliveries takes effect at once, and once."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row
from temporalio.api.enums.v1 import EventType
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import event_workflow_id, redeliver_workflow_id
from storage.deliveries.transitions import cancel
from temporal.messages import DeliveryRef
from temporal.starts import Acting
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, status
from tests.temporal import is_there


async def redeliver(running: Pipeline, message_id: UUID) -> str:
    end = await running.client.execute_workflow(
        "redeliver",
        DeliveryRef(str(message_id)),
        id=redeliver_workflow_id(message_id),
        task_queue=running.settings.task_queue,
    )
    return str(end["status"])


async def test_send_now_does_not_wait_for_the_next_retry(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with (
        Receiver() as receiver,
        pipeline(database_url, temporal.client, retry_schedule_seconds=(60, 60)) as running,
    ):
        receiver.script(status(503), status(503), status(200))
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        [event_id] = await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"pending": 1})
        [delivery] = await running.deliveries()
        workflow = running.client.get_workflow_handle(event_workflow_id(STORE, event_id))
        await eventually(lambda: workflow_is_there(running, event_id), 20, "the event's workflow")
        await workflow.signal("look-now", str(delivery.message_id))  # it waits by a timer of the workflow
        await receiver.wait_for(2)
        await eventually(lambda: attempts_are(running, delivery.message_id, 2), 20, "two outcomes")
        await workflow.signal("look-now", str(delivery.message_id))  # it waits by the activity's back-off
        await running.until_statuses({"delivered": 1})
        assert [row.number for row in await running.attempts(delivery.message_id)] == [1, 2, 3]


async def workflow_is_there(running: Pipeline, event_id: UUID) -> bool:
    description = await running.client.get_workflow_handle(event_workflow_id(STORE, event_id)).describe()
    return description.history_length > 3


async def attempts_are(running: Pipeline, message_id: UUID, count: int) -> bool:
    rows = await running.attempts(message_id)
    return len(rows) == count and all(row.outcome_at is not None for row in rows)


async def test_a_cancelled_delivery_ends_its_workflow_and_is_not_attempted_again(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client, retry_schedule_seconds=(60,)) as running:
        receiver.script(status(503))
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        [event_id] = await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"pending": 1})
        [delivery] = await running.deliveries()
        async with running.database.transaction() as connection:
            assert await cancel(connection, delivery.message_id)
            assert not await cancel(connection, delivery.message_id)
        workflow = running.client.get_workflow_handle(event_workflow_id(STORE, event_id))
        await workflow.signal("look-now", str(delivery.message_id))
        summary = await workflow.result()
        assert summary["cancelled"] == 1
        assert len(receiver.requests) == 1


async def test_a_workflow_that_waits_for_its_start_begins_when_a_person_asks(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    failing = {"retry_schedule_seconds": (3600,), "breaker_failures": 1_000_000, "batch_events": 30}
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **failing) as running:
        receiver.otherwise = status(503)
        for path in ("/asked", "/other"):
            await running.subscribe("CustomerUpdated", receiver.url(path))
        await running.emit("CustomerUpdated", "{}", count=30)
        await eventually(lambda: all_failed_once(running, 60), 20, "60 failures")
        receiver.otherwise = status(200)
        acting = Acting(running.client, running.settings.task_queue)
        batch = [row.event_id for row in await handed_on(running)]
        for asked_by in (retry_now, cancel_it):
            event_id = batch.pop()
            workflow_id = event_workflow_id(STORE, event_id)
            await eventually(lambda named=workflow_id: is_there(running.client, named), 20, "handed on")  # type: ignore[misc]
            workflow = running.client.get_workflow_handle(workflow_id)
            assert (await workflow.describe()).history_length == 1, "it waits for its start"
            deliveries = await running.execute(
                "SELECT message_id FROM delivery WHERE event_id = :id ORDER BY message_id", id=event_id
            )
            first, second = (row.message_id for row in deliveries)
            await asked_by(running, acting, event_id, first)
            await eventually(lambda named=workflow_id: waits_for_its_timer(running, named), 20, "it begins")  # type: ignore[misc]
            [[attempts]] = await running.execute("SELECT attempts FROM delivery WHERE message_id = :id", id=second)
            assert attempts == 1, "nobody asked for the other one"
            await asked_by(running, acting, event_id, second)
            summary = await workflow.result()
            assert (summary["delivered"], summary["cancelled"]) == ((2, 0) if asked_by is retry_now else (0, 2))
        await running.until_statuses({"pending": 56, "delivered": 2, "cancelled": 2})


async def all_failed_once(running: Pipeline, count: int) -> bool:
    return bool(await running.scalar("SELECT count(*) = :n FROM delivery WHERE next_attempt_at IS NOT NULL", n=count))


async def handed_on(running: Pipeline) -> list[Row[Any]]:
    """Events of a batch: some of the first may have come to a workflow of their own."""
    return await running.execute("SELECT event_id FROM event WHERE workflow_id LIKE 'events/%' ORDER BY sequence")


async def retry_now(_: Pipeline, acting: Acting, event_id: UUID, message_id: UUID) -> None:
    await acting.attempt_now(STORE, event_id, "CustomerUpdated", message_id)


async def cancel_it(running: Pipeline, acting: Acting, event_id: UUID, message_id: UUID) -> None:
    async with running.database.transaction() as connection:
        assert await cancel(connection, message_id)
    await acting.look_now(STORE, event_id, "CustomerUpdated", message_id)


async def waits_for_its_timer(running: Pipeline, workflow_id: str) -> bool:
    """Whether it has ended one of its two deliveries, and started a timer for the other."""
    history = await running.client.get_workflow_handle(workflow_id).fetch_history()
    kinds = [event.event_type for event in history.events]
    return EventType.EVENT_TYPE_TIMER_STARTED in kinds and EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED in kinds


async def test_redelivering_sends_once_more_and_only_success_changes_the_status(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client, retry_schedule_seconds=()) as running:
        receiver.script(status(500), status(500), status(200), status(500))
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"exhausted": 1})
        [delivery] = await running.deliveries()
        await redeliver(running, delivery.message_id)
        [after] = await running.deliveries()
        assert (after.status, after.reason, after.attempts) == ("exhausted", "schedule_used_up", 2)
        assert await redeliver(running, delivery.message_id) == "delivered"
        await redeliver(running, delivery.message_id)
        [after] = await running.deliveries()
        assert (after.status, after.attempts, after.last_status_code) == ("delivered", 4, 500)
        triggers = [row.trigger for row in await running.attempts(delivery.message_id)]
        assert triggers == ["automatic", "manual", "manual", "manual"]
