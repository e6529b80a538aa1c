"""Schemas of the OpenAPI document: error bodies as `api/errors.py` sends them, inputs as bodies are read, URLs.

Texts of inputs exclude U+0000, which PostgreSQL cannot store. Every URL that matches the URL pattern is accepted; the
rules accept more (addresses, international names), which no pattern can express.
"""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from domain.urls.rules import UrlRules

_CODE = {"type": "integer", "description": "The HTTP status code."}
_MESSAGE = {"type": "string", "description": "Message for people."}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


ERROR_SCHEMAS: dict[str, Any] = {
    "Error": _object(("code", "message"), code=_CODE, message=_MESSAGE),
    "Unauthorised": _object(("message",), code=_CODE, message=_MESSAGE),
    "Conflict": _object(
        ("code", "message"),
        code=_CODE,
        message=_MESSAGE,
        differences={"type": "array", "items": {"type": "string"}, "description": "Dotted paths of the differences."},
    ),
    "ValidationFailed": _object(
        ("code", "message", "errors"),
        code=_CODE,
        message=_MESSAGE,
        errors={"type": "array", "items": {"$ref": "#/components/schemas/FieldProblem"}, "minItems": 1},
    ),
    "FieldProblem": _object(
        ("message", "parameters", "plural", "code", "path"),
        message=_MESSAGE,
        parameters={"type": "object", "description": "Always empty."},
        plural={"type": "null"},
        code={"type": "string", "description": "Stable error code."},
        path={"type": "string", "description": "Dotted path, relative to the wrapper's content."},
    ),
}
_SCHEMA_NAMES = {400: "ValidationFailed", 401: "Unauthorised", 409: "Conflict"}
_HEADERS: dict[int, tuple[str, str, dict[str, Any]]] = {
    401: ("WWW-Authenticate", "Authentication scheme.", {"type": "string"}),
    429: ("Retry-After", "Seconds.", {"type": "integer"}),
    503: ("Retry-After", "Seconds.", {"type": "integer"}),
}


def error_response(code: int) -> dict[str, Any]:
    """Return the response object of an error with this status."""
    name = _SCHEMA_NAMES.get(code, "Error")
    response: dict[str, Any] = {
        "description": HTTPStatus(code).phrase,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }
    if code in _HEADERS:
        header, description, schema = _HEADERS[code]
        response["headers"] = {header: {"description": description, "schema": schema}}
    return response


SCHEMA_REFERENCE = "#/components/schemas/{model}"
WITHOUT_NUL = r"^[^\u0000]*$"
CLOSED_TEXT = frozenset({"enum", "const", "format", "pattern"})
ANNOTATIONS = frozenset({"title", "description"})
"""Keywords without constraints. A schema with no other keywords accepts every value."""

FREE = "JsonValue"
FREE_REFERENCE = {"$ref": SCHEMA_REFERENCE.format(model=FREE)}
FREE_SCHEMA = {
    "description": "Any JSON value.",
    "anyOf": [
        {"type": ["null", "boolean", "number"]},
        {"type": "string", "pattern": WITHOUT_NUL},
        {"type": "array", "items": FREE_REFERENCE},
        {"type": "object", "propertyNames": {"pattern": WITHOUT_NUL}, "additionalProperties": FREE_REFERENCE},
    ],
}


def input_schemas(
    models: Collection[type[BaseModel]],
) -> tuple[Mapping[type[BaseModel], dict[str, Any]], dict[str, Any]]:
    """Return a reference to each model of a body, and the referenced schemas by name."""
    ordered = sorted(models, key=lambda model: model.__name__)
    references, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=SCHEMA_REFERENCE
    )
    schemas = {name: _as_read(schema) for name, schema in definitions.get("$defs", {}).items()}
    return {model: references[(model, "validation")] for model in ordered}, {**schemas, FREE: FREE_SCHEMA}


def _as_read(schema: Any) -> Any:
    """Return the schema with free texts, names and values restricted to those that the parser accepts."""
    if schema is True:
        return FREE_REFERENCE
    if not isinstance(schema, dict):
        return schema
    if not schema.keys() - ANNOTATIONS:
        return {**schema, **FREE_REFERENCE}
    result = {keyword: _keyword_as_read(keyword, value) for keyword, value in schema.items()}
    if schema.get("type") == "string" and not CLOSED_TEXT & schema.keys():
        result["pattern"] = WITHOUT_NUL
    if schema.get("additionalProperties", False) is not False:
        result.setdefault("propertyNames", {"pattern": WITHOUT_NUL})
    return result


def _keyword_as_read(keyword: str, value: Any) -> Any:
    if keyword in ("properties", "patternProperties", "$defs"):
        return {name: _as_read(child) for name, child in value.items()}
    if keyword in ("items", "additionalProperties", "then", "else"):
        return _as_read(value)
    if keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [_as_read(child) for child in value]
    return value


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
