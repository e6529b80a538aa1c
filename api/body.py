"""Bodies: read raw and bounded, parsed exactly (`domain.wire.jsontext`), validated in Python mode, errors with exact
paths.

FastAPI's own body parameters are not used: its reader takes NaN and repeated keys and turns numbers into floats.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from api.errors import Problem, TooLarge, ValidationFailed, invalid
from domain.wire.jsontext import JsonTextError, JsonValue, parse

M = TypeVar("M", bound=BaseModel)

SMALL_BODY_BYTES = 128 * 1024  # the largest subscription: 20 headers of 4 KiB, escaped
MOST_PROBLEMS = 100  # an answer stays readable, and bounded


class Input(BaseModel):
    """Base of what is sent to the API: camelCase names, no unknown fields, no conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, frozen=True)


class Output(BaseModel):
    """Base of what the API answers: camelCase names. A field with a default may be left out of an answer, no other."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


WHOLE = BeforeValidator(_whole)
"""Beside `int`, behind its bounds: a whole number by value, as in JSON Schema: `10.0` is one."""


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body; raises TooLarge as soon as there is more than the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit_bytes:
        raise TooLarge(limit_bytes)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise TooLarge(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def parse_body(raw: bytes, wrapper: str | None = None) -> JsonValue:
    """The body's JSON value, without its wrapper; raises ValidationFailed."""
    try:
        value = parse(raw)
    except JsonTextError as error:
        inside = error.path.removeprefix(wrapper).removeprefix(".") if wrapper else error.path
        raise invalid(inside, "invalid_json", error.message) from error
    return value if wrapper is None else unwrap(value, wrapper)


def unwrap(value: JsonValue, wrapper: str) -> JsonValue:
    """What stands in `{"wrapper": …}`; raises ValidationFailed when there is anything else."""
    if not isinstance(value, dict):
        raise invalid("", "model_type", f'must be an object of the form {{"{wrapper}": {{…}}}}')
    problems = [Problem(str(name), "extra_forbidden", "unknown field") for name in value if name != wrapper]
    if wrapper not in value:
        problems.insert(0, Problem(wrapper, "missing", "is required"))
    if problems:
        raise ValidationFailed(problems[:MOST_PROBLEMS])
    return value[wrapper]


def validate(model: type[M], value: JsonValue, path: str = "") -> M:
    """The value as that model; raises ValidationFailed with every problem, each path below `path`."""
    try:
        return model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ValidationFailed(
            problem_of({**details}, path) for details in error.errors(include_url=False)[:MOST_PROBLEMS]
        ) from None


_WORDS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "unknown field",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "list_type": "must be an array",
    "model_type": "must be an object",
    "dict_type": "must be an object",
}
_LIMITS: Mapping[str, str] = {
    "too_short": "must have {min_length} entries at least",
    "too_long": "must have {max_length} entries at most",
    "string_too_short": "must have {min_length} characters at least",
    "string_too_long": "must have {max_length} characters at most",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
}
"""With the limit that pydantic found passed."""


def problem_of(details: Mapping[str, Any], path: str = "") -> Problem:
    """One of pydantic's errors in the contract's form; its input is not repeated, since it may be a secret."""
    steps = [path] if path else []
    steps += [str(step) for step in details["loc"]]
    kind: str = details["type"]
    limits = details.get("ctx", {})
    if kind in _LIMITS:
        message = "must not be empty" if limits.get("min_length") == 1 else _LIMITS[kind].format_map(limits)
    else:
        message = _WORDS.get(kind) or str(details["msg"]).removeprefix("Value error, ")
    return Problem(".".join(steps), kind, message)


@dataclass(frozen=True, eq=False)
class JsonBody(Generic[M]):
    """A dependency: the body as a model, out of its wrapper; listed after the right and after what finds the object."""

    model: type[M]
    wrapper: str | None = None
    limit_bytes: int = SMALL_BODY_BYTES
    refuses = (400, 413)

    async def __call__(self, request: Request) -> M:
        """Raises ValidationFailed or TooLarge."""
        return validate(self.model, parse_body(await read_body(request, self.limit_bytes), self.wrapper))

    def models(self) -> Iterator[type[BaseModel]]:
        """Models whose schemas the documentation needs."""
        yield self.model

    def request_body(self, references: Mapping[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
        """The OpenAPI request body; `references` gives the schema of each of `models`."""
        schema = references[self.model]
        if self.wrapper is not None:
            schema = {
                "type": "object",
                "properties": {self.wrapper: schema},
                "required": [self.wrapper],
                "additionalProperties": False,
            }
        return {"required": True, "content": {"application/json": {"schema": schema}}}
