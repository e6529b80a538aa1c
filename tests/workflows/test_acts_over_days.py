"""What a person does while a delivery waits a day for its retry: at once where it is told, and else when it is due."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from domain.identity import event_workflow_id
from storage.acts import cancel
from storage.subscription_status import disable, pause
from storage.subscriptions import delete_subscription
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, status

DAY = 86_400

Act = Callable[[AsyncConnection, UUID, UUID], Awaitable[object]]
"""In a transaction, on a subscription and its delivery."""

ENDS: list[tuple[str, Act, str, str | None]] = [
    ("pause", lambda c, subscription, _: pause(c, subscription, reason="a person"), "held", "subscription_paused"),
    ("disable", lambda c, subscription, _: disable(c, subscription, reason="x"), "exhausted", "subscription_disabled"),
    (
        "delete",
        lambda c, subscription, _: delete_subscription(c, STORE, subscription),
        "cancelled",
        "subscription_deleted",
    ),
    ("cancel", lambda c, _, delivery: cancel(c, delivery, reason="by_person"), "cancelled", "by_person"),
]


async def waiting(running: Pipeline, receiver: Receiver) -> tuple[UUID, UUID, UUID]:
    """(subscription, event, delivery) of a delivery whose next attempt is a day away."""
    receiver.script(status(503))
    subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[DAY])
    [event_id] = await running.emit("CustomerUpdated", "{}")

    async def planned() -> bool:
        return [row.next_attempt_at is not None for row in await running.deliveries()] == [True]

    await eventually(planned, 20, "a planned retry")
    return subscription_id, event_id, (await running.deliveries())[0].message_id


async def over(running: Pipeline, skipping: WorkflowEnvironment, event_id: UUID) -> float:
    """Let time skip until the event's workflow has ended; the seconds that took by Temporal's clock."""
    handle = running.client.get_workflow_handle(event_workflow_id(STORE, event_id))
    began = await skipping.get_current_time()
    for _ in range(48):
        if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
            return (await skipping.get_current_time() - began).total_seconds()
        await skipping.sleep(timedelta(hours=1))
    pytest.fail("the workflow did not end within two days")


@pytest.mark.parametrize(("act", "becomes", "reason"), [one[1:] for one in ENDS], ids=[one[0] for one in ENDS])
async def test_what_was_done_meanwhile_is_found_when_the_retry_is_due_though_nobody_told_the_workflow(
    database_url: str, skipping: WorkflowEnvironment, act: Act, becomes: str, reason: str | None
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        subscription_id, event_id, message_id = await waiting(running, receiver)
        async with running.database.transaction() as connection:
            await act(connection, subscription_id, message_id)
        assert await over(running, skipping, event_id) >= DAY * 0.8, "it looked when the retry was due"
        [delivery] = await running.deliveries()
        assert (delivery.status, delivery.reason) == (becomes, reason)
        assert len(receiver.requests) == 1, "nothing was sent any more"


@pytest.mark.parametrize(
    ("act", "becomes"), [(None, "delivered"), (ENDS[-1][1], "cancelled")], ids=["send-now", "cancel"]
)
async def test_a_workflow_that_is_told_does_not_wait_for_the_day(
    database_url: str, skipping: WorkflowEnvironment, act: Act | None, becomes: str
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        subscription_id, event_id, message_id = await waiting(running, receiver)
        if act is not None:
            async with running.database.transaction() as connection:
                await act(connection, subscription_id, message_id)
        workflow = running.client.get_workflow_handle(event_workflow_id(STORE, event_id))
        await workflow.signal("look-now", str(message_id))
        await running.until_statuses({becomes: 1})

        async def ended() -> bool:
            return (await workflow.describe()).status is WorkflowExecutionStatus.COMPLETED

        await eventually(ended, 20, "the end of the workflow, no time skipped")
        assert len(receiver.requests) == (2 if becomes == "delivered" else 1)
