"""A worker tells what it counts and what Temporal's SDK counts, on one page; and whether it works."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from temporalio import workflow
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from local.health import fetch
from local.ports import hold_free
from storage.database import Database
from storage.unavailable import in_words
from telemetry.worker_health import SDK_METRICS, SdkMetrics, worker_health
from telemetry.worker_metrics import WorkerMetrics
from temporal.client import temporal_client
from tests.deadlines import eventually
from tests.pipeline import pipeline
from tests.receiver import Receiver

SDK_LABELS = {
    *("namespace", "task_queue", "worker_type", "poller_type", "operation", "status_code", "workflow_type"),
    *("activity_type", "failure_reason", "le", "service_name", "eager"),
}


@pytest.fixture(scope="module")
def sdk() -> SdkMetrics:
    return SdkMetrics()


@pytest.fixture
async def client(sdk: SdkMetrics, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
    return await temporal_client(lazy=False, payload_keys=(), runtime=sdk.runtime)


@pytest.fixture
async def page(sdk: SdkMetrics, database_url: str) -> AsyncIterator[str]:
    """Where the pages are; the worker behind them says that it does not work."""
    database = Database(database_url, pool_size=2)
    with hold_free() as held:
        port = held.getsockname()[1]
    registry = WorkerMetrics().registry
    async with worker_health(
        "127.0.0.1",
        port,
        ping_database=database.ping,
        in_words=in_words,
        registry=registry,
        sdk=sdk,
        working=lambda: False,
    ):
        yield f"http://127.0.0.1:{port}"
    await database.close()


@workflow.defn(name="broken")
class BrokenWorkflow:
    @workflow.run
    async def run(self) -> None:
        raise ValueError("a fault of the workflow's code, by which its tasks fail")


async def test_what_alerts_and_dashboards_look_at_is_told_by_the_sdk(
    client: Client, page: str, database_url: str
) -> None:
    async with Receiver() as receiver, pipeline(database_url, client) as running:
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", "{}", 3)
        await running.until_statuses({"delivered": 3})
        queue = f"broken-{uuid4()}"
        async with Worker(
            client, task_queue=queue, workflows=[BrokenWorkflow], workflow_runner=UnsandboxedWorkflowRunner()
        ):
            started = {"id": queue, "task_queue": queue, "execution_timeout": timedelta(seconds=30)}
            handle = await client.start_workflow("broken", **started)
            with pytest.raises(Exception, match="already started"):
                await client.start_workflow("broken", **started)

            async def all_told() -> bool:
                answer = await fetch(f"{page}/metrics")
                if answer is None:
                    return False
                told = {name for name in SDK_METRICS if f"\n{name}".encode() in answer.content}
                return told == set(SDK_METRICS)

            await eventually(all_told, 20, f"all of {sorted(SDK_METRICS)}")
            await handle.terminate()
    answer = await fetch(f"{page}/metrics", 30)
    assert answer is not None
    families = list(text_string_to_metric_families(answer.text))
    assert {"loyalty_webhooks_attempts", "loyalty_webhooks_build_info", "process_open_fds", "temporal_num_pollers"} <= {
        family.name for family in families
    }
    of_the_sdk = [family for family in families if family.name.startswith("temporal_")]
    assert {label for family in of_the_sdk for one in family.samples for label in one.labels} - SDK_LABELS == set()


async def test_a_worker_that_does_not_work_yet_is_alive_and_not_ready(page: str) -> None:
    alive, ready = await fetch(f"{page}/healthz", 30), await fetch(f"{page}/readyz", 30)
    assert alive is not None
    assert ready is not None
    assert (alive.status_code, ready.status_code) == (200, 503)
    assert ready.json()["reasons"] == {"worker": "not polling Temporal (yet)"}
