"""An event becomes requests: every part of the pipeline on the real database, Temporal and receiver."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from domain.delivery import lifecycle
from domain.delivery.identity import event_workflow_id, message_id
from local.ports import hold_free
from temporal.codec import data_converter
from temporal.visibility import EVENT_IDS, RECEIVER_HOSTS
from tests.deadlines import eventually
from tests.forward_proxy import tinyproxy
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


async def test_an_operator_finds_the_workflow_of_an_event_by_each_host_it_goes_to(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        for host in ("127.0.0.1", "localhost", "[::1]"):
            await running.subscribe("CustomerUpdated", receiver.url("/hook").replace("127.0.0.1", host))
        [event_id] = await running.emit("CustomerUpdated", CUSTOMER)
        expected = [event_workflow_id(STORE, event_id)]

        async def found(host: str) -> bool:
            query = f"{RECEIVER_HOSTS.name} = '{host}' AND {EVENT_IDS.name} = '{event_id}'"
            return [one.id async for one in running.client.list_workflows(query)] == expected

        for host in ("127.0.0.1", "localhost", "--1"):
            await eventually(partial(found, host), 20, f"the workflow in the list of {host}")
        assert not await found("127.0.0.2")


@pytest.mark.usefixtures("programs")
async def test_deliveries_wait_for_an_egress_proxy_that_is_away_and_no_receiver_is_blamed(
    database_url: str, temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "INTERNAL_ERROR_DELAY_SECONDS", 1.0)
    with hold_free() as held:
        port = held.getsockname()[1]
    strict = {"breaker_failures": 1, "retry_schedule_seconds": (3600,)}
    proxied = {"egress_proxy_url": SecretStr(f"http://user:some%2Ething@127.0.0.1:{port}")}
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **strict, **proxied) as running:
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", CUSTOMER, count=3)

        async def tried_more_often_than_scheduled() -> bool:
            failed = "SELECT count(*) FROM attempt WHERE failure = 'proxy_unavailable' GROUP BY message_id"
            return [row[0] >= 3 for row in await running.execute(failed)] == [True] * 3

        await eventually(tried_more_often_than_scheduled, 30, "three attempts of each")
        assert await running.scalar("SELECT sum(failures) FROM delivery") == 0
        assert await running.scalar("SELECT count(*) FROM subscription_health WHERE failures_in_row > 0") == 0
        with tinyproxy(tmp_path, "BasicAuth user some.thing", port=port) as proxy:
            await running.until_statuses({"delivered": 3})
            assert set(proxy.asked) == {f"127.0.0.1:{receiver.port}"}
        assert len(receiver.requests) == 3


async def test_a_batch_settles_what_it_can_and_retries_the_rest_one_by_one(
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
        retried = await running.execute("SELECT message_id, retry_id FROM delivery WHERE attempts = 2")
        assert len(retried) == 5
        assert all(row.retry_id == f"{row.message_id}/1" for row in retried)
        summary = await running.client.get_workflow_handle(batches[0].workflow_id).result()
        assert summary["retrying"] in range(6), "one or two of the first events came alone"
        for row in retried:
            assert (await running.client.get_activity_handle(row.retry_id).result())["status"] == "delivered"


@asynccontextmanager
async def slow_way_to(temporal: WorkflowEnvironment) -> AsyncIterator[tuple[TcpProxy, Client]]:
    """A client of that server whose connection can be frozen."""
    host, port = temporal.client.service_client.config.target_host.split(":")
    async with tcp_proxy(host, int(port)) as proxy:
        yield proxy, await Client.connect(f"127.0.0.1:{proxy.port}", data_converter=data_converter(()))


@pytest.mark.usefixtures("patient_batches")
async def test_retries_that_cannot_be_started_delay_nobody(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that wait to start their retries hold nothing that the first attempts of other events need."""
    monkeypatch.setattr("activities.deliver.FIRST_ATTEMPTS_SECONDS_WITH_FAILURES", 60)
    names = ("CustomerUpdated", "CustomerRegistered", "CustomerLevelChanged")
    async with Receiver() as receiver, slow_way_to(temporal) as (proxy, slow):
        failing = {"retry_schedule_seconds": (3600,), "breaker_failures": 1_000_000, "batch_events": 2}
        async with pipeline(database_url, temporal.client, retries_through=slow, **failing) as running:
            receiver.script(*[status(503)] * FAILING, path="/failing")
            for name in names:
                await running.subscribe(name, receiver.url("/failing"))
            await running.subscribe("CustomerDeactivated", receiver.url("/healthy"))
            proxy.freeze()
            for name in names:
                await running.emit(name, CUSTOMER, count=FAILING // len(names))
            await running.until_statuses({"pending": FAILING}, 60)
            await running.emit("CustomerDeactivated", CUSTOMER)
            await running.until_statuses({"pending": FAILING, "delivered": 1})

            async def many_open() -> bool:
                return await open_workflows(running) > 100

            await eventually(many_open, 20, "more than a worker's local activities")
            proxy.mend()

            async def all_started() -> bool:
                return await open_workflows(running) == 0

            await eventually(all_started, 60, "the retries of every batch are started")

            async def all_listed() -> bool:
                return await waiting_retries(running) == FAILING

            await eventually(all_listed, 20, "every retry is listed")


@pytest.mark.usefixtures("patient_batches")
async def test_retries_that_a_stopped_worker_did_not_start_are_started_by_another(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.deliver.FIRST_ATTEMPTS_SECONDS_WITH_FAILURES", 60)
    same = {
        "task_queue": f"stopped-{uuid4()}",
        "retry_schedule_seconds": (3600,),
        "breaker_failures": 1_000_000,
        "batch_events": 30,
    }
    async with Receiver() as receiver, slow_way_to(temporal) as (proxy, slow):
        receiver.otherwise = status(503)
        async with pipeline(database_url, temporal.client, retries_through=slow, **same) as before:
            await before.subscribe("CustomerUpdated", receiver.url("/hook"))
            proxy.freeze()
            await before.emit("CustomerUpdated", CUSTOMER, count=30)
            await before.until_statuses({"pending": 30})

            async def stuck() -> bool:
                return proxy.held_back > 0 and len(receiver.requests) == 30

            await eventually(stuck, 60, "retries are being started")
        async with pipeline(database_url, temporal.client, **same) as after:

            async def all_wait() -> bool:
                return await waiting_retries(after) == 30

            await eventually(all_wait, 60, "another worker went on")
    assert len(receiver.requests) == 30


async def open_workflows(running: Pipeline) -> int:
    query = "WorkflowType = 'deliver-events' AND ExecutionStatus = 'Running'"
    return (await running.client.count_workflows(f"{query} AND TaskQueue = '{running.settings.task_queue}'")).count


async def waiting_retries(running: Pipeline) -> int:
    query = "ActivityType = 'deliver-webhook' AND ExecutionStatus = 'Running'"
    return (await running.client.count_activities(f"{query} AND TaskQueue = '{running.settings.task_queue}'")).count
