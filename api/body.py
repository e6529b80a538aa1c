"""Request bodies: read raw with a size limit, parsed exactly (`domain.wire.jsontext`), validated in Python mode.

FastAPI's body parameters are not used: its parser accepts NaN and repeated keys, and turns numbers into floats.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from itertools import pairwise
from typing import Any, ClassVar, Generic, Self, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from api.errors import MOST_PROBLEMS, Problem, TooLarge, ValidationFailed, invalid
from domain.wire.jsontext import JsonTextError, JsonValue, parse

M = TypeVar("M", bound=BaseModel)
Handler = TypeVar("Handler", bound=Callable[..., Any])

JSON = "application/json"

LARGE_BODY_BYTES = 1024 * 1024
"""Size of a body above which it is no single object."""

SMALL_BODY_BYTES = 128 * 1024
"""Maximum body of most calls. Fits the largest subscription: 20 headers of 4 KiB, escaped."""

MOST_VALUES = 10_000
"""Maximum number of values in an event or small body. Refusing each takes 50 ms, in which nobody is answered."""

MOST_VALUES_OF_LARGE = 30_000
"""Maximum number of values in a large body. Fits 500 subscriptions with ten headers each."""


class Input(BaseModel):
    """Base of request models: camelCase names, no unknown fields, no conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, frozen=True, defer_build=True)


class Output(BaseModel):
    """Base of response models: camelCase names. Only a field with a default may be missing from a response."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, from_attributes=True, frozen=True, defer_build=True
    )

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Build the response from a stored row, a dataclass or a table's model.

        `more` are fields that the row lacks or has in another form.
        """
        stored = dict(row) if isinstance(row, BaseModel) else {one.name: getattr(row, one.name) for one in fields(row)}
        return cls(**stored | more)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


WHOLE = BeforeValidator(_whole)
"""Validator for an `int`, listed after its bounds: accepts integral values such as `10.0`, as JSON Schema does."""


def checked_by(code: str, problem_with: Callable[[Any], str | None]) -> AfterValidator:
    """Return a validator that refuses each value for which `problem_with` returns a message."""

    def check(value: Any) -> Any:
        problem = problem_with(value)
        if problem is not None:
            raise PydanticCustomError(code, "{message}", {"message": problem})
        return value

    return AfterValidator(check)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Return the whole body. Raises TooLarge as soon as it exceeds the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit_bytes:
        raise TooLarge(f"The body is larger than {limit_bytes:,} bytes.")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise TooLarge(f"The body is larger than {limit_bytes:,} bytes.")
        parts.append(part)
    return b"".join(parts)


def refuse_many_values(raw: bytes, what: str = "The body", most: int = MOST_VALUES) -> None:
    """Raise TooLarge for a JSON text of too many values, by its commas and brackets, before it is parsed."""
    if len(raw) > most and sum(map(raw.count, (b",", b"[", b"{"))) > most:
        raise TooLarge(f"{what} has more than {most:,} values.")


def parse_body(raw: bytes, wrapper: str | None = None) -> JsonValue:
    """Return the body's JSON value without its wrapper. Raises ValidationFailed or TooLarge."""
    refuse_many_values(raw, most=MOST_VALUES if len(raw) <= LARGE_BODY_BYTES else MOST_VALUES_OF_LARGE)
    try:
        value = parse(raw)
    except JsonTextError as error:
        inside = error.path.removeprefix(wrapper).removeprefix(".") if wrapper else error.path
        raise invalid(inside, "invalid_json", error.message) from error
    return value if wrapper is None else unwrap(value, wrapper)


def unwrap(value: JsonValue, wrapper: str) -> JsonValue:
    """Return the value inside `{"wrapper": …}`. Raises ValidationFailed for any other form."""
    if not isinstance(value, dict):
        raise invalid("", "model_type", f'must be an object of the form {{"{wrapper}": {{…}}}}')
    problems = [Problem(str(name), "extra_forbidden", "unknown field") for name in value if name != wrapper]
    if wrapper not in value:
        problems.insert(0, Problem(wrapper, "missing", "is required"))
    if problems:
        raise ValidationFailed(problems)
    return value[wrapper]


def validate(model: type[M], value: JsonValue, path: str = "") -> M:
    """Return the value as `model`. Raises ValidationFailed with all problems, their paths below `path`."""
    try:
        return model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ValidationFailed(
            problem_of({**details}, path) for details in error.errors(include_url=False)[:MOST_PROBLEMS]
        ) from None


_MESSAGES: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "unknown field",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "list_type": "must be an array",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "union_tag_not_found": "needs a type",
    "union_tag_invalid": "must have one of the types {expected_tags}",
    "dict_type": "must be an object",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
}
"""Message templates by pydantic's error type; pydantic supplies the limit that was exceeded."""


def problem_of(details: Mapping[str, Any], path: str = "") -> Problem:
    """Return a pydantic error in the form of the wire contract, without its input, which may be a secret."""
    steps = [path] if path else []
    # pydantic adds the type of a discriminated union, which is no field.
    steps += [str(step) for before, step in pairwise(("", *details["loc"])) if before != "authentication"]
    kind: str = details["type"]
    limits = details.get("ctx", {})
    message = str(details["msg"]).removeprefix("Value error, ")
    if kind in _MESSAGES:
        message = "must not be empty" if limits.get("min_length") == 1 else _MESSAGES[kind].format_map(limits)
    return Problem(".".join(steps), kind, message)


@dataclass(frozen=True, eq=False)
class DocumentedBody(Generic[M]):
    """Documentation of a body as `model` inside `wrapper`, and base of dependencies that read one.

    List them after the right and after the object.
    """

    model: type[M]
    wrapper: str | None = None
    required: bool = field(default=True, kw_only=True)
    refuses: ClassVar[tuple[int, ...]] = (400, 413)

    def request_body(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the OpenAPI request body, of a model with this schema."""
        if self.wrapper is not None:
            properties = {self.wrapper: schema}
            schema = {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            }
        return {"required": self.required, "content": {JSON: {"schema": schema}}}


def calls(*dependencies: object) -> Callable[[Handler], Handler]:
    """Return a decorator for a handler that calls these dependencies itself, from which its document is completed.

    FastAPI takes 30 µs for each that it calls, of 0.3 ms for an event.
    """

    def mark(handler: Handler) -> Handler:
        vars(handler)["calls"] = dependencies
        return handler

    return mark


@dataclass(frozen=True, eq=False)
class JsonBody(DocumentedBody[M]):
    """Dependency that returns the unwrapped body as a model; a missing body that is not required counts as `{}`."""

    limit_bytes: int = SMALL_BODY_BYTES

    async def __call__(self, request: Request) -> M:
        """Return the validated body. Raises ValidationFailed or TooLarge."""
        raw = await read_body(request, self.limit_bytes)
        if not raw.strip() and not self.required:
            return validate(self.model, {})
        large = len(raw) > SMALL_BODY_BYTES
        value = await asyncio.to_thread(parse_body, raw, self.wrapper) if large else parse_body(raw, self.wrapper)
        return validate(self.model, value)
