"""What a person does while a delivery waits a day for its retry: at once where it is told, and else when it is due."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import (
    backfill_workflow_id,
    event_workflow_id,
    keeper_workflow_id,
    recover_workflow_id,
    redeliver_workflow_id,
    send_test_workflow_id,
)
from domain.events.catalogue import CATALOGUE
from storage.deliveries.transitions import cancel
from storage.events.intake import new_event
from storage.operations.bulk_actions import WindowKind
from storage.operations.send_test import insert_test
from storage.sealing import Sealer
from storage.subscriptions.queries import delete_subscription
from storage.subscriptions.status import disable, enable, pause, resume
from temporal.starts import Acting
from tests.deadlines import eventually
from tests.pipeline import ENCRYPTION_KEY, STORE, Pipeline, pipeline
from tests.receiver import Receiver, status
from tests.skipped_time import DAY, skip, timer_of
from tests.window_acts import begun_window, progress_of

EVENT = "CustomerUpdated"

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
    ("cancel", lambda c, _, delivery: cancel(c, delivery), "cancelled", "cancelled_by_person"),
]


async def waiting(running: Pipeline, receiver: Receiver) -> tuple[UUID, UUID, UUID]:
    """(subscription, event, delivery) of a delivery whose next attempt is a day away."""
    receiver.script(status(503))
    subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=[DAY])
    [event_id] = await running.emit(EVENT, "{}")
    await timer_of(running, event_workflow_id(STORE, event_id))
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


async def ended(running: Pipeline, workflow_id: str) -> None:
    """Wait for a workflow's end while no time is skipped, as it is for whoever waits for a result."""
    workflow = running.client.get_workflow_handle(workflow_id)

    async def completed() -> bool:
        return (await workflow.describe()).status is WorkflowExecutionStatus.COMPLETED

    await eventually(completed, 20, "the end of the workflow, no time skipped")


def acting(running: Pipeline) -> Acting:
    return Acting(running.client, running.settings.task_queue)


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
        await acting(running).look_now(STORE, event_id, EVENT, message_id)
        await running.until_statuses({becomes: 1})
        await ended(running, event_workflow_id(STORE, event_id))
        assert len(receiver.requests) == (2 if becomes == "delivered" else 1)


async def test_a_pause_of_a_week_loses_nothing_and_its_end_is_not_waited_for(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        subscription_id, event_id, _ = await waiting(running, receiver)
        async with running.database.transaction() as connection:
            await pause(connection, subscription_id, reason="a person")
        await over(running, skipping, event_id)
        await running.emit(EVENT, "{}")
        await running.until_statuses({"held": 2})
        await acting(running).probe_now(subscription_id, STORE, EVENT, receiver.url("/hook"))  # it has nothing to do
        await skip(running, skipping, 7 * DAY)
        assert (await running.statuses(), len(receiver.requests)) == ({"held": 2}, 1)
        async with running.database.transaction() as connection:
            await resume(connection, subscription_id)
        await acting(running).probe_now(subscription_id, STORE, EVENT, receiver.url("/hook"))
        await running.until_statuses({"delivered": 2})


async def test_enabling_after_a_week_sends_what_is_new_at_once_and_leaves_what_ended(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    opens_for_a_month = {"breaker_failures": 1, "breaker_first_probe_seconds": 30 * DAY}
    async with Receiver() as receiver, pipeline(database_url, skipping.client, **opens_for_a_month) as running:
        subscription_id, _, _ = await waiting(running, receiver)
        async with running.database.transaction() as connection:
            await disable(connection, subscription_id, reason="a person")
        await skip(running, skipping, 7 * DAY)
        async with running.database.transaction() as connection:
            await enable(connection, subscription_id)
        await running.emit(EVENT, "{}")
        await running.until_statuses({"exhausted": 1, "delivered": 1})
        await skip(running, skipping, 7 * DAY)
        assert len(receiver.requests) == 2, "what ended is not sent"


async def test_a_test_is_sent_at_once_and_once_while_others_wait_their_day(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        subscription_id, event_id, _ = await waiting(running, receiver)
        receiver.script(status(503))
        sample = new_event(STORE, CATALOGUE[EVENT], uuid4(), CATALOGUE[EVENT].sample, Sealer([ENCRYPTION_KEY]))
        async with running.database.transaction() as connection:
            test_id = await insert_test(connection, sample, subscription_id, receiver.url("/hook"))
        assert await acting(running).send_test(subscription_id, test_id, receiver.url("/hook"))
        await ended(running, send_test_workflow_id(subscription_id))
        assert await running.statuses() == {"pending": 1, "exhausted": 1}
        assert await over(running, skipping, event_id) >= DAY * 0.8
        await skip(running, skipping, 7 * DAY)
        assert await running.statuses() == {"delivered": 1, "exhausted": 1}
        assert len(await running.attempts(test_id)) == 1


async def test_redelivering_is_one_attempt_at_once_and_goes_on_with_no_schedule(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        _, event_id, message_id = await waiting(running, receiver)
        async with running.database.transaction() as connection:
            await cancel(connection, message_id)  # a day of its schedule is left
        await over(running, skipping, event_id)
        receiver.script(status(503))
        assert await acting(running).redeliver(message_id, receiver.url("/hook"))
        await ended(running, redeliver_workflow_id(message_id))
        await skip(running, skipping, 7 * DAY)
        [delivery] = await running.deliveries()
        assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("cancelled", 2, None)
        assert len(receiver.requests) == 2
        assert await acting(running).redeliver(message_id, receiver.url("/hook"))
        await ended(running, redeliver_workflow_id(message_id))
        assert (await running.statuses(), len(receiver.requests)) == ({"delivered": 1}, 3)


async def test_what_is_recovered_is_sent_at_once_and_has_its_whole_schedule_again(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        subscription_id, event_id, _ = await waiting(running, receiver)
        receiver.script(status(503), status(503))
        await over(running, skipping, event_id)
        await running.until_statuses({"exhausted": 1})
        act_id = await begun_window(running, WindowKind.RECOVER, subscription_id, 1)
        await acting(running).recover(act_id, subscription_id, receiver.url("/hook"))
        await sent_again_after_its_day(running, skipping, receiver, subscription_id, before=2)
        await ended(running, recover_workflow_id(act_id))
        assert (await progress_of(running, act_id, WindowKind.RECOVER)).status == "finished"


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
        act_id = await begun_window(running, WindowKind.BACKFILL, subscription_id, 1)
        await acting(running).backfill(act_id, subscription_id, receiver.url("/hook"))
        await sent_again_after_its_day(running, skipping, receiver, subscription_id, before=0)
        await ended(running, backfill_workflow_id(act_id))
        assert (await progress_of(running, act_id, WindowKind.BACKFILL)).status == "finished"


async def sent_again_after_its_day(
    running: Pipeline, skipping: WorkflowEnvironment, receiver: Receiver, subscription_id: UUID, before: int
) -> None:
    """See the keeper wait for a day after the first of the attempts that are new, and deliver with the second."""
    day = await timer_of(running, keeper_workflow_id(subscription_id), at_least=DAY * 0.75)
    assert (await running.statuses(), len(receiver.requests)) == ({"held": 1}, before + 1)
    await skip(running, skipping, day)
    await running.until_statuses({"delivered": 1})
    assert len(receiver.requests) == before + 2
