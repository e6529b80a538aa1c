"""The schemas of what is sent, as every body is read: no text holds U+0000, which PostgreSQL cannot store."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

SCHEMA_REFERENCE = "#/components/schemas/{model}"
WITHOUT_NUL = r"^[^\u0000]*$"
CLOSED_TEXT = frozenset({"enum", "const", "format", "pattern"})
ANNOTATIONS = frozenset({"title", "description"})
"""Keywords that say nothing of what is allowed: a schema of these alone allows everything."""

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
    """A reference to each model that bodies are validated with, and the schemas these refer to."""
    ordered = sorted(models, key=lambda model: model.__name__)
    references, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=SCHEMA_REFERENCE
    )
    schemas = {name: _as_read(schema) for name, schema in definitions.get("$defs", {}).items()}
    return {model: references[(model, "validation")] for model in ordered}, {**schemas, FREE: FREE_SCHEMA}


def _as_read(schema: Any) -> Any:
    """The schema with its free texts, names and values held to what is read."""
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
