"""An event becomes requests: every part of the pipeline on the real database, Temporal and receiver."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import event_workflow_id, message_id
from temporal.codec import data_converter
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, status
from tests.tcp_proxy import TcpProxy, tcp_proxy

CUSTOMER = '{"customer":{"customerId":"7d3a1b9e-0f5c-4a86-9b1e-2f6c8d4e7a10"}}'

FAILING = 240


async def test_one_event_reaches_its_one_subscription(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        [event_id] = await running.emit("CustomerUpdated", CUSTOMER)
        await running.until_statuses({"delivered": 1})
        [request] = receiver.requests
        body = json.loads(request.body)
        assert list(body) == ["messageId", "requestId", "eventName", "storeCode", "createdAt", "data"]
        assert body["messageId"] == str(message_id(event_id, subscription_id, "main"))
        assert (body["eventName"], body["storeCode"], body["data"]) == ("CustomerUpdated", STORE, json.loads(CUSTOMER))
        [delivery] = await running.deliveries()
        [attempt] = await running.attempts(delivery.message_id)
        assert (attempt.number, attempt.status_code, attempt.failure, attempt.trigger) == (1, 200, None, "automatic")
        assert str(attempt.request_id) == body["requestId"]
        assert attempt.outcome_at >= attempt.started_at


async def test_a_failed_first_attempt_is_retried_by_the_events_own_workflow(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with (
        Receiver() as receiver,
        pipeline(database_url, temporal.client, retry_schedule_seconds=(1, 1)) as running,
    ):
        receiver.script(status(503), status(500), status(200))
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", CUSTOMER)
        await running.until_statuses({"delivered": 1})
        [delivery] = await running.deliveries()
        attempts = await running.attempts(delivery.message_id)
        assert [attempt.status_code for attempt in attempts] == [503, 500, 200]
        assert len({attempt.request_id for attempt in attempts}) == 3
        assert {json.loads(request.body)["messageId"] for request in receiver.requests} == {str(delivery.message_id)}


async def test_a_batch_settles_what_it_can_and_hands_on_the_rest(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client, retry_schedule_seconds=(1,)) as running:
        receiver.script(*[status(503)] * 5, path="/hook")
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.subscribe("CustomerUpdated", receiver.url("/other"))
        await running.emit("CustomerUpdated", CUSTOMER, count=100)
        await running.until_statuses({"delivered": 200})
        batches = await running.execute("SELECT DISTINCT workflow_id FROM event WHERE workflow_id LIKE 'events/%'")
        assert len(batches) == 1
        retried = await running.execute("SELECT workflow_id FROM delivery WHERE attempts = 2")
        assert len(retried) == 5
        assert all(row.workflow_id.startswith(f"event/{STORE}/") for row in retried)


async def test_what_a_batch_cannot_settle_costs_one_start_and_shows_what_waits(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with (
        Receiver() as receiver,
        pipeline(database_url, temporal.client, retry_schedule_seconds=(3600,), batch_events=30) as running,
    ):
        receiver.otherwise = status(503)
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", CUSTOMER, count=30)
        await running.until_statuses({"pending": 30})
        [batch, *_] = await running.execute("SELECT workflow_id FROM event WHERE workflow_id LIKE 'events/%'")
        await running.client.get_workflow_handle(batch.workflow_id).result()
        [one, *_] = await running.execute(
            "SELECT event_id, message_id, next_attempt_at FROM delivery "
            "JOIN event USING (accepted_on, store_code, event_id) WHERE event.workflow_id = :batch",
            batch=batch.workflow_id,
        )
        workflow = await running.client.get_workflow_handle(event_workflow_id(STORE, one.event_id)).describe()
        assert workflow.history_length == 1
        assert workflow.execution_time is not None
        assert workflow.execution_time - workflow.start_time > timedelta(minutes=30)
        assert abs(workflow.execution_time - one.next_attempt_at) < timedelta(seconds=3), (
            "it begins when the retry is due"
        )
        assert str(one.message_id) in (await workflow.static_details() or "")


@asynccontextmanager
async def slow_way_to(temporal: WorkflowEnvironment) -> AsyncIterator[tuple[TcpProxy, Client]]:
    """A client of that server whose connection can be frozen."""
    host, port = temporal.client.service_client.config.target_host.split(":")
    async with tcp_proxy(host, int(port)) as proxy:
        yield proxy, await Client.connect(f"127.0.0.1:{proxy.port}", data_converter=data_converter(()))


async def test_a_hand_on_that_is_stuck_delays_nobody(database_url: str, temporal: WorkflowEnvironment) -> None:
    """Batches that wait to hand their events on hold nothing that the first attempts of other events need."""
    async with Receiver() as receiver, slow_way_to(temporal) as (proxy, slow):
        failing = {"retry_schedule_seconds": (3600,), "breaker_failures": 1_000_000, "batch_events": 2}
        async with pipeline(database_url, temporal.client, hands_on_through=slow, **failing) as running:
            receiver.script(*[status(503)] * FAILING, path="/failing")
            await running.subscribe("CustomerUpdated", receiver.url("/failing"))
            await running.subscribe("CustomerDeactivated", receiver.url("/healthy"))
            proxy.freeze()
            await running.emit("CustomerUpdated", CUSTOMER, count=FAILING)
            await running.until_statuses({"pending": FAILING})
            await running.emit("CustomerDeactivated", CUSTOMER)
            await running.until_statuses({"pending": FAILING, "delivered": 1})
            assert await open_workflows(running, "deliver-events") > 100, "more than a worker's local activities"
            proxy.mend()

            async def all_handed_on() -> bool:
                return await open_workflows(running, "deliver-events") == 0

            await eventually(all_handed_on, 60, "every batch has handed its events on")


async def test_what_a_stopped_worker_did_not_hand_on_another_does(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    same = {
        "task_queue": f"stopped-{uuid4()}",
        "retry_schedule_seconds": (3600,),
        "breaker_failures": 1_000_000,
        "batch_events": 30,
    }
    async with Receiver() as receiver, slow_way_to(temporal) as (proxy, slow):
        receiver.otherwise = status(503)
        async with pipeline(database_url, temporal.client, hands_on_through=slow, **same) as before:
            await before.subscribe("CustomerUpdated", receiver.url("/hook"))
            proxy.freeze()
            await before.emit("CustomerUpdated", CUSTOMER, count=30)

            async def stuck() -> bool:
                return proxy.held_back > 0 and await before.statuses() == {"pending": 30}

            await eventually(stuck, 20, "the batch is being handed on")
        async with pipeline(database_url, temporal.client, **same) as after:

            async def all_have_a_workflow() -> bool:
                return await open_workflows(after, "deliver-event") == 30

            await eventually(all_have_a_workflow, 60, "another worker went on")


async def open_workflows(running: Pipeline, kind: str) -> int:
    queue = running.settings.task_queue
    query = f"WorkflowType = '{kind}' AND ExecutionStatus = 'Running' AND TaskQueue = '{queue}'"
    return (await running.client.count_workflows(query)).count
