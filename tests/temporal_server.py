"""Temporal servers for tests, from the wheels: the real one, and the one that skips time."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeActivityExecutionRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from temporal.codec import data_converter
from temporal.visibility import SEARCH_ATTRIBUTE_KEYS, SEARCH_ATTRIBUTES
from tests.deadlines import eventually

PROGRAMS = Path(sys.executable).parent
NAMESPACE_SECONDS = 20.0
START_TIMEOUT = timedelta(seconds=60)
"""A start takes 1.2 s. The SDK gives up after five, which all processes of a run that starts may exceed."""


@asynccontextmanager
async def real_server() -> AsyncIterator[WorkflowEnvironment]:
    """The Temporal server in memory, with our search attributes."""
    async with await WorkflowEnvironment.start_local(
        data_converter=data_converter(()),
        dev_server_existing_path=str(PROGRAMS / "temporal"),
        search_attributes=SEARCH_ATTRIBUTE_KEYS,
        dev_server_log_level="error",
        dev_server_startup_timeout=START_TIMEOUT,
    ) as environment:
        yield environment


async def new_namespace(server: WorkflowEnvironment) -> WorkflowEnvironment:
    """Return the same server seen through a new namespace with our search attributes. Costs some 50 ms."""
    address, name = server.client.service_client.config.target_host, f"test-{uuid4()}"
    retention = Duration(seconds=24 * 60 * 60)
    await server.client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=retention)
    )
    client = await Client.connect(address, namespace=name, data_converter=data_converter(()))

    async def registered() -> bool:
        try:
            await _register_search_attributes(client)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:  # parts of the server do not know the namespace yet
                return False
            raise
        return True

    await eventually(registered, NAMESPACE_SECONDS, "the namespace is known everywhere")
    return WorkflowEnvironment.from_client(client)


async def activity_is_there(client: Client, activity_id: str) -> bool:
    """Return True if a standalone activity of that id has been started."""
    try:
        await client.get_activity_handle(activity_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def everything_of_activity(client: Client, activity_id: str) -> bytes:
    """All that Temporal knows of a standalone activity: input, outcome, last failure, what its UI shows."""
    request = DescribeActivityExecutionRequest(
        namespace=client.namespace, activity_id=activity_id, include_input=True, include_outcome=True
    )
    return (await client.workflow_service.describe_activity_execution(request)).SerializeToString()


async def _register_search_attributes(client: Client) -> None:
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=client.namespace,
            search_attributes={name: IndexedValueType.ValueType(kind) for name, kind in SEARCH_ATTRIBUTES.items()},
        )
    )


@asynccontextmanager
async def skipping_server() -> AsyncIterator[WorkflowEnvironment]:
    """The test server whose clock jumps to the next timer when nothing else is to do."""
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=data_converter(()),
        test_server_existing_path=str(PROGRAMS / "temporal-test-server"),
        test_server_startup_timeout=START_TIMEOUT,
    ) as environment:
        await _register_search_attributes(environment.client)
        yield environment
