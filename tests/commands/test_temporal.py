"""`temporal setup` makes what is missing, once, and says exactly what is wrong when it cannot."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from temporal.namespace import SetupError, cloud_commands, missing_attributes
from temporal.visibility import SEARCH_ATTRIBUTES
from tests.commands.running import Ended, run
from tests.temporal_server import PROGRAMS, START_TIMEOUT

KEYWORD_LIST = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST
KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
FREE_PORT_OF_NOBODY = "127.0.0.1:9"


@pytest.fixture(scope="module")
async def bare_server(programs: None) -> AsyncIterator[Client]:
    """A server with nothing of ours in it."""
    async with await start_server() as environment:
        yield environment.client


async def start_server() -> WorkflowEnvironment:
    return await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(PROGRAMS / "temporal"),
        dev_server_log_level="error",
        dev_server_startup_timeout=START_TIMEOUT,
    )


async def add(server: Client, attributes: dict[str, IndexedValueType.ValueType]) -> None:
    request = AddSearchAttributesRequest(namespace="default", search_attributes=attributes)
    await server.operator_service.add_search_attributes(request)


async def set_up(server: Client, namespace: str, directory: Path, *options: str) -> Ended:
    address = server.service_client.config.target_host
    environment = {"TEMPORAL_ADDRESS": address, "TEMPORAL_NAMESPACE": namespace}
    return await run("temporal", "setup", *options, directory=directory, environment=environment)


async def attributes(server: Client, namespace: str) -> dict[str, int]:
    request = ListSearchAttributesRequest(namespace=namespace)
    return dict((await server.operator_service.list_search_attributes(request)).custom_attributes)


async def retention(server: Client, namespace: str) -> timedelta:
    answer = await server.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    return answer.config.workflow_execution_retention_ttl.ToTimedelta()


async def test_a_namespace_is_made_with_its_search_attributes_and_left_alone_afterwards(
    bare_server: Client, tmp_path: Path
) -> None:
    first = await set_up(bare_server, "shop", tmp_path)
    assert first.code == 0, first.errors
    assert await attributes(bare_server, "shop") == SEARCH_ATTRIBUTES
    assert await retention(bare_server, "shop") == timedelta(days=4)
    again = await set_up(bare_server, "shop", tmp_path)
    assert again.code == 0, again.errors
    assert [line.split(" ")[0] for line in again.output.splitlines()] == ["Namespace", "Search"]
    assert "made" not in again.output


async def test_a_retention_changes_only_when_it_is_asked_for(bare_server: Client, tmp_path: Path) -> None:
    await set_up(bare_server, "kept", tmp_path, "--retention-days", "30")
    assert await retention(bare_server, "kept") == timedelta(days=30)
    assert "30 days" in (await set_up(bare_server, "kept", tmp_path)).output
    assert await retention(bare_server, "kept") == timedelta(days=30)
    changed = await set_up(bare_server, "kept", tmp_path, "--retention-days", "7")
    assert "from 30 to 7 days" in changed.output
    assert await retention(bare_server, "kept") == timedelta(days=7)


async def test_a_dry_run_says_all_and_does_nothing(bare_server: Client, tmp_path: Path) -> None:
    ended = await set_up(bare_server, "dry", tmp_path, "--dry-run")
    assert (ended.code, ended.output.count("would be made")) == (0, 2), ended.output
    with pytest.raises(RPCError) as raised:
        await retention(bare_server, "dry")
    assert raised.value.status is RPCStatusCode.NOT_FOUND
    await set_up(bare_server, "wet", tmp_path)
    ended = await set_up(bare_server, "wet", tmp_path, "--dry-run", "--retention-days", "9")
    assert "would change from 4 to 9 days" in ended.output
    assert await retention(bare_server, "wet") == timedelta(days=4)


async def test_an_attribute_of_another_kind_is_told_with_its_cure(bare_server: Client, tmp_path: Path) -> None:
    await add(bare_server, {"StoreCode": KEYWORD})
    ended = await set_up(bare_server, "default", tmp_path)
    assert ended.code == 1
    assert "StoreCode is there as KEYWORD; KEYWORD_LIST is needed" in ended.errors
    assert "TEMPORAL_NAMESPACE" in ended.errors


async def test_a_namespace_without_a_free_slot_is_told_with_its_cure(programs: None, tmp_path: Path) -> None:
    async with await start_server() as environment:
        await add(environment.client, dict.fromkeys(("Their1", "Their2", "Their3"), KEYWORD_LIST))
        ended = await set_up(environment.client, "default", tmp_path)
    assert ended.code == 1
    assert "more than 3" in ended.errors
    assert "TEMPORAL_NAMESPACE" in ended.errors


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = await run("temporal", "setup", directory=tmp_path, environment={"TEMPORAL_ADDRESS": FREE_PORT_OF_NOBODY})
    assert ended.code == 1
    assert FREE_PORT_OF_NOBODY in ended.errors
    assert "TEMPORAL_ADDRESS" in ended.errors
    assert "Traceback" not in ended.errors


async def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    environment = {
        "TEMPORAL_ADDRESS": FREE_PORT_OF_NOBODY,
        "TEMPORAL_TLS_CLIENT_CERT_PATH": str(tmp_path / "none.pem"),
        "TEMPORAL_TLS_CLIENT_KEY_PATH": str(tmp_path / "none.key"),
    }
    ended = await run("temporal", "setup", directory=tmp_path, environment=environment)
    assert ended.code == 1
    assert "none.pem" in ended.errors


def test_in_temporal_cloud_the_commands_of_its_own_tools_are_told() -> None:
    told = "\n".join(cloud_commands("shop.a1b2c", ["EventIds", "ReceiverHosts"], 7))
    added = "--search-attribute EventIds=KeywordList --search-attribute ReceiverHosts=Text"
    assert f"tcld namespace search-attributes add --namespace shop.a1b2c {added}" in told
    assert "tcld namespace retention set --namespace shop.a1b2c --retention-days 7" in told
    assert "Namespaces, shop.a1b2c, Edit" in told
    assert cloud_commands("shop.a1b2c", [], None) == []


def test_what_others_made_beside_ours_does_not_matter() -> None:
    assert missing_attributes({"Theirs": KEYWORD, "EventName": KEYWORD_LIST}) == [
        "StoreCode",
        "EventIds",
        "ReceiverHosts",
    ]
    with pytest.raises(SetupError, match="EventIds is there as KEYWORD;"):
        missing_attributes({"EventIds": KEYWORD})
