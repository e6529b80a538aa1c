"""Legacy form of an event, written as the shape of its body: keys in order, each with the source of its value.

    LegacyForm("customer.updated", {"customerId": text("customer.customerId")})

A dict is an object, `[{…}]` an array of one entry, `each(path, {…})` an array with one entry for each of the list at
the path. Paths are dotted and start at the data to emit, or inside `each` at the list's entry. Rendering never raises:
a missing or null field gives null (or the named empty value), a field of an unexpected type is copied unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any, TypeAlias

from domain.timestamps import local_iso, unix_seconds
from domain.wire.jsontext import WIDE, JsonValue, Number


@dataclass(frozen=True)
class LegacySource:
    """Source of one legacy body: the data, the event's store and that store's time zone."""

    data: JsonValue
    store_code: str
    zone: tzinfo


class Conversion(StrEnum):
    """Conversion of a value for a legacy body."""

    AS_IT_IS = "as_it_is"
    PLAIN_NUMBER = "plain_number"
    WITHOUT_SIGN = "without_sign"
    ROUNDED = "rounded"
    LOCAL_TIME = "local_time"
    UNIX_TIME = "unix_time"
    FIRST_TRUE = "first_true"
    STORE_CODE = "store_code"


@dataclass(frozen=True)
class Leaf:
    """One value of a legacy body: its function, its JSON Schema, its paths in the data and its conversion."""

    value: Callable[[LegacySource], JsonValue]
    schema: Mapping[str, Any]
    paths: tuple[tuple[str, ...], ...]
    conversion: Conversion


@dataclass(frozen=True)
class Each:
    """An array with one entry for each entry of the list at `path`; `[]` without a list."""

    path: tuple[str, ...]
    entry: Mapping[str, Shape]


@dataclass(frozen=True)
class UnlessEmpty:
    """An object whose key is omitted if all its values are null or empty."""

    members: Mapping[str, Shape]


Shape: TypeAlias = "Leaf | Each | UnlessEmpty | Mapping[str, Shape] | Sequence[Mapping[str, Shape]]"


@dataclass(frozen=True)
class SecondWebhook:
    """A second webhook of the same event, sent if the data's field `when` is true."""

    variant: str
    when: str
    type: str
    data: Shape


@dataclass(frozen=True)
class LegacyForm:
    """Envelope `{"type", "data"}`; `created_at` adds the event's `createdAt` between the two."""

    type: str
    data: Shape
    created_at: bool = False
    second: SecondWebhook | None = None


_Convert: TypeAlias = Callable[[JsonValue, LegacySource], JsonValue]


def _leaf(path: str, schema: Mapping[str, Any], conversion: Conversion, convert: _Convert) -> Leaf:
    """Return a leaf with the value at `path`, or None, converted."""
    steps = _steps(path)
    return Leaf(lambda source: convert(find(source.data, steps), source), schema, (steps,), conversion)


def text(path: str, none: str | None = None) -> Leaf:
    """Return a leaf with the text at `path`, or `none` if it is missing or null."""
    schema = {"type": ["string", "null"] if none is None else "string"}
    return _leaf(path, schema, Conversion.AS_IT_IS, lambda found, _: none if found is None else found)


def texts(*names: str, within: str | None = None) -> dict[str, Shape]:
    """Return members with the texts of the same names, at the top of the data or in the object at the path `within`."""
    return {name: text(name if within is None else f"{within}.{name}") for name in names}


def flag(path: str) -> Leaf:
    """Return a leaf with the boolean at `path`, or null."""
    return _leaf(path, {"type": ["boolean", "null"]}, Conversion.AS_IT_IS, lambda found, _: found)


def free(path: str) -> Leaf:
    """Return a leaf with any JSON value at `path`, its numbers as legacy prints them."""
    return _leaf(path, {}, Conversion.PLAIN_NUMBER, lambda found, _: _plain_numbers(found))


def number(path: str, *, absolute: bool = False, decimals: int | None = None) -> Leaf:
    """Return a leaf with the exact number at `path`; unsigned if `absolute`, rounded half up to `decimals` if given."""

    def convert(found: JsonValue, _: LegacySource) -> JsonValue:
        if isinstance(found, bool) or not isinstance(found, int | Decimal):
            return found
        amount = Decimal(found)
        if absolute:
            amount = amount.copy_abs()
        if decimals is not None:
            amount = amount.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP, context=WIDE)
        return plain_number(amount)

    unsigned = Conversion.PLAIN_NUMBER if decimals is None else Conversion.ROUNDED
    return _leaf(path, {"type": ["number", "null"]}, Conversion.WITHOUT_SIGN if absolute else unsigned, convert)


def local_time(path: str) -> Leaf:
    """Return a leaf with the date-time at `path` as ISO 8601 in the store's time zone, whole seconds."""

    def convert(found: JsonValue, source: LegacySource) -> JsonValue:
        return (local_iso(found, source.zone) or found) if isinstance(found, str) else found

    return _leaf(path, {"type": ["string", "null"], "format": "date-time"}, Conversion.LOCAL_TIME, convert)


def unix_time(path: str) -> Leaf:
    """Return a leaf with the date-time at `path` as Unix seconds."""

    def convert(found: JsonValue, _: LegacySource) -> JsonValue:
        return unix_seconds(found) if isinstance(found, str) else found

    return _leaf(path, {"type": ["integer", "null"]}, Conversion.UNIX_TIME, convert)


def first_true(choices: Mapping[str, str]) -> Leaf:
    """Return a leaf with the first key whose path is true, as in `{"up": "level.levelMoveUp", …}`, or null."""
    steps = [(name, _steps(path)) for name, path in choices.items()]

    def value(source: LegacySource) -> JsonValue:
        return next((name for name, path in steps if find(source.data, path) is True), None)

    return Leaf(value, {"enum": [*choices, None]}, tuple(path for _, path in steps), Conversion.FIRST_TRUE)


def store_code() -> Leaf:
    """Return a leaf with the code of the event's store."""
    return Leaf(lambda source: source.store_code, {"type": "string"}, (), Conversion.STORE_CODE)


def each(path: str, entry: Mapping[str, Shape]) -> Each:
    return Each(_steps(path), entry)


def render(shape: Shape, source: LegacySource) -> JsonValue:
    """Render the part of a legacy body that `shape` describes."""
    if isinstance(shape, Leaf):
        return shape.value(source)
    if isinstance(shape, Each):
        entries = find(source.data, shape.path)
        if not isinstance(entries, list):
            return []
        return [_members(shape.entry, LegacySource(entry, source.store_code, source.zone)) for entry in entries]
    if isinstance(shape, UnlessEmpty | Mapping):
        return _members(shape.members if isinstance(shape, UnlessEmpty) else shape, source)
    return [_members(entry, source) for entry in shape]


def _members(members: Mapping[str, Shape], source: LegacySource) -> dict[str, JsonValue]:
    rendered: dict[str, JsonValue] = {}
    for key, shape in members.items():
        value = render(shape, source)
        if isinstance(shape, UnlessEmpty) and isinstance(value, dict) and not any(value.values()):
            continue
        rendered[key] = value
    return rendered


def schema(shape: Shape) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a rendered shape."""
    if isinstance(shape, Leaf):
        return dict(shape.schema)
    if isinstance(shape, Each):
        return {"type": "array", "items": schema(shape.entry)}
    if isinstance(shape, UnlessEmpty):
        return schema(shape.members)
    if isinstance(shape, Mapping):
        return {
            "type": "object",
            "properties": {key: schema(member) for key, member in shape.items()},
            "required": [key for key, member in shape.items() if not isinstance(member, UnlessEmpty)],
        }
    return {"type": "array", "items": schema(shape[0]), "minItems": len(shape), "maxItems": len(shape)}


def find(value: JsonValue, steps: Sequence[str]) -> JsonValue:
    """Return the value at the path, or None if any part of it is missing."""
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def plain_number(value: int | Decimal) -> JsonValue:
    """Return the exact number as legacy prints it: no exponent, no trailing zeros, an integer when whole."""
    if isinstance(value, int):
        return value
    plain = f"{value:f}"
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return Number("0" if plain in ("-0", "") else plain)


def _plain_numbers(value: JsonValue) -> JsonValue:
    if isinstance(value, Decimal):
        return plain_number(value)
    if isinstance(value, list):
        return [_plain_numbers(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain_numbers(member) for key, member in value.items()}
    return value


def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))
