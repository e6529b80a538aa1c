"""The published contract, as the file beside this says it, and what checks values against it."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import extend

from domain.wire.jsontext import parse

_FILE = Path(__file__).with_name("modern-events.json")
EVENTS: dict[str, dict[str, Any]] = parse(_FILE.read_bytes())["events"]  # type: ignore[index,call-overload,assignment]
"""By event name: `seed`, and `data`, the JSON Schema of its modern data."""


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _is_integer(_: Any, value: Any) -> bool:
    return _is_number(_, value) and value == Decimal(value).to_integral_value()


_ExactValidator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many({"number": _is_number, "integer": _is_integer}),
)
_FORMATS = FormatChecker(formats=["uuid", "date-time"])
"""Not `email`: the contract leaves it lenient."""

assert "date-time" in _FORMATS.checkers, "rfc3339-validator is missing: jsonschema would let any date pass"


def errors_against(schema: dict[str, Any], value: Any) -> list[str]:
    """What JSON Schema 2020-12 says against a value read by `jsontext.parse`, formats asserted."""
    validator = _ExactValidator(schema, format_checker=_FORMATS)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def check_schema(schema: dict[str, Any]) -> None:
    """Raise when the schema itself is not one."""
    Draft202012Validator.check_schema(schema)
