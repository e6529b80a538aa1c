"""OpenAPI document, FastAPI's completed from the dependencies of the handlers; routes /openapi.json and /docs.

Dependencies document themselves. One may have `refuses` (status codes) and `parameters()` (parameter objects), or be a
`DocumentedBody`; the dependency that authenticates adds the security schemes. So each right, list and body of a handler
is documented because the handler takes it, or because it is marked with what it calls itself (`api.body.calls`).

The `webhooks` section lists every request a receiver may get, with schema and example; receivers generate code from it.
Its keys are event names, with `.legacy` for the legacy format and `.legacy.{variant}` for a second legacy webhook.

Schemas of errors are as `api/errors.py` sends them, of inputs as bodies are read: their texts exclude U+0000, which
PostgreSQL cannot store. Every URL that matches the URL pattern is accepted; the rules accept more (addresses,
international names), which no pattern can express.
"""

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, Response
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from api.access import authenticated
from api.body import JSON, DocumentedBody
from api.serving.static_files import ListedFiles
from domain.delivery.verdict import CONTROL_HEADER, DeliveryControl
from domain.events.catalogue import CATALOGUE
from domain.events.examples import legacy_example, modern_body_schema, modern_example
from domain.urls.rules import UrlRules
from domain.wire.bodies import MAIN
from domain.wire.jsontext import dump_bytes

TITLE = "Loyalty Webhooks"
DESCRIPTION = """Delivers the events of a loyalty platform to subscribed webhooks, at least once.

Everything below `/api/{storeCode}` belongs to one store. Clients authenticate with a token of
`POST /api/admin/login_check` or with a permanent API key. Errors are checked in this order: 401, 404 of the store, 403,
404 of the object, 413, 400 with at most 20 problems.

An event, and each body below 1 MiB, has at most 10,000 values; a number has at most 1,000 digits."""
HERE = Path(__file__).parent
FIXED: Mapping[str, Any] = json.loads((HERE / "fixed.json").read_text())
"""Parts of the document that are written by hand: tags, security schemes, errors, and the headers of deliveries.

`examples` has the request body of each operation that takes one, by the operation's id.
"""
NAMED_SCHEMAS = ("properties", "$defs", "patternProperties")
FASTAPI_VALIDATION = ("HTTPValidationError", "ValidationError")
_SCHEMA_NAMES = {400: "ValidationFailed", 401: "Unauthorised", 409: "Conflict"}
_HEADERS: dict[int, tuple[str, str, dict[str, Any]]] = {
    401: ("WWW-Authenticate", "Authentication scheme.", {"type": "string"}),
    429: ("Retry-After", "Seconds.", {"type": "integer"}),
    503: ("Retry-After", "Seconds.", {"type": "integer"}),
}


DESCRIPTIONS: Mapping[int, str] = {
    200: "Success.",
    202: "Accepted: it is carried out in the background.",
    204: "Done.",
    400: "Invalid: `errors` has the path and the reason of each field. A repeat has the same result.",
    401: "No credentials, or none that are valid.",
    403: "The credentials lack the right.",
    404: "No such store or object, or one that the credentials may not enter.",
    409: "In conflict with what is stored, so nothing was changed.",
    413: "The body, or an event in it, is too large or has too many values.",
    429: "Too many attempts: repeat the request after `Retry-After`.",
    503: "Not done, because a server behind the API is away or busy: repeat the request after `Retry-After`.",
}
"""Descriptions of responses by status, unless a route has its own."""


def error_response(code: int) -> dict[str, Any]:
    """Return the response object of an error with this status."""
    name = _SCHEMA_NAMES.get(code, "Error")
    response: dict[str, Any] = {
        "description": DESCRIPTIONS[code],
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }
    if code in _HEADERS:
        header, description, schema = _HEADERS[code]
        response["headers"] = {header: {"description": description, "schema": schema}}
    return response


SCHEMA_REFERENCE = "#/components/schemas/{model}"
WITHOUT_NUL = r"^[^\u0000]*$"
CLOSED_TEXT = frozenset({"enum", "const", "format", "pattern"})


def input_schemas(
    models: Collection[type[BaseModel]],
) -> tuple[Mapping[type[BaseModel], dict[str, Any]], dict[str, Any]]:
    """Return a reference to each model of a body, and the referenced schemas by name."""
    ordered = sorted(models, key=lambda model: model.__name__)
    references, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=SCHEMA_REFERENCE
    )
    schemas = {name: _as_read(schema) for name, schema in definitions.get("$defs", {}).items()}
    return {model: references[(model, "validation")] for model in ordered}, schemas


def _as_read(schema: Any) -> Any:
    """Return the schema with free texts and names restricted to those that the parser accepts."""
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    for keyword, value in schema.items():
        if keyword in ("properties", "patternProperties", "$defs"):
            result[keyword] = {name: _as_read(child) for name, child in value.items()}
        elif keyword in ("items", "additionalProperties", "then", "else"):
            result[keyword] = _as_read(value)
        elif keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
            result[keyword] = [_as_read(child) for child in value]
    if schema.get("type") == "string" and not CLOSED_TEXT & schema.keys():
        result["pattern"] = WITHOUT_NUL
    if schema.get("additionalProperties", False) is not False:
        result.setdefault("propertyNames", {"pattern": WITHOUT_NUL})
    return result


URL_MODELS = ("SubscriptionCreate", "SubscriptionEntry", "SubscriptionUpdate")
"""Input models with a field `url`, which gets the URL pattern."""

_NO_LOCAL_NAME = r"(?![^/?:]*\.(?:localdomain|localhost|internal)(?:[/?:]|$))"
_HOST = _NO_LOCAL_NAME + r"(?:[a-z0-9]{1,20}(?:-[a-z0-9]{1,20})?\.){1,4}[a-z]{2,20}"
_CHARACTER = r"[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2}"
_PATH = rf"(?:/(?:{_CHARACTER})*)*"
_QUERY = rf"(?:\?(?:{_CHARACTER}|[/?])*)?"


def url_pattern(rules: UrlRules) -> str:
    """Return the URL pattern, valid in ECMA 262 and in Python."""
    scheme = "https?" if rules.allow_http else "https"
    port = "(?::[1-9][0-9]{0,3})?"
    if rules.allowed_ports is not None:
        # A URL may omit the scheme's default port only if that port is allowed.
        others = "|".join(str(number) for number in sorted(rules.allowed_ports))
        port = f"(?::(?:{others}))" + ("?" if {443} <= rules.allowed_ports and not rules.allow_http else "")
    return f"^{scheme}://{_HOST}{port}{_PATH}{_QUERY}$"


def build(app: FastAPI, rules: UrlRules) -> dict[str, Any]:
    """Return the document. `rules` determine the URLs documented as accepted."""
    document = get_openapi(
        title=TITLE,
        version=version("loyalty-webhooks"),
        openapi_version="3.1.0",
        description=DESCRIPTION,
        tags=FIXED["tags"],
        routes=app.routes,
        separate_input_output_schemas=app.separate_input_output_schemas,
    )
    operations = list(_operations(app, document))
    models = {call.model for _, _, calls in operations for call in calls if isinstance(call, DocumentedBody)}
    references, schemas = input_schemas(models)
    document["webhooks"] = event_webhooks()
    components = document.setdefault("components", {})
    known = components.setdefault("schemas", {})
    for name in FASTAPI_VALIDATION:
        known.pop(name, None)
    for name, schema in {**schemas, **FIXED["components"]["schemas"]}.items():
        if known.setdefault(name, schema) != schema:
            raise ValueError(f"two different schemas are named {name}; rename one of the models")
    components["securitySchemes"] = FIXED["components"]["securitySchemes"]
    for route, operation, calls in operations:
        _complete(route, operation, calls, references)
    for name in URL_MODELS:
        known[name]["properties"]["url"]["pattern"] = url_pattern(rules)
    known["OAuth2Authentication"]["properties"]["tokenUrl"]["pattern"] = url_pattern(rules)
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


def _operations(app: FastAPI, document: dict[str, Any]) -> Iterator[tuple[APIRoute, dict[str, Any], list[Any]]]:
    """Yield each route with its operation object and the dependencies of its handler."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        calls = list(dependencies(route.dependant))
        for method in route.methods or ():
            yield route, document["paths"][context.path_format][method.lower()], calls


def dependencies(dependant: Dependant) -> Iterator[Any]:
    """Yield every dependency of a handler, in the order of resolution, then those that it `calls` itself."""
    for child in dependant.dependencies:
        yield from dependencies(child)
        yield child.call
    yield from getattr(dependant.call, "calls", ())


def _complete(
    route: APIRoute,
    operation: dict[str, Any],
    calls: list[Any],
    references: Mapping[type[BaseModel], dict[str, Any]],
) -> None:
    operation["operationId"] = to_camel(
        route.name
    )  # clients name methods after it: a handler's name is part of the API
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI adds 422; this API answers invalid requests with 400
    for call in calls:
        for code in getattr(call, "refuses", ()):
            responses.setdefault(str(code), {})
        if hasattr(call, "parameters"):
            operation.setdefault("parameters", []).extend(call.parameters())
        if isinstance(call, DocumentedBody):
            operation["requestBody"] = call.request_body(references[call.model])
            operation["requestBody"]["content"][JSON]["example"] = FIXED["examples"][operation["operationId"]]
        if call is authenticated:
            operation["security"] = [{scheme: []} for scheme in FIXED["components"]["securitySchemes"]]
    for code, response in responses.items():
        if response.get("description") in (None, "Successful Response", HTTPStatus(int(code)).phrase):
            response["description"] = DESCRIPTIONS[int(code)]
        if int(code) >= 400 and "content" not in response:
            response.update(error_response(int(code)) | response)
    operation["responses"] = dict(sorted(responses.items()))


def event_webhooks() -> dict[str, Any]:
    """Return path items by name. Serialise them with `domain.wire.jsontext`, which keeps exact numbers of examples."""
    items = {}
    for event_type in CATALOGUE.values():
        name, description, form = event_type.name, event_type.description, event_type.legacy
        items[name] = _path_item(name, description, modern_body_schema(event_type), modern_example(event_type))
        if form is None:
            continue
        for variant in (MAIN,) if form.second is None else (MAIN, form.second.variant):
            legacy_name = f"{name}.legacy" if variant == MAIN else f"{name}.legacy.{variant}"
            schema, example = event_type.legacy_schema(variant), legacy_example(event_type, variant)
            items[legacy_name] = _path_item(legacy_name, f"{description} Legacy format.", schema, example)
    return items


CONTROL = {
    CONTROL_HEADER: {
        "description": "`disable`: the webhook is disabled. `abort-message`: this delivery is not sent again.",
        "schema": {"type": "string", "enum": list(DeliveryControl)},
    }
}
"""Delivery control: the header of a response by which a receiver ends deliveries."""


def _path_item(name: str, description: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {
        "post": {
            "operationId": f"receive{name.replace('.', '_')}",
            "summary": name,
            "description": description,
            "tags": ["webhooks"],
            "security": [],
            "parameters": [*FIXED["signatureHeaders"], FIXED["testHeader"]],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
            "responses": {
                "2XX": {"description": "Delivered. The log stores the beginning of the body.", "headers": CONTROL},
                "410": {"description": "Gone permanently: the webhook is disabled."},
                "4XX": {"description": "Failed: retried by the webhook's schedule.", "headers": CONTROL},
                "default": {"description": "Failed: retried by the webhook's schedule."},
            },
        }
    }


# `unsafe-inline` is needed for styles only: Swagger UI sets them on its elements.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)

SERVED = ("docs.js", "favicon.png", "swagger-ui.css", "swagger-ui-bundle.js")
"""Files that the page loads: of fastapi-offline, and a script of our own, because the policy forbids inline scripts."""


def add_docs(app: FastAPI, rules: UrlRules) -> None:
    """Serve the document and its page without authentication: they contain no data of a store.

    Swagger UI comes from an installed package; the page loads nothing of other origins.
    """
    written: list[bytes] = []
    writing = asyncio.Lock()

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_document() -> Response:
        """Return the OpenAPI 3.1 document."""
        async with writing:  # the document takes a second or two of CPU: the first request builds it for all
            if not written:
                # dump_bytes keeps the exact numbers of the examples.
                written.append(dump_bytes(await asyncio.to_thread(build, app, rules)))
        return Response(written[0], media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs_page() -> Response:
        """Return the page with Swagger UI."""
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Frame-Options": "DENY"}
        return FileResponse(HERE / "docs.html", headers=headers)

    app.mount("/docs/assets", ListedFiles("fastapi_offline", HERE, SERVED), name="docs-assets")
