"""The OpenAPI document and its page."""

import asyncio
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from api.app import ROUTERS
from api.openapi.document import add_docs, build, dependencies, url_pattern
from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus
from domain.urls.rules import URL_MAX_CHARACTERS, UrlRules, normalise_url
from tests.api.installation import Installation

Document = dict[str, Any]


@pytest.fixture(scope="module")
async def document(installed: Installation) -> Document:
    """The document as it is served, to anybody."""
    response = await (await installed.caller()).get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return dict(response.json())


def nodes(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from nodes(child, f"{path}/{name}")


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


async def test_requests_at_once_build_the_document_once(
    installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def counted(app: FastAPI, rules: UrlRules) -> Document:
        built.append(app)
        return build(installed.app, rules)

    monkeypatch.setattr("api.openapi.document.build", counted)
    app = FastAPI(openapi_url=None, docs_url=None)
    add_docs(app, UrlRules())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        first, *others = await asyncio.gather(*(client.get("/openapi.json") for _ in range(3)))
    assert (first.status_code, len(built)) == (200, 1)
    assert all(other.content == first.content for other in others)


def test_it_is_openapi_3_1_with_both_ways_to_show_who_one_is(document: Document) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["components"]["securitySchemes"].keys() == {"token", "apiKey"}


def test_every_route_is_in_it(document: Document) -> None:
    routes = {
        (method, context.original_route.path_format)
        for router in ROUTERS
        for context in iter_route_contexts(router.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.original_route.methods or ()
    }
    assert {(method, path) for method, path, _ in operations(document)} == routes


def test_every_reference_leads_somewhere(document: Document) -> None:
    for path, node in nodes(document):
        if has_reference(node):
            found: Any = document
            for step in node["$ref"].removeprefix("#/").split("/"):
                assert step in found, f"{path}: {node['$ref']}"
                found = found[step]


def test_every_schema_is_one_and_every_pattern_compiles(document: Document) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for path, node in nodes(document["components"]["schemas"]):
        if isinstance(node, dict) and isinstance(node.get("pattern"), str):
            assert re.compile(node["pattern"]), path


def test_operation_ids_are_unique_and_every_operation_says_what_it_does(document: Document) -> None:
    found = list(operations(document))
    assert len({operation["operationId"] for _, _, operation in found}) == len(found)
    assert [path for _, path, operation in found if not (operation["summary"] and operation["description"])] == []


def test_clients_get_short_stable_names(document: Document) -> None:
    found = {operation["operationId"] for _, _, operation in operations(document)}
    assert {"emitEvent", "pauseSubscription", "sendDeliveryNow", "listStores"} <= found
    assert [one for one in found if not re.fullmatch(r"[a-z]+([A-Z][a-z]+){0,3}", one)] == []


def test_every_response_says_what_it_means(document: Document) -> None:
    said = {
        (operation["operationId"], code): response["description"]
        for _, _, operation in operations(document)
        for code, response in operation["responses"].items()
    }
    phrases = {"Successful Response", *(status.phrase for status in HTTPStatus)}
    assert [one for one, words in said.items() if words in phrases] == []
    assert "`eventId`" in said["emitEvent", "409"]
    assert "Retry-After" in said["emitEvent", "503"]


def test_closed_lists_are_enums_and_a_list_that_may_grow_takes_any_text(document: Document) -> None:
    schemas = document["components"]["schemas"]
    delivery, attempt = schemas["DeliveryOut"]["properties"], schemas["AttemptOut"]["properties"]
    assert delivery["status"] == {"$ref": "#/components/schemas/DeliveryStatus"}
    assert schemas["DeliveryStatus"]["enum"] == list(DeliveryStatus)
    assert attempt["trigger"]["enum"] == ["automatic", "manual", "test"]
    known, *others = attempt["failure"]["anyOf"]
    assert (known["enum"], others) == (list(FailureKind), [{"type": "string"}, {"type": "null"}])


def test_every_tag_is_described(document: Document) -> None:
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert {tag["name"] for tag in document["tags"] if tag["description"]} == used


def test_every_request_body_has_an_example_that_its_schema_accepts(document: Document) -> None:
    for _, _, operation in operations(document):
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            schema = {**content["schema"], "components": document["components"]}
            Draft202012Validator(schema).validate(content["example"])


def test_what_trips_generators_is_not_in_it(document: Document) -> None:
    """Enums whose members differ in punctuation alone (GMT+0 and GMT-0), and schemas that contain themselves."""
    schemas = document["components"]["schemas"]
    for path, node in nodes(document["paths"] | schemas):
        if isinstance(node, dict) and isinstance(node.get("enum"), list):
            names = [re.sub(r"\W", "", str(value)).lower() for value in node["enum"]]
            assert len(set(names)) == len(names), path
    for name in schemas:
        reached, beyond = set[str](), {name}
        while beyond:
            found = {str(node["$ref"]) for one in beyond for _, node in nodes(schemas[one]) if has_reference(node)}
            beyond = {one.rpartition("/")[2] for one in found} - reached
            reached |= beyond
        assert name not in reached


def has_reference(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("$ref"), str)


def test_what_a_handler_refuses_is_documented(document: Document) -> None:
    for router in ROUTERS:
        for context in iter_route_contexts(router.routes):
            route = context.original_route
            assert isinstance(route, APIRoute)
            refused = {str(code) for call in dependencies(route.dependant) for code in getattr(call, "refuses", ())}
            for method in route.methods or ():
                responses = document["paths"][route.path_format][method.lower()]["responses"]
                assert refused <= responses.keys(), route.path_format
                assert "422" not in responses


def test_every_refusal_has_a_body_and_those_that_pass_say_when_to_come_back(document: Document) -> None:
    for _, path, operation in operations(document):
        for code, response in operation["responses"].items():
            if int(code) >= 400 and path.startswith("/api/"):
                assert "application/json" in response["content"], (path, code)
            if code in ("429", "503") and path.startswith("/api/"):
                assert "Retry-After" in response["headers"], (path, code)


RULES = {
    "as installed": UrlRules(allowed_ports=frozenset({443, 8443})),
    "http and every port": UrlRules(allow_http=True),
    "http and some ports": UrlRules(allow_http=True, allowed_ports=frozenset({80, 8080})),
    "an odd port only": UrlRules(allowed_ports=frozenset({8443})),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_url_that_fits_the_documented_pattern_is_accepted(rules: UrlRules, data: st.DataObject) -> None:
    pattern = re.compile(url_pattern(rules), re.ASCII)
    url = data.draw(st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= URL_MAX_CHARACTERS))
    normalise_url(url.rstrip("\n"), rules)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_usual_urls_fit_the_documented_pattern(rules: UrlRules) -> None:
    port = ":8080" if rules.allow_http and rules.allowed_ports else ":8443"
    for path in ("", "/", "/webhooks", "/a/b_c-d.php?x=1&y=%C3%BC"):
        assert re.search(url_pattern(rules), f"https://receiver.example.com{port}{path}"), path


async def test_the_page_loads_from_nowhere_else_and_no_other_page_frames_it(installed: Installation) -> None:
    client: httpx.AsyncClient = await installed.caller()
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert ("frame-ancestors 'none'" in policy, page.headers["X-Frame-Options"]) == (True, "DENY")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for path in loaded:
        response = await client.get(path)
        assert response.status_code == 200, path
        assert len(response.content) > 100
    assert "<script>" not in page.text


async def test_the_page_can_read_this_version_of_openapi(installed: Installation) -> None:
    program = await (await installed.caller()).get("/docs/assets/swagger-ui-bundle.js")
    assert "OpenAPI31" in program.text or "openapi31" in program.text.lower()
