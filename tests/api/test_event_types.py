"""The event types over HTTP and in the OpenAPI document: every schema, every example, from one place."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from api.openapi.document import event_webhooks
from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from sending.requests import TEST_HEADER
from tests.api.running import RunningApi, running_api
from tests.databases import cloned_database

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "modern-events.json").read_text())["events"]
LEGACY = sorted(name for name, event_type in CATALOGUE.items() if event_type.legacy)
HEADERS = {
    "X-Webhook-Signature", "X-Webhook-Signature-Algorithm", "X-Webhook-Timestamp", "X-Webhook-Request-Id",
    "X-Webhook-Signature-Version", "webhook-id", "webhook-timestamp", "webhook-signature", TEST_HEADER,
}  # fmt: skip


@pytest.fixture(scope="module")
async def api(database_template: str) -> AsyncIterator[RunningApi]:
    async with cloned_database(database_template) as url, running_api(url) as running:
        yield running


def check(schema: dict[str, Any], value: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(value)


async def test_the_names_are_those_of_the_contract_in_order(api: RunningApi) -> None:
    answer = await api.get("webhook/event")
    assert answer.status_code == 200
    assert answer.json() == {"items": sorted(CONTRACT)}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
async def test_an_event_type_shows_what_to_emit_and_what_is_received(api: RunningApi, name: str) -> None:
    answer = await api.get(f"webhook/event/{name}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert list(found) == ["eventName", "description", "scheduled", "schema", "examples"]
    assert list(found["examples"]) == ["data", "modern", "legacy"]
    assert found["eventName"] == name
    assert found["scheduled"] == CATALOGUE[name].scheduled
    assert (found["examples"]["legacy"] is None) == (name not in LEGACY)
    check(found["schema"], found["examples"]["data"])
    check(CONTRACT[name]["data"], found["examples"]["modern"]["data"])
    emitted = await api.emit(name, found["examples"]["data"])
    assert emitted.status_code == 202


async def test_numbers_of_an_example_stand_as_in_a_body(api: RunningApi) -> None:
    answer = await api.get("webhook/event/TransactionRegistered")
    assert dump(CATALOGUE["TransactionRegistered"].sample) in answer.text


async def test_an_unknown_event_type_is_not_found(api: RunningApi) -> None:
    for unknown in ("CustomerRegistred", "customerupdated", "%00", "x" * 4000):
        assert (await api.get(f"webhook/event/{unknown}")).status_code == 404
    assert (await api.get("webhook/event", headers={"X-AUTH-TOKEN": "wrong"})).status_code == 401
    assert (await api.get("/api/nowhere/webhook/event")).status_code == 404


class TestTheWebhooksSection:
    async def test_stands_in_the_openapi_document(self, api: RunningApi) -> None:
        document = (await api.get("/openapi.json")).json()
        assert document["openapi"].startswith("3.1")
        assert set(document["webhooks"]) == set(event_webhooks())

    async def test_describes_emitting_with_free_data_for_every_event(self, api: RunningApi) -> None:
        document = (await api.get("/openapi.json")).json()
        emitted = document["components"]["schemas"]["EmittedEvent"]
        assert set(emitted["properties"]["eventName"]["enum"]) == set(CATALOGUE)
        for name, event_type in CATALOGUE.items():
            check(
                {**emitted, "components": document["components"]},
                {"eventName": name, "data": json.loads(dump(event_type.sample))},
            )
        batch = document["paths"]["/api/{storeCode}/event/batch"]["post"]["requestBody"]["content"]
        assert set(batch) == {"application/json", "application/x-ndjson"}

    def test_has_every_event_in_the_modern_format_and_17_in_the_legacy_one(self) -> None:
        names = set(event_webhooks())
        assert {name for name in names if "." not in name} == set(CATALOGUE)
        assert {name.partition(".")[0] for name in names if ".legacy" in name} == set(LEGACY)
        assert len(LEGACY) == 17
        assert "CustomerLevelChanged.legacy.automatic" in names

    @pytest.mark.parametrize("name", sorted(event_webhooks()))
    def test_shows_an_example_that_its_own_schema_and_the_contract_accept(self, name: str) -> None:
        operation = event_webhooks()[name]["post"]
        assert {parameter["name"] for parameter in operation["parameters"]} == HEADERS
        content = operation["requestBody"]["content"]["application/json"]
        example = json.loads(dump(content["example"]))
        check(content["schema"], example)
        if "." not in name:
            assert list(example) == ["messageId", "requestId", "eventName", "storeCode", "createdAt", "data"]
            check(CONTRACT[name]["data"], example["data"])

    def test_names_each_operation_once(self) -> None:
        operations = [item["post"]["operationId"] for item in event_webhooks().values()]
        assert len(set(operations)) == len(operations)
