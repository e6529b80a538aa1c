"""Ids in paths. Text that is no UUID is treated as an unknown id: 404."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Path

from api.errors import NotFound
from domain.events.fields import UUID_TEXT


def is_id(text: str) -> bool:
    """Return True if the text has the form of a UUID."""
    return UUID_TEXT.fullmatch(text) is not None


def checked_id(text: str) -> UUID:
    """Return the id. Raises ValueError with a message for people."""
    if not is_id(text):
        raise ValueError("must be a UUID")
    return UUID(text)


def parse_id(text: str) -> UUID:
    """Return the id of the path. Raises NotFound."""
    try:
        return checked_id(text)
    except ValueError:
        raise NotFound from None


def id_path(alias: str, description: str) -> Any:
    """Return a path parameter that is documented as a UUID; the handler reads it with `parse_id`."""
    return Path(alias=alias, description=description, json_schema_extra={"format": "uuid"})


MessageIdPath = Annotated[str, id_path("messageId", "Id of the delivery.")]
