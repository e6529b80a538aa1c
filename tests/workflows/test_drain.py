"""What waits behind a breaker, a pause, a limit or an order waits as rows, and one drain lets it go."""

import asyncio
import json
import time
from uuid import UUID

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import drain_workflow_id
from storage.deliveries.bulk_actions import BulkActionKind
from storage.subscriptions.queries import disable, enable, pause, resume
from temporal.drains import Drains
from temporal.visibility import EVENT_NAME, RECEIVER_HOSTS, STORE_CODE
from tests.bulk_actions import begun_bulk_action
from tests.chaos.verdict import surely_in_a_second
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, hang, status, when

FAST = {"breaker_failures": 3, "breaker_first_probe_seconds": 0.5, "breaker_longest_probe_seconds": 1}


async def wake(running: Pipeline, subscription_id: UUID, url: str) -> None:
    await Drains(running.client, running.settings.task_queue).wake(subscription_id, STORE, "CustomerUpdated", url)


def numbers(receiver: Receiver) -> list[int]:
    """The `n` of each event in the order of arrival."""
    return [json.loads(request.body)["data"]["customer"]["loyaltyCardNumber"] for request in receiver.requests]


async def emit_numbered(running: Pipeline, count: int) -> list[str]:
    """Events that carry their place in the order of acceptance."""
    expected = [f"{number:06}" for number in range(count)]
    for number in expected:
        await running.emit("CustomerUpdated", json.dumps({"customer": {"loyaltyCardNumber": number}}))
    return expected


async def test_a_dead_endpoint_costs_a_probe_an_interval_and_rows_not_workflows(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **FAST) as running:
        receiver.otherwise = status(500)
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/dead"))
        await running.emit("CustomerUpdated", "{}", count=5)
        await eventually(lambda: breaker_is_open(running, subscription_id), 20, "an open breaker")
        before = len(receiver.requests)
        await running.emit("CustomerUpdated", "{}", count=200)
        began = time.monotonic()
        await eventually(lambda: held(running, 200), 20, "200 held deliveries")
        await receiver.wait_for(before + 2)
        probes = len(receiver.requests) - before
        assert probes <= (time.monotonic() - began) / FAST["breaker_first_probe_seconds"] + 6
        receiver.otherwise = status(200)
        await running.until_statuses({"delivered": 205}, 60)
        rows = await running.execute("SELECT failures_in_row, breaker_opened_at FROM subscription_health")
        assert [(row.failures_in_row, row.breaker_opened_at) for row in rows] == [(0, None)]
        workflows = await running.execute(
            "SELECT count(DISTINCT workflow_id) FROM delivery WHERE workflow_id LIKE 'event/%'"
        )
        assert workflows[0][0] <= 5, "what was held had no workflow of its own"


async def test_an_operator_finds_the_drain_by_store_event_and_host_and_sees_what_its_timer_waits_for(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    patient = {"breaker_failures": 1, "breaker_first_probe_seconds": 600, "breaker_longest_probe_seconds": 600}
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **patient) as running:
        receiver.otherwise = status(500)
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/dead"))
        await running.emit("CustomerUpdated", "{}")
        await eventually(lambda: breaker_is_open(running, subscription_id), 20, "an open breaker")
        await running.emit("CustomerUpdated", "{}")
        client, drain_id = running.client, drain_workflow_id(subscription_id)

        async def listed() -> bool:
            named = f"{STORE_CODE.name} = '{STORE}' AND {EVENT_NAME.name} = 'CustomerUpdated'"
            query = f"{named} AND {RECEIVER_HOSTS.name} = '127.0.0.1'"
            return drain_id in [one.id async for one in client.list_workflows(query)]

        async def summaries() -> list[str]:
            history = await client.get_workflow_handle(drain_id).fetch_history()
            timers = [one for one in history.events if one.HasField("timer_started_event_attributes")]
            return await client.data_converter.decode([one.user_metadata.summary for one in timers])

        await eventually(listed, 20, "the drain in a list")

        async def waits() -> bool:
            return "breaker open" in await summaries()

        await eventually(waits, 20, "a timer until the probe")


async def breaker_is_open(running: Pipeline, subscription_id: UUID) -> bool:
    rows = await running.execute(
        "SELECT 1 FROM subscription_health WHERE subscription_id = :id AND breaker_opened_at IS NOT NULL",
        id=subscription_id,
    )
    return len(rows) == 1


async def held(running: Pipeline, at_least: int) -> bool:
    rows = await running.execute("SELECT count(*) FROM delivery WHERE status = 'held'")
    return bool(rows[0][0] >= at_least)


async def test_a_pause_loses_nothing_and_resuming_lets_go_in_order(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        url = receiver.url("/hook")
        subscription_id = await running.subscribe("CustomerUpdated", url)
        async with running.database.transaction() as connection:
            assert await pause(connection, subscription_id, reason="a person")
        await running.emit("CustomerUpdated", "{}", count=40)
        await running.until_statuses({"held": 40})
        assert receiver.requests == []
        async with running.database.transaction() as connection:
            assert await resume(connection, subscription_id)
            assert not await resume(connection, subscription_id)
        await wake(running, subscription_id, url)
        await running.until_statuses({"delivered": 40})
        assert len(receiver.requests) == 40


async def test_a_receiver_of_a_webhook_without_retries_is_probed_behind_an_open_breaker(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    breaker = FAST | {"breaker_longest_probe_seconds": 60}
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **breaker) as running:
        receiver.otherwise = status(500)
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[])
        await running.emit("CustomerUpdated", "{}", count=3)
        await eventually(lambda: breaker_is_open(running, subscription_id), 20, "an open breaker")
        receiver.otherwise = status(200)
        await running.emit("CustomerUpdated", "{}", count=2)
        await running.until_statuses({"exhausted": 3, "delivered": 2})


async def test_a_delivery_waiting_for_its_retry_is_held_by_a_pause(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with (
        Receiver() as receiver,
        pipeline(database_url, temporal.client, retry_schedule_seconds=(1, 1)) as running,
    ):
        gate = asyncio.Event()
        receiver.script(when(gate, status(503)))
        url = receiver.url("/hook")
        subscription_id = await running.subscribe("CustomerUpdated", url)
        await running.emit("CustomerUpdated", "{}")
        await receiver.wait_for(1)
        async with running.database.transaction() as connection:
            await pause(connection, subscription_id, reason="a person")
        gate.set()
        await running.until_statuses({"held": 1})
        async with running.database.transaction() as connection:
            await resume(connection, subscription_id)
        await wake(running, subscription_id, url)
        await running.until_statuses({"delivered": 1})


async def test_disabling_exhausts_what_waits_and_enabling_starts_afresh(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        receiver.script(status(503))
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"pending": 1})
        async with running.database.transaction() as connection:
            assert await disable(connection, subscription_id, reason="a person")
            assert not await disable(connection, subscription_id, reason="another person")
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"exhausted": 2})
        assert {row.reason for row in await running.deliveries()} == {"subscription_disabled"}
        async with running.database.transaction() as connection:
            assert await enable(connection, subscription_id)
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"exhausted": 2, "delivered": 1})


async def test_a_410_disables_the_subscription(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        receiver.script(status(503), status(410))
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[60])
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"pending": 1})
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"exhausted": 2})
        [row] = await running.execute("SELECT status, status_reason FROM subscription")
        assert (row.status, row.status_reason) == ("disabled", "http_gone")


async def test_a_rate_limit_is_kept_by_the_second(database_url: str, temporal: WorkflowEnvironment) -> None:
    rate, events = 20, 60
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), rate_limit_per_second=rate)
        await running.emit("CustomerUpdated", "{}", count=events)
        await running.until_statuses({"delivered": events}, 30)
        most = surely_in_a_second([request.span for request in receiver.requests])
        assert most <= rate * 1.05 + 1, f"{most} in one second"


@pytest.mark.parametrize("failures", [0, 3])
async def test_an_ordered_subscription_gets_its_events_in_the_order_of_acceptance(
    database_url: str, temporal: WorkflowEnvironment, failures: int
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        receiver.script(*[status(500)] * failures)
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), ordered=True, retry_schedule=[1] * 5)
        expected = await emit_numbered(running, 40)
        await running.until_statuses({"delivered": 40}, 40)
        assert numbers(receiver) == expected[:1] * failures + expected


async def test_what_a_dying_worker_held_finds_its_drain(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"delivered": 1})
        await running.execute("UPDATE delivery SET status = 'held', reason = 'limited', ended_at = NULL")
        drains = Drains(running.client, running.settings.task_queue)
        watching = asyncio.create_task(drains.watch(running.database, running.worker_id))
        try:
            await running.until_statuses({"delivered": 1}, 30)
        finally:
            watching.cancel()


async def test_a_bulk_action_that_temporal_refuses_holds_up_no_drain(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    too_long = "x" * 1001
    monkeypatch.setattr("temporal.drains.bulk_action_workflow_id", lambda kind, action_id: too_long)
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"delivered": 1})
        await begun_bulk_action(running, BulkActionKind.RECOVER, subscription_id, 1)
        await running.execute("UPDATE bulk_action SET created_at = created_at - interval '1 minute'")
        await running.execute("UPDATE delivery SET status = 'held', reason = 'limited', ended_at = NULL")
        drains = Drains(running.client, running.settings.task_queue)
        watching = asyncio.create_task(drains.watch(running.database, running.worker_id))
        try:
            await running.until_statuses({"delivered": 1}, 30)

            async def refused() -> bool:
                return "Temporal refuses the recover" in caplog.text

            await eventually(refused, 20, "the refusal of the bulk action in the log")
        finally:
            watching.cancel()


async def test_a_hanging_receivers_queue_waits_as_rows(database_url: str, temporal: WorkflowEnvironment) -> None:
    slow = {"subscription_concurrency": 5, "request_timeout_seconds": 1}
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **slow, **FAST) as running:
        receiver.script(*[hang()] * 5000, path="/hanging")
        await running.subscribe("CustomerUpdated", receiver.url("/hanging"))
        await running.subscribe("CustomerUpdated", receiver.url("/healthy"))
        await running.emit("CustomerUpdated", "{}", count=1500)

        async def healthy_done() -> bool:
            delivered = "SELECT count(*) = 1500 FROM delivery WHERE url LIKE '%/healthy' AND status = 'delivered'"
            return bool(await running.scalar(delivered))

        await eventually(healthy_done, 60, "every delivery of the healthy neighbour")
