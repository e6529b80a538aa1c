"""Routes of API keys, which administrators of the installation list, create and revoke. A key is shown once."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BeforeValidator, Field

from api.access import FullAdmin
from api.body import JsonBody, Output
from api.errors import existing
from api.ids import id_path, parse_id
from api.keys.service import KeyCreate, make_key
from api.resources import FromResources
from storage.access.administration import end_key
from storage.access.queries import list_keys

router = APIRouter(prefix="/api/admin/api-key", tags=["access"])


class KeyCreated(Output):
    """The new key, shown only once."""

    api_key_id: UUID
    api_key: str


Sorted = Annotated[list[str], BeforeValidator(sorted)]


class KeyOut(Output):
    """An API key in a list, without the key itself."""

    api_key_id: UUID = Field(validation_alias="id")
    name: str
    scopes: Sorted
    stores: Sorted
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="Last use, to the minute.")


class KeyList(Output):
    """All keys, oldest first."""

    items: list[KeyOut]


CreateBody = Annotated[KeyCreate, Depends(JsonBody(KeyCreate, "apiKey"))]
IdPath = Annotated[str, id_path("apiKeyId", "Id of the key.")]


@router.get("", summary="List API keys")
async def list_api_keys(admin: FullAdmin, resources: FromResources) -> KeyList:
    """Return all keys, including revoked and expired ones."""
    return KeyList.model_validate({"items": await resources.database.run(list_keys)})


@router.post("", summary="Create an API key", responses={409: {}})
async def create_api_key(admin: FullAdmin, body: CreateBody, resources: FromResources) -> KeyCreated:
    """Create a key. Only this response contains it; the database stores its hash."""
    key_id, key = await resources.database.run(make_key, admin.actor, body)
    return KeyCreated(api_key_id=key_id, api_key=key)


@router.delete("/{apiKeyId}", summary="Revoke an API key", status_code=204, responses={404: {}})
async def revoke_api_key(admin: FullAdmin, key_id: IdPath, resources: FromResources) -> None:
    """Revoke a key, which stops working within a second. Revoking it again has no effect."""
    existing(await resources.database.run(end_key, admin.actor, parse_id(key_id)))
