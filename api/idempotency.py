"""Header `Idempotency-Key`: a client that got no response repeats the request without creating a second object."""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Depends, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, invalid
from storage.access.idempotency import claim_key

HEADER = "Idempotency-Key"
MOST_CHARACTERS = 255
KEY = re.compile(rf"[!-~]{{1,{MOST_CHARACTERS}}}")


class ReadIdempotencyKey:
    """Dependency that returns the idempotency key, or None without the header. List it after the body."""

    refuses = (400, 409)

    async def __call__(self, request: Request) -> str | None:
        """Return the key. Raises ValidationFailed if it is empty, too long or not visible ASCII."""
        key = request.headers.get(HEADER)
        if key is None:
            return None
        if KEY.fullmatch(key) is None:
            raise invalid(HEADER, "invalid_value", f"must be 1 to {MOST_CHARACTERS} visible ASCII characters")
        return key

    def parameters(self) -> list[dict[str, object]]:
        """Return the OpenAPI parameter object of the header."""
        schema = {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS, "pattern": "^[!-~]+$"}
        description = (
            "Unique text per object to create. A repeat with the same key and body within 24 hours returns the first "
            "response and creates nothing; a repeat with another body is a 409."
        )
        return [{"name": HEADER, "in": "header", "required": False, "schema": schema, "description": description}]


IdempotencyKey = Annotated[str | None, Depends(ReadIdempotencyKey())]


async def created_before(
    connection: AsyncConnection,
    *,
    store_code: str,
    actor: str,
    key: str | None,
    bodies: Sequence[BaseModel],
    object_id: UUID,
) -> UUID | None:
    """Claim the key for `object_id` and return None, or return the object that an earlier call with the key created.

    A default that is spelt out equals one that is omitted; the fields of a later version, which have defaults, do not
    change the comparison either. Raises Conflict if the earlier call had other bodies.
    """
    if key is None:
        return None
    given = [body.model_dump(mode="json", by_alias=True, exclude_defaults=True) for body in bodies]
    digest = sha256(b"".join(orjson.dumps(body, option=orjson.OPT_SORT_KEYS) for body in given)).digest()
    earlier = await claim_key(connection, store_code, actor, key, digest, object_id)
    if earlier is None:
        return None
    if earlier.digest != digest:
        raise Conflict(f"This {HEADER} was used before with another body; use a new key for another object.")
    return earlier.object_id
