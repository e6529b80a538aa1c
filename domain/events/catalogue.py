"""Catalogue of all events by name: validate event data, find similar names, find and mask secrets."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from domain.events import families
from domain.events.event_type import EACH, EventType
from domain.wire.excerpts import MASK
from domain.wire.jsontext import JsonValue, dump, join

MAX_ERRORS = 20
"""Maximum errors in one answer. A wrong field in each of a thousand items is a single mistake."""

MAX_NAME = 100
"""Maximum length of a name to compare: comparing takes time, and a longer text is no mistyped name."""


def _collect() -> Mapping[str, EventType]:
    """Return every EventType in the modules of `domain/events/families/` by name. Raises ValueError for a repeated
    name."""
    found: dict[str, EventType] = {}
    for module_info in pkgutil.iter_modules(families.__path__):
        module = importlib.import_module(f"{families.__name__}.{module_info.name}")
        for event_type in vars(module).values():
            if not isinstance(event_type, EventType):
                continue
            if found.setdefault(event_type.name, event_type) is not event_type:
                raise ValueError(f"two events are named {event_type.name}; one of them is in {module.__name__}")
    return dict(sorted(found.items()))


CATALOGUE: Mapping[str, EventType] = _collect()


@dataclass(frozen=True)
class FieldError:
    """Error at one path of the data.

    `path` is dotted, and empty for the data as a whole. `code` is one of a closed list, which is part of the API:
    `unknown_field`, `null_not_allowed`, `not_a_string`, `not_a_number`, `not_an_integer`, `not_a_boolean`,
    `not_an_object`, `not_an_array`, `not_one_of`, `not_a_uuid`, `not_a_date_time`, `wrong_type`.
    """

    path: str
    code: str
    message: str


_CODES: Mapping[str, tuple[str, str]] = {
    "extra_forbidden": ("unknown_field", "is not a field of this event"),
    "string_type": ("not_a_string", "must be a string"),
    "string_unicode": ("not_a_string", "must be a string without lone surrogates"),
    "bool_type": ("not_a_boolean", "must be true or false"),
    "list_type": ("not_an_array", "must be an array"),
    "model_type": ("not_an_object", "must be an object"),
    "model_attributes_type": ("not_an_object", "must be an object"),
    "dict_type": ("not_an_object", "must be an object"),
    "literal_error": ("not_one_of", "must be one of {expected}"),
}
"""Code and message for each error type of pydantic. Errors raised in `domain/events/fields.py` have a code already."""


def validate_data(event_type: EventType, data: JsonValue, allow_unknown: bool = False) -> list[FieldError]:
    """Return the errors in the data to emit, by path; empty if the data is valid.

    `data` is the parsed value (`jsontext.parse`). `allow_unknown` accepts fields that are not in the catalogue.
    At most MAX_ERRORS errors are returned.
    """
    try:
        event_type.model.__pydantic_validator__.validate_python(data, extra="allow" if allow_unknown else "forbid")
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        return [_field_error(detail, data) for detail in details[:MAX_ERRORS]]
    return []


def _field_error(detail: ErrorDetails, data: JsonValue) -> FieldError:
    path = _path(detail["loc"], data)
    if detail["input"] is None and detail["type"] != "extra_forbidden":
        return FieldError(path, "null_not_allowed", "must not be null" + ("; leave it out instead" if path else ""))
    code, message = _CODES.get(detail["type"], (detail["type"], detail["msg"]))
    return FieldError(path, code, message.format(**detail.get("ctx", {})))


def _path(steps: tuple[int | str, ...], data: Any) -> str:
    """Return the dotted path, without the tags that pydantic adds for the selected member of a union."""
    path = ""
    for step in steps:
        try:
            data = data[step]
        except (KeyError, TypeError):
            continue
        path = join(path, step)
    return path


def nearest_name(name: str) -> str | None:
    """Return the event name that was probably meant, or None."""
    if len(name) > MAX_NAME:
        return None
    by_lower = {known.lower(): known for known in CATALOGUE}
    matches = difflib.get_close_matches(name.strip().lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def has_secrets(event_type: EventType, data: JsonValue) -> bool:
    """Return True if the data contains a secret; a null is none."""
    return any(_holds(data, path) for path in event_type.secrets)


def secrets_in(event_type: EventType, data: JsonValue) -> list[str]:
    """Return the secrets in the data, as they are written on the wire but without quotes."""
    return [
        value if isinstance(value, str) else dump(value)
        for path in event_type.secrets
        for value in _at(data, path)
        if value is not None
    ]


def mask_secrets(event_type: EventType, data: JsonValue) -> JsonValue:
    """Return the data with each secret as `•••`. The argument is unchanged and shares parts without secrets."""
    for path in event_type.secrets:
        data = _masked(data, path)
    return data


def _holds(data: JsonValue, path: tuple[str, ...]) -> bool:
    if not path:
        return data is not None
    if path[0] == EACH:
        return isinstance(data, list) and any(_holds(entry, path[1:]) for entry in data)
    return isinstance(data, dict) and _holds(data.get(path[0]), path[1:])


def _at(data: Any, path: tuple[str, ...]) -> Iterator[JsonValue]:
    if not path:
        yield data
    elif path[0] == EACH:
        for entry in data if isinstance(data, list) else ():
            yield from _at(entry, path[1:])
    elif isinstance(data, dict):
        yield from _at(data.get(path[0]), path[1:])


def _masked(data: Any, path: tuple[str, ...]) -> JsonValue:
    if not _holds(data, path):
        return data  # type: ignore[no-any-return]
    if not path:
        return MASK
    if path[0] == EACH:
        return [_masked(entry, path[1:]) for entry in data]
    return {**data, path[0]: _masked(data[path[0]], path[1:])}
