"""The bodies of refusals, as the OpenAPI document describes them; `api/errors.py` is what sends them."""

from http import HTTPStatus
from typing import Any

_CODE = {"type": "integer", "description": "The status code again."}
_MESSAGE = {"type": "string", "description": "For people."}


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
        differences={"type": "array", "items": {"type": "string"}, "description": "Dotted paths of what differs."},
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
        code={"type": "string", "description": "A stable word."},
        path={"type": "string", "description": "Dotted, relative to inside the wrapper."},
    ),
}
_SCHEMA_NAMES = {400: "ValidationFailed", 401: "Unauthorised", 409: "Conflict"}
_HEADERS: dict[int, tuple[str, str, dict[str, Any]]] = {
    401: ("WWW-Authenticate", "The scheme.", {"type": "string"}),
    429: ("Retry-After", "Seconds.", {"type": "integer"}),
    503: ("Retry-After", "Seconds.", {"type": "integer"}),
}


def error_response(code: int) -> dict[str, Any]:
    """The response object of a refusal with this status."""
    name = _SCHEMA_NAMES.get(code, "Error")
    response: dict[str, Any] = {
        "description": HTTPStatus(code).phrase,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }
    if code in _HEADERS:
        header, description, schema = _HEADERS[code]
        response["headers"] = {header: {"description": description, "schema": schema}}
    return response
