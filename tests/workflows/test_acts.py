"""What a person does to deliveries takes effect at once, and once."""

from uuid import UUID

from temporalio.testing import WorkflowEnvironment

from activities.messages import DeliveryRef
from domain.identity import event_workflow_id, redeliver_workflow_id
from storage.acts import cancel
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, status


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
            assert await cancel(connection, delivery.message_id, reason="a person")
            assert not await cancel(connection, delivery.message_id, reason="another person")
        workflow = running.client.get_workflow_handle(event_workflow_id(STORE, event_id))
        await workflow.signal("look-now", str(delivery.message_id))
        summary = await workflow.result()
        assert summary["cancelled"] == 1
        assert len(receiver.requests) == 1


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
