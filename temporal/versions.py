"""Versions of workers, by which Temporal chooses the code that runs a workflow."""

import asyncio
import time
from datetime import timedelta

from temporalio.api.deployment.v1 import RoutingConfig
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from temporal.client import found_or_none
from temporal.periodic import run_periodically

KNOWN_SECONDS = 120.0
"""Maximum wait for a version's workers, since Temporal knows a version only once a worker of it has polled."""

LOOK_SECONDS = 2.0
"""Maximum delay until a worker learns that another version was made current."""

PAUSE_SECONDS = 0.5
CALL_SECONDS = timedelta(seconds=20)

_UNKNOWN = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION})
_TRY_AGAIN = "try again"
"""Text of Temporal's error, with the status INTERNAL, for a deployment with too many concurrent requests."""


class PromotionError(Exception):
    """A version was not made the current one. The text names the remedy."""


def deployment_version(task_queue: str, build_id: str) -> WorkerDeploymentVersion:
    """Return the version of a build. The workers of a task queue are one deployment, whose name may have no dot."""
    return WorkerDeploymentVersion(deployment_name=task_queue.replace(".", "-"), build_id=build_id)


class VersionRouting:
    """Routing of new workflows between worker versions, as this worker last read it."""

    def __init__(self, client: Client, version: WorkerDeploymentVersion | None) -> None:
        self._client = client
        self._version = version
        self.all_here = version is None
        """True if Temporal gives every new workflow to workers of this version: it is current and no other is ramping.
        A worker with a version assumes False until `watch` has read the routing."""

    async def watch(self) -> None:
        """Read the routing every few seconds, until cancelled. Returns at once for a worker without a version."""
        version = self._version
        if version is None:
            return

        async def read() -> None:
            routing = await routing_of(self._client, version)
            shared = routing.ramping_version_percentage > 0
            self.all_here = routing.current_deployment_version.build_id == version.build_id and not shared

        await run_periodically("check which worker version is current", read, every_seconds=LOOK_SECONDS)


async def routing_of(client: Client, version: WorkerDeploymentVersion) -> RoutingConfig:
    """Return the routing of new workflows in a deployment; empty if Temporal knows none. Raises RPCError."""
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=version.deployment_name)
    found = await found_or_none(client.workflow_service.describe_worker_deployment(request, timeout=CALL_SECONDS))
    return RoutingConfig() if found is None else found.worker_deployment_info.routing_config


async def promote(
    client: Client, version: WorkerDeploymentVersion, *, percent: float | None = None, patience: float = KNOWN_SECONDS
) -> None:
    """Route new workflows, and the next task of each open one, to the workers of a version. `percent` below 100 routes
    only that share, until the version is promoted as a whole. While no worker of the version polls yet, or Temporal is
    busy, the call is repeated for `patience` seconds. Raises PromotionError."""
    service = client.workflow_service
    namespace, name, build_id = client.namespace, version.deployment_name, version.build_id
    until = time.monotonic() + patience
    while True:
        try:
            if percent is None or percent >= 100:
                current = SetWorkerDeploymentCurrentVersionRequest(
                    namespace=namespace, deployment_name=name, build_id=build_id
                )
                await service.set_worker_deployment_current_version(current, timeout=CALL_SECONDS)
            else:
                ramping = SetWorkerDeploymentRampingVersionRequest(
                    namespace=namespace, deployment_name=name, build_id=build_id, percentage=percent
                )
                await service.set_worker_deployment_ramping_version(ramping, timeout=CALL_SECONDS)
        except RPCError as error:
            busy = error.status is RPCStatusCode.RESOURCE_EXHAUSTED or (
                error.status is RPCStatusCode.INTERNAL and _TRY_AGAIN in error.message.lower()
            )
            if not (error.status in _UNKNOWN or busy) or time.monotonic() > until:
                raise PromotionError(_explained(error, version)) from error
        else:
            return
        await asyncio.sleep(PAUSE_SECONDS)


def _explained(error: RPCError, version: WorkerDeploymentVersion) -> str:
    if error.status in _UNKNOWN and "namespace" in error.message.lower():
        missing = error.message.rstrip(".")
        return f"{missing}. Create it with `loyalty-webhooks temporal setup`, or correct TEMPORAL_NAMESPACE."
    if error.status in _UNKNOWN:
        return (
            f"Temporal knows no worker of version {version.build_id} that polls queue {version.deployment_name}: "
            f"{error.message.rstrip('.')}. Start one with WORKER_BUILD_ID={version.build_id} first."
        )
    return f"Version {version.build_id} was not made current: {error.status.name}: {error.message}"
