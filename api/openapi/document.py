"""OpenAPI document: FastAPI's, completed from the dependencies of the handlers.

Dependencies document themselves. One may have `refuses` (status codes), `parameters()` (parameter objects), and
`models()` with `request_body(references)`; the dependency that authenticates adds the security schemes. So each right,
list and body of a handler is documented because the handler takes it.

The `webhooks` section lists every request a receiver may get, with schema and example; receivers generate code from it.
Its keys are event names, with `.legacy` for the legacy format and `.legacy.{variant}` for a second legacy webhook.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from api.access import authenticated
from api.openapi.schemas import ERROR_SCHEMAS, URL_MODELS, error_response, input_schemas, url_pattern
from domain.events.catalogue import CATALOGUE
from domain.events.event_type import EventType
from domain.events.examples import legacy_example, modern_body_schema, modern_example
from domain.urls.rules import UrlRules
from domain.wire.bodies import MAIN

TITLE = "Loyalty Webhooks"
DESCRIPTION = """Delivers the events of a loyalty platform to subscribed webhooks, at least once.

Everything below `/api/{storeCode}` belongs to one store. Clients authenticate with a token of
`POST /api/admin/login_check` or with a permanent API key. Errors are checked in this order: 401, 404 of the store, 403,
404 of the object, 400."""
SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of `POST /api/admin/login_check`.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-AUTH-TOKEN", "description": "A permanent API key."},
}
NAMED_SCHEMAS = ("properties", "$defs", "patternProperties")
FASTAPI_VALIDATION = ("HTTPValidationError", "ValidationError")


def build(app: FastAPI, rules: UrlRules) -> dict[str, Any]:
    """Return the document. `rules` determine the URLs documented as accepted."""
    document = get_openapi(
        title=TITLE,
        version=version("loyalty-webhooks"),
        openapi_version="3.1.0",
        description=DESCRIPTION,
        routes=app.routes,
        separate_input_output_schemas=app.separate_input_output_schemas,
    )
    operations = list(_operations(app, document))
    references, schemas = input_schemas({model for _, calls in operations for model in _models(calls)})
    document["webhooks"] = event_webhooks()
    components = document.setdefault("components", {})
    known = components.setdefault("schemas", {})
    for name in FASTAPI_VALIDATION:
        known.pop(name, None)
    for name, schema in {**schemas, **ERROR_SCHEMAS}.items():
        if known.setdefault(name, schema) != schema:
            raise ValueError(f"two different schemas are named {name}; rename one of the models")
    components["securitySchemes"] = SECURITY_SCHEMES
    for operation, calls in operations:
        _complete(operation, calls, references)
    for name in URL_MODELS:
        known[name]["properties"]["url"]["pattern"] = url_pattern(rules)
    known["SettingsChange"]["properties"]["operatorUrl"]["anyOf"][0]["pattern"] = url_pattern(rules)
    for schema in known.values():
        _tidy(schema)
    return document


def _tidy(schema: Any) -> None:
    """Remove redundant keywords: titles derived from names, and null defaults."""
    if isinstance(schema, list):
        for item in schema:
            _tidy(item)
    elif isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        if schema.get("default", ...) is None:
            del schema["default"]
        for keyword, value in schema.items():
            # The keys below `properties` are field names, which may be `title` or `default` themselves.
            for child in value.values() if keyword in NAMED_SCHEMAS else (value,):
                _tidy(child)


def _operations(app: FastAPI, document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Yield each operation object with the dependencies of its handler."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        calls = list(dependencies(route.dependant))
        for method in route.methods or ():
            yield document["paths"][context.path_format][method.lower()], calls


def dependencies(dependant: Dependant) -> Iterator[Any]:
    """Yield every dependency of a handler, in the order of resolution."""
    for child in dependant.dependencies:
        yield from dependencies(child)
        yield child.call


def _models(calls: list[Any]) -> Iterator[type[BaseModel]]:
    for call in calls:
        if hasattr(call, "models"):
            yield from call.models()


def _complete(
    operation: dict[str, Any], calls: list[Any], references: Mapping[type[BaseModel], dict[str, Any]]
) -> None:
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI adds 422; this API answers invalid requests with 400
    for call in calls:
        for code in getattr(call, "refuses", ()):
            responses.setdefault(str(code), {})
        if hasattr(call, "parameters"):
            operation.setdefault("parameters", []).extend(call.parameters())
        if hasattr(call, "request_body"):
            operation["requestBody"] = call.request_body(references)
        if call is authenticated:
            operation["security"] = [{scheme: []} for scheme in SECURITY_SCHEMES]
    for code, response in responses.items():
        if int(code) >= 400 and "content" not in response:
            response.update(error_response(int(code)))
    operation["responses"] = dict(sorted(responses.items()))


_TEXT = {"type": "string"}
_SIGNATURE_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "X-Webhook-Signature": (_TEXT, "HMAC-SHA256 in hex over method, host, path, body hash, timestamp and request id."),
    "X-Webhook-Signature-Algorithm": ({"const": "hmac-sha256"}, "The algorithm."),
    "X-Webhook-Timestamp": ({"type": "integer"}, "Time of signing in Unix seconds."),
    "X-Webhook-Request-Id": ({"type": "string", "format": "uuid"}, "Unique per attempt."),
    "X-Webhook-Signature-Version": ({"type": "integer"}, "Increases with each rotation of the key."),
    "webhook-id": ({"type": "string", "format": "uuid"}, "The messageId, which is the same for each attempt."),
    "webhook-timestamp": ({"type": "integer"}, "As X-Webhook-Timestamp (Standard Webhooks)."),
    "webhook-signature": (_TEXT, "`v1,` and a signature in base64 (Standard Webhooks); two of them after a rotation."),
}


def event_webhooks() -> dict[str, Any]:
    """Return path items by name. Serialise them with `domain.wire.jsontext`, which keeps exact numbers of examples."""
    return {name: item for event_type in CATALOGUE.values() for name, item in _webhooks_of(event_type)}


def _webhooks_of(event_type: EventType) -> Iterator[tuple[str, dict[str, Any]]]:
    name, description = event_type.name, event_type.description
    yield name, _path_item(name, description, modern_body_schema(event_type), modern_example(event_type))
    form = event_type.legacy
    if form is None:
        return
    for variant in (MAIN,) if form.second is None else (MAIN, form.second.variant):
        legacy_name = f"{name}.legacy" if variant == MAIN else f"{name}.legacy.{variant}"
        schema, example = event_type.legacy_schema(variant), legacy_example(event_type, variant)
        yield legacy_name, _path_item(legacy_name, f"{description} Legacy format.", schema, example)


def _path_item(name: str, description: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {
        "post": {
            "operationId": f"receive{name.replace('.', '_')}",
            "summary": name,
            "description": description,
            "tags": ["webhooks"],
            "security": [],
            "parameters": [
                {"name": header, "in": "header", "required": False, "schema": header_schema, "description": meaning}
                for header, (header_schema, meaning) in _SIGNATURE_HEADERS.items()
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
            "responses": {
                "2XX": {"description": "Delivered. The log stores the beginning of the body."},
                "410": {"description": "Gone permanently: the subscription is disabled."},
                "default": {"description": "Failed: retried by the subscription's schedule."},
            },
        }
    }
