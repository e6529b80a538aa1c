"""Entry of the event catalogue (`domain/events/families/`, one entry per event), and the JSON Schemas made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast, get_args, get_origin

from pydantic import BaseModel, RootModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from domain.events.fields import LEGACY_ONLY, SECRET, sample_of
from domain.wire import legacy as legacy_form
from domain.wire.jsontext import JsonValue
from domain.wire.legacy import LegacyForm

EACH = "*"
"""Step of a path that stands for every entry of a list."""


@dataclass(frozen=True, eq=False)
class EventType:
    """An event that the platform emits.

    `model` validates the data to emit. `seed` marks the 17 events of a new installation, `scheduled` the events that
    schedules generate. `legacy` is None for an event without a legacy form.
    """

    name: str
    description: str
    model: type[BaseModel]
    seed: bool = False
    scheduled: bool = False
    legacy: LegacyForm | None = None

    def __post_init__(self) -> None:
        deeper = [".".join(path) for path in _marked(self.model, LEGACY_ONLY) if len(path) > 1]
        if deeper:
            raise ValueError(f"{self.name}: only fields at the top can be LEGACY_ONLY, not {', '.join(deeper)}")

    @cached_property
    def sample(self) -> JsonValue:
        """Data with every field once, from which emit samples, documentation and examples are made."""
        return cast("JsonValue", sample_of(self.model))

    @cached_property
    def legacy_only(self) -> frozenset[str]:
        """Top-level fields that only the legacy body contains."""
        return frozenset(path[0] for path in _marked(self.model, LEGACY_ONLY))

    @cached_property
    def secrets(self) -> tuple[tuple[str, ...], ...]:
        """Paths of the fields marked SECRET, with the step EACH for the entries of a list."""
        return tuple(_marked(self.model, SECRET))

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the data to emit: unknown fields refused, no references to resolve."""
        return _inlined(self.model.model_json_schema(schema_generator=_SchemaWriter))

    def modern_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a modern body's `data`: no legacy-only fields, new fields allowed."""
        schema: dict[str, Any] = _opened(self.schema())
        for name in self.legacy_only:
            del schema["properties"][name]
        return schema

    def legacy_schema(self, variant: str = "main") -> dict[str, Any]:
        """Return the JSON Schema of the whole legacy body. Raises ValueError if the event has none of that variant."""
        type_, shape, created_at = self.legacy_parts(variant)
        properties: dict[str, Any] = {"type": {"const": type_}}
        if created_at:
            properties["createdAt"] = {"type": "string", "format": "date-time"}
        properties["data"] = legacy_form.schema(shape)
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}

    def legacy_parts(self, variant: str) -> tuple[str, legacy_form.Shape, bool]:
        """Return `type`, the shape of `data`, and True with a `createdAt` between them. Raises ValueError as above."""
        form = self.legacy
        if form is not None and variant == "main":
            return form.type, form.data, form.created_at
        if form is not None and form.second is not None and variant == form.second.variant:
            return form.second.type, form.second.data, False
        raise ValueError(f"{self.name} has no legacy form {variant!r}")


def event(
    description: str, *, seed: bool = False, scheduled: bool = False, legacy: LegacyForm | None = None
) -> Callable[[type[BaseModel]], EventType]:
    """Turn the model of an event's data into the EventType of the model's name, which replaces the model."""
    return lambda model: EventType(model.__name__, description, model, seed, scheduled, legacy)


def _marked(annotation: Any, mark: object) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the fields with the mark, in models nested in lists, unions and other models too."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        steps = (EACH,) if get_origin(annotation) is list else ()
        for part in get_args(annotation):
            yield from ((*steps, *path) for path in _marked(part, mark))
        return
    for name, field in annotation.model_fields.items():
        steps = () if issubclass(annotation, RootModel) else (field.alias or name,)
        if mark in field.metadata:
            yield steps
        yield from ((*steps, *path) for path in _marked(field.annotation, mark))


class _SchemaWriter(GenerateJsonSchema):
    """Schemas in the form of the contract: no defaults (an omitted field is absent, not null), no field titles."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        # Every field is optional, so data may match several members; oneOf would refuse it.
        return {"anyOf": super().tagged_union_schema(schema)["oneOf"]}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its references replaced by their definitions, so that it can be embedded anywhere."""
    definitions: dict[str, Any] = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(entry) for entry in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            named = definitions[part["$ref"].removeprefix("#/$defs/")]
            return inline({**named, **{key: value for key, value in part.items() if key != "$ref"}})
        return {key: inline(value) for key, value in part.items()}

    inlined: dict[str, Any] = deepcopy(inline(schema))
    return inlined


def _opened(part: Any) -> Any:
    if isinstance(part, list):
        return [_opened(entry) for entry in part]
    if isinstance(part, dict):
        return {key: _opened(value) for key, value in part.items() if (key, value) != ("additionalProperties", False)}
    return part
