"""Where workers have versions, workflows go to the current one, and move on with it whatever became of the last."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from temporalio import workflow
from temporalio.api.deployment.v1 import RoutingConfig
from temporalio.client import Client
from temporalio.common import VersioningBehavior
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

import worker
from domain.delivery.identity import event_workflow_id
from temporal.client import temporal_client
from temporal.versions import PromotionError, deployment_version, promote, routing_of
from tests.commands.running import run
from tests.deadlines import eventually
from tests.pipeline import STORE, pipeline, settings_for
from tests.receiver import Receiver, status


async def client_of(temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
    return await temporal_client(lazy=False, payload_keys=())


async def test_a_delivery_that_waits_goes_on_with_the_version_that_is_current_then(
    cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = f"versions-{uuid4()}"
    options = {"task_queue": queue, "retry_schedule_seconds": (2, 2, 2, 2)}
    old, new = deployment_version(queue, "one"), deployment_version(queue, "two")
    client = await client_of(temporal, monkeypatch)
    async with Receiver() as receiver:
        receiver.script(status(500))
        async with pipeline(cleared_url, client, worker_build_id="one", **options) as running:
            await promote(client, old)
            assert await current_build(client, queue) == "one"
            await running.subscribe("CustomerUpdated", receiver.url("/hook"))
            await running.emit("CustomerUpdated", "{}")
            await receiver.wait_for(1, within=20)
            await running.until_statuses({"pending": 1})
        other = await client_of(temporal, monkeypatch)
        async with pipeline(cleared_url, other, worker_build_id="two", **options) as running:
            await promote(client, new)
            assert await current_build(client, queue) == "two"
            await running.until_statuses({"delivered": 1}, 30)
            await running.emit("CustomerUpdated", "{}", 40)
            await running.until_statuses({"delivered": 41}, 30)


async def current_build(client: Client, task_queue: str) -> str | None:
    """The build whose workers get new workflows; None when no version is current."""
    routing: list[RoutingConfig] = []

    async def told() -> bool:
        try:
            routing.append(await routing_of(client, deployment_version(task_queue, "")))
        except RPCError as error:
            # Temporal is busy with the deployment.
            if error.status not in (RPCStatusCode.INTERNAL, RPCStatusCode.RESOURCE_EXHAUSTED):
                raise
        return bool(routing)

    await eventually(told, 20, "Temporal says which version is current")
    return routing[0].current_deployment_version.build_id or None


async def first_task(client: Client, event_id: UUID) -> str:
    """Build whose worker completed the first task of the event's own workflow.

    A delivery may be seen before that: its attempt runs within the task.
    """
    builds: list[str] = []

    async def completed() -> bool:
        history = await client.get_workflow_handle(event_workflow_id(STORE, event_id)).fetch_history()
        tasks = (one.workflow_task_completed_event_attributes for one in history.events)
        builds.extend(one.deployment_version.build_id for one in tasks if one.deployment_version.build_id)
        return bool(builds)

    await eventually(completed, 20, "the event's first workflow task is completed")
    return builds[0]


async def test_a_version_that_is_not_the_current_one_runs_nothing_that_its_own_relay_starts(
    cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = f"versions-{uuid4()}"
    client, other = await client_of(temporal, monkeypatch), await client_of(temporal, monkeypatch)
    async with (
        Receiver() as receiver,
        pipeline(cleared_url, client, task_queue=queue, worker_build_id="one", relaying=False) as running,
    ):
        await promote(client, deployment_version(queue, "one"))
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        async with pipeline(cleared_url, other, task_queue=queue, worker_build_id="two") as next_version:
            [event_id] = await running.emit("CustomerUpdated", "{}")
            await running.until_statuses({"delivered": 1}, 30)
            assert await first_task(client, event_id) == "one"
            await promote(client, deployment_version(queue, "two"))

            async def all_here() -> bool:
                return next_version.routing.all_here

            await eventually(all_here, 20, "the relay knows that its version is the current one")
            [event_id] = await running.emit("CustomerUpdated", "{}")
            await running.until_statuses({"delivered": 2}, 30)
            assert await first_task(client, event_id) == "two"
            await promote(client, deployment_version(queue, "one"), percent=50)

            async def shares() -> bool:
                return not next_version.routing.all_here

            await eventually(shares, 20, "the relay knows that another version gets a share")


async def test_workers_without_a_version_take_everything_and_end_it(
    cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await client_of(temporal, monkeypatch)
    queue = f"versions-{uuid4()}"
    async with Receiver() as receiver, pipeline(cleared_url, client, task_queue=queue) as running:
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        [event_id] = await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"delivered": 1})
        handle = client.get_workflow_handle(event_workflow_id(STORE, event_id))
        assert await asyncio.wait_for(handle.result(), 20) is not None
        assert await current_build(client, queue) is None
    assert worker.deployment(settings_for(cleared_url)) is None


async def test_a_version_no_worker_has_is_not_made_current(temporal: WorkflowEnvironment) -> None:
    with pytest.raises(PromotionError, match="Start one with WORKER_BUILD_ID=none-such first"):
        await promote(temporal.client, deployment_version(f"versions-{uuid4()}", "none-such"), patience=0)


async def test_many_promotions_at_once_are_all_made(
    cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await client_of(temporal, monkeypatch)
    queue = f"versions-{uuid4()}"
    async with pipeline(cleared_url, client, task_queue=queue, worker_build_id="one"):
        await asyncio.gather(*(promote(client, deployment_version(queue, "one")) for _ in range(50)))
        assert await current_build(client, queue) == "one"


async def test_the_command_promotes_and_ramps_and_says_what_is_missing(
    cleared_url: str, temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await client_of(temporal, monkeypatch)
    queue = f"versions-{uuid4()}"
    environment = {
        "DATABASE_URL": cleared_url,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "TEMPORAL_ADDRESS": temporal.client.service_client.config.target_host,
        "TASK_QUEUE": queue,
    }
    unnamed = await run("temporal", "promote", directory=tmp_path, environment=environment)
    assert (unnamed.code, "WORKER_BUILD_ID" in unnamed.errors) == (2, True)
    async with pipeline(cleared_url, client, task_queue=queue, worker_build_id="one"):
        environment["WORKER_BUILD_ID"] = "one"
        whole = await run("temporal", "promote", directory=tmp_path, environment=environment)
        assert (whole.code, whole.output) == (0, "Version one runs workflows now.\n"), whole.errors
        other = await client_of(temporal, monkeypatch)
        async with pipeline(cleared_url, other, task_queue=queue, worker_build_id="two"):
            part = await run(
                "temporal", "promote", "two", "--percent", "10", directory=tmp_path, environment=environment
            )
            assert (part.code, part.output) == (0, "Version two runs 10 % of workflows now.\n"), part.errors

            async def still_one() -> bool:
                return await current_build(client, queue) == "one"

            await eventually(still_one, 10, "the current version is the one before")


@pytest.mark.parametrize("kind", worker.WORKFLOWS, ids=lambda kind: kind.__name__)
def test_no_workflow_is_bound_to_workers_that_may_be_gone(kind: type) -> None:
    """And none says so itself: a worker without a version could not run it."""
    definition = workflow._Definition.must_from_class(kind)
    assert definition.versioning_behavior in (None, VersioningBehavior.UNSPECIFIED)
    versioned = worker.deployment(settings_for("postgresql://", worker_build_id="one"))
    assert versioned is not None
    assert versioned.default_versioning_behavior is VersioningBehavior.AUTO_UPGRADE
