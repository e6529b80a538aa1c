"""What a batch hands on is started or seen to fail."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.handing_on import HandingOn
from telemetry.worker_metrics import WorkerMetrics
from temporal.codec import data_converter
from temporal.messages import EventRef, EventTask, HandOn, Waiting
from tests.ground import STORE
from tests.temporal_server import is_there


def counted(metrics: WorkerMetrics) -> float | None:
    return metrics.registry.get_sample_value("loyalty_webhooks_start_faults_total")


def some_events(count: int) -> HandOn:
    """Events of which only their own workflows can tell what waits."""
    return HandOn([EventRef(STORE, str(uuid4()), "CustomerUpdated") for _ in range(count)], [], datetime.now(UTC))


async def test_a_start_that_temporal_refuses_is_counted(temporal: WorkflowEnvironment) -> None:
    metrics = WorkerMetrics()
    address = temporal.client.service_client.config.target_host
    client = await Client.connect(address, namespace="not-there", data_converter=data_converter(()))
    with pytest.raises(ApplicationError) as refused:
        await ActivityEnvironment().run(HandingOn(client, "nobody", metrics).hand_on, some_events(2))
    assert refused.value.type == "OwnFault"
    assert counted(metrics) == 1


async def test_a_workflow_that_is_there_already_is_no_fault(temporal: WorkflowEnvironment) -> None:
    metrics = WorkerMetrics()
    handing_on = HandingOn(temporal.client, f"nobody-{uuid4()}", metrics)
    task = some_events(2)
    for _ in range(2):
        await ActivityEnvironment().run(handing_on.hand_on, task)
    for event in task.events:
        assert await is_there(temporal.client, f"event/{STORE}/{event.event_id}")
    assert counted(metrics) == 0


async def test_a_start_that_is_refused_for_good_holds_up_none_behind_it(temporal: WorkflowEnvironment) -> None:
    metrics = WorkerMetrics()
    task = some_events(3)
    unnameable = replace(task.events[1], store_code="s" * 2000)
    refused = replace(task, events=[task.events[0], unnameable, task.events[2]])
    with pytest.raises(ApplicationError):
        await ActivityEnvironment().run(HandingOn(temporal.client, f"nobody-{uuid4()}", metrics).hand_on, refused)
    for event in (task.events[0], task.events[2]):
        assert await is_there(temporal.client, f"event/{STORE}/{event.event_id}")
    assert counted(metrics) == 1


async def handed_on(client: Client, event: EventRef) -> list[str]:
    """The deliveries with which an event's workflow was started."""
    async for first in client.get_workflow_handle(f"event/{event.store_code}/{event.event_id}").fetch_history_events():
        payloads = first.workflow_execution_started_event_attributes.input.payloads
        [task] = await client.data_converter.decode(payloads, [EventTask])
        return [one.message_id for one in task.waiting or ()]
    raise AssertionError("a history has a first event")


@pytest.mark.parametrize("named", [True, False])
async def test_of_two_stores_events_of_one_id_each_has_its_own_deliveries(
    temporal: WorkflowEnvironment, named: bool
) -> None:
    """Unless a worker of an earlier version handed them on, which named no store: then both have them all."""
    event_id = str(uuid4())
    events = [EventRef(store, event_id, "CustomerUpdated") for store in (STORE, "other")]
    waiting = [
        Waiting(event_id, one.store_code, "receiver/", 0.0, store_code=one.store_code if named else "")
        for one in events
    ]
    task = HandOn(events, waiting, datetime.now(UTC))
    await ActivityEnvironment().run(HandingOn(temporal.client, f"nobody-{uuid4()}", WorkerMetrics()).hand_on, task)
    for event in events:
        own = [event.store_code] if named else [STORE, "other"]
        assert await handed_on(temporal.client, event) == own
