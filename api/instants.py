"""Instants in bodies and queries: date-times with an offset, read exactly or rejected."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from domain.timestamps import is_date_time


def read_instant(text: str) -> datetime:
    """Return the instant in UTC, as it is stored. Raises ValueError with a message for people."""
    if not is_date_time(text):
        raise ValueError("must be a date-time with an offset, such as 2026-01-02T03:04:05+01:00")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is outside the years 0001 to 9999 in UTC") from None


def _validate(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("not_a_date_time", "must be a date-time with an offset, as a string")
    try:
        return read_instant(value)
    except ValueError as error:
        raise PydanticCustomError("not_a_date_time", "{message}", {"message": str(error)}) from None


Instant = Annotated[
    datetime, BeforeValidator(_validate), WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation")
]
