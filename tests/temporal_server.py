"""Temporal servers for tests, from the wheels: the real one, and the one that skips time."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from temporal.codec import data_converter
from temporal.visibility import EVENT_IDS, EVENT_NAME, STORE_CODE

PROGRAMS = Path(sys.executable).parent


@asynccontextmanager
async def real_server() -> AsyncIterator[WorkflowEnvironment]:
    """The Temporal server in memory, with our search attributes."""
    async with await WorkflowEnvironment.start_local(
        data_converter=data_converter(()),
        dev_server_existing_path=str(PROGRAMS / "temporal"),
        search_attributes=[STORE_CODE, EVENT_NAME, EVENT_IDS],
        dev_server_log_level="error",
    ) as environment:
        yield environment


async def is_there(client: Client, workflow_id: str) -> bool:
    """Whether a workflow of that id has been started."""
    try:
        await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def _register_search_attributes(client: Client) -> None:
    keyword_list = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=client.namespace,
            search_attributes={key.name: keyword_list for key in (STORE_CODE, EVENT_NAME, EVENT_IDS)},
        )
    )


@asynccontextmanager
async def skipping_server() -> AsyncIterator[WorkflowEnvironment]:
    """The test server whose clock jumps to the next timer when nothing else is to do."""
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=data_converter(()),
        test_server_existing_path=str(PROGRAMS / "temporal-test-server"),
    ) as environment:
        await _register_search_attributes(environment.client)
        yield environment
