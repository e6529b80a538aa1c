"""Hypothesis strategies: any data an event takes, drawn from the schema its model gives, and any JSON at all."""

from typing import Any

from hypothesis import strategies as st

from domain.events.catalogue import CATALOGUE, EventType
from domain.wire.jsontext import JsonValue, Number

event_types = st.sampled_from(list(CATALOGUE.values()))

ODD_NUMBERS = [
    *("80", "80.5", "80.0", "-0", "-0.0", "0E+5", "1E+2", "1e-7", "2.50", "0.005", "-0.005", "120.505"),
    *("9007199254740993", "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890"),
    *("0.123456789012345678901234567890", "12345678901234567890.10", "1E+999", "-1.5e-998"),
]
ODD_INTEGERS = ["-0", "2.0", "1E+2", "-3", "123456789012345678901234567890", "1E+999"]
ODD_TEXTS = ["", " ", "🙂👩‍👩‍👧", "مرحبا بالعالم", "שלום", '"\\/\b\f\n\r\t', "\u2028\x7f", "zażółć gęślą jaźń", "𝔘𐍈"]

texts = st.sampled_from(ODD_TEXTS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20
)
ints = st.integers(min_value=-(2**63), max_value=2**63 - 1)
_decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40).map(
    lambda value: Number(str(value))
)
numbers = st.sampled_from(ODD_NUMBERS).map(Number) | ints | _decimals
integers = st.sampled_from(ODD_INTEGERS).map(Number) | ints

_offsets = st.sampled_from(["Z", "+00:00", "-00:00", "+02:00", "-09:30", "+05:45", "+14:00", "-23:59", "+23:59"])
_fractions = st.sampled_from(["", ".5", ".000", ".999999999999"])
date_times = st.builds(
    lambda wall, fraction, offset: f"{wall.replace(microsecond=0).isoformat()}{fraction}{offset}",
    st.datetimes(),
    _fractions,
    _offsets,
)

any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=6,
)


def data_of(event_type: EventType) -> st.SearchStrategy[JsonValue]:
    """Data to emit the event takes: each field given or not."""
    return values_of(event_type.schema())


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of the JSON Schema, as far as the catalogue's schemas use the language."""
    if "anyOf" in schema:
        return st.one_of([values_of(choice) for choice in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    if "properties" in schema:
        return st.fixed_dictionaries({}, optional={k: values_of(v) for k, v in schema["properties"].items()})
    if "items" in schema:
        return st.lists(values_of(schema["items"]), max_size=3)
    return _BY_FORMAT[schema["format"]] if schema.get("format") in _BY_FORMAT else _BY_TYPE[schema.get("type")]


_BY_FORMAT: dict[str, st.SearchStrategy[Any]] = {"uuid": st.uuids().map(str), "date-time": date_times}
_BY_TYPE: dict[str | None, st.SearchStrategy[Any]] = {
    "string": texts,
    "number": numbers,
    "integer": integers,
    "boolean": st.booleans(),
    "null": st.none(),
    "object": st.dictionaries(texts, any_json, max_size=3),
    None: any_json,
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value in a JSON value, its own first."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, child in children for place in places(child, (*path, step)))]


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy with `new` at the path."""
    if not path:
        return new
    step, *rest = path
    copy = value.copy()
    copy[step] = replaced(value[step], tuple(rest), new)
    return copy
