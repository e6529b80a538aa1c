"""Ids in paths: what is no UUID names nothing, so it is a 404 as every unknown id is."""

import re
from typing import Any
from uuid import UUID

from fastapi import Path

from api.errors import NotFound

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_id(text: str) -> bool:
    """Whether it has the form of our ids."""
    return _UUID.fullmatch(text) is not None


def parse_id(text: str) -> UUID:
    """The id of the path; raises NotFound."""
    if not is_id(text):
        raise NotFound
    return UUID(text)


def id_path(alias: str, description: str) -> Any:
    """A path parameter that is documented as a UUID and read by `parse_id`."""
    return Path(alias=alias, description=description, json_schema_extra={"format": "uuid"})
