"""What a batch hands on is started or seen to fail."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.handing_on import HandingOn
from activities.messages import EventRef, HandOn
from activities.metrics import WorkerMetrics
from tests.ground import STORE
from tests.temporal import is_there
from workflows.codec import data_converter


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
