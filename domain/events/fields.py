"""Field types of event data. Every field is optional; null is refused unless the type includes `| None`.

A model validates parsed JSON (`jsontext.parse`) and converts nothing: a number stays an `int` or a `Number`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    RootModel,
    StrictBool,
    StrictStr,
    WithJsonSchema,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from domain.timestamps import is_date_time
from domain.wire.jsontext import JsonValue

ABSENT: Any = Field(default=None)
"""Default of every field, which may be left out. A default is not validated, so an explicit null is still refused."""


@dataclass(frozen=True)
class _Sample:
    value: JsonValue


def sample(value: JsonValue, alias: str | None = None) -> Any:
    """Return ABSENT with the field's value in the sample of its event: `phone: Text = sample("+48500100200")`. `alias`
    is the name on the wire of a field whose name is a Python keyword."""
    field: Any = Field(default=None, alias=alias)
    field.metadata.append(_Sample(value))
    return field


def sample_of(type_: Any, **changes: JsonValue) -> Any:
    """Return an object of the model, or a list of one, with the samples of its fields; `changes` replaces some. Raises
    TypeError for a field that has no sample and is not made of models with samples."""
    if not (isinstance(type_, type) and issubclass(type_, BaseModel)):
        if not get_args(type_):
            raise TypeError(f"a field of type {type_} needs a sample")
        made = sample_of(get_args(type_)[0])
        return [made] if get_origin(type_) is list else made
    made = {field.alias or name: _sample_of_field(field) for name, field in type_.model_fields.items()} | changes
    return made["root"] if issubclass(type_, RootModel) else made


def _sample_of_field(field: FieldInfo) -> JsonValue:
    given = [mark.value for mark in field.metadata if isinstance(mark, _Sample)]
    return given[0] if given else sample_of(field.annotation)


class Data(BaseModel):
    """Base of all event data. Fields have their names on the wire; unknown fields are refused.

    A model is built at its first use: most processes validate few events or none, and start sooner.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)


@dataclass(frozen=True)
class _Mark:
    """Annotation of a field beside its type; shown as the description in its JSON Schema."""

    description: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "description": self.description}


LEGACY_ONLY = _Mark("Used by the legacy body only, never part of a modern one.")
SECRET = _Mark("Secret: whole on the wire to receivers, masked everywhere else.")


class _NumberType:
    """Validator that passes an `int` or Decimal unchanged; a bool is no number, and text is not converted."""

    def __init__(self, json_type: str, article: str, accepts: Callable[[Decimal], bool]) -> None:
        self._json_type = json_type
        self._accepts = accepts
        self._error = f"not_{article}_{json_type}"
        self._message = f"must be {article} {json_type}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        exact = core_schema.no_info_after_validator_function(self._check, core_schema.is_instance_schema(Decimal))
        return core_schema.union_schema(
            [core_schema.int_schema(strict=True), exact],
            mode="left_to_right",
            custom_error_type=self._error,
            custom_error_message=self._message,
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": self._json_type}

    def _check(self, value: Decimal) -> Decimal:
        if not self._accepts(value):
            raise PydanticCustomError("wrong_number", "wrong number")
        return value


UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _checked(accepts: Callable[[str], object], code: str, message: str) -> AfterValidator:
    def check(text: str) -> str:
        if not accepts(text):
            raise PydanticCustomError(code, message)
        return text

    return AfterValidator(check)


Text = StrictStr
Flag = StrictBool
Uuid = Annotated[
    StrictStr,
    _checked(UUID_TEXT.fullmatch, "not_a_uuid", "must be a UUID such as 3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b"),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]
DateTime = Annotated[
    StrictStr,
    _checked(is_date_time, "not_a_date_time", "must be a date-time with an offset such as 2026-01-02T03:04:05+01:00"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Email = Annotated[StrictStr, WithJsonSchema({"type": "string", "format": "email"})]
"""The format is declared in the schema but not validated: the platform has accepted unusual addresses of members."""
Amount = Annotated[Decimal, _NumberType("number", "a", Decimal.is_finite)]
Integer = Annotated[Decimal, _NumberType("integer", "an", lambda value: value == value.to_integral_value())]
"""Whole numbers by value, as in JSON Schema: 2.0 and 1E+2 are integers."""
Free = Any
"""Any JSON value, null included."""


def json_type(value: Any) -> str | None:
    """Return the tag of a union's member by JSON type; in brackets, so that no field name equals it."""
    names = ((str, "<string>"), (dict, "<object>"), (list, "<array>"))
    return next((name for type_, name in names if isinstance(value, type_)), None)
