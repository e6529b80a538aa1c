"""An event becomes requests: every part of the pipeline on the real database, Temporal and receiver."""

import json

from temporalio.testing import WorkflowEnvironment

from domain.identity import message_id
from tests.pipeline import STORE, pipeline
from tests.receiver import Receiver, status

CUSTOMER = '{"customer":{"customerId":"7d3a1b9e-0f5c-4a86-9b1e-2f6c8d4e7a10"}}'


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
