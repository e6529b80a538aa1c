"""API keys: listed, created and revoked by administrators of the installation. A key is shown once."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.access import FullAdmin
from api.body import Input, JsonBody, Output
from api.errors import Conflict, NotFound
from api.ids import id_path, parse_id
from api.instants import Instant
from api.resources import FromResources
from domain.access import ALL_STORES, STORE_CODE, Scope
from storage.access import ApiKeyRow, list_keys
from storage.administration import add_key, end_key
from storage.stores import list_stores

NAME_MOST = 255
STORES_MOST = 1_000

router = APIRouter(prefix="/api/admin/api-key", tags=["access"])


def _check_store(code: str) -> str:
    if code != ALL_STORES and STORE_CODE.fullmatch(code) is None:
        raise PydanticCustomError("store_code", "is no store code, and not * for all stores")
    return code


StorePlace = Annotated[
    str,
    AfterValidator(_check_store),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^(?:\*|{STORE_CODE.pattern})$",
            "description": "A store's code, or * for all stores.",
            "examples": ["*"],
        }
    ),
]


def _scope(name: str) -> Scope:
    return Scope(name)  # the class itself has no signature that pydantic can read on every Python


ScopeName = Annotated[str, AfterValidator(_scope), WithJsonSchema({"type": "string", "enum": list(Scope)})]


class KeyCreate(Input):
    """A new key. Without `expiresAt` it works until it is revoked."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_MOST)]
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=len(Scope))]
    stores: Annotated[list[StorePlace], Field(min_length=1, max_length=STORES_MOST)] = [ALL_STORES]  # noqa: RUF012 - frozen
    expires_at: Instant | None = None


class KeyCreated(Output):
    """The new key, shown this once."""

    api_key_id: UUID
    api_key: str


class KeyOut(Output):
    """A key, without the key."""

    api_key_id: UUID
    name: str
    scopes: list[str]
    stores: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")


class KeyList(Output):
    """All keys, oldest first."""

    items: list[KeyOut]


CreateBody = Annotated[KeyCreate, Depends(JsonBody(KeyCreate, "apiKey"))]
IdPath = Annotated[str, id_path("apiKeyId", "Id of the key.")]


def _answer(key: ApiKeyRow) -> KeyOut:
    return KeyOut(
        api_key_id=key.id,
        name=key.name,
        scopes=sorted(key.scopes),
        stores=sorted(key.stores),
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
    )


@router.get("", summary="List API keys")
async def list_(admin: FullAdmin, resources: FromResources) -> KeyList:
    """All keys, those that are revoked or expired included."""
    async with resources.database.transaction() as connection:
        return KeyList(items=[_answer(key) for key in await list_keys(connection)])


@router.post("", summary="Create an API key", responses={409: {}})
async def create(admin: FullAdmin, body: CreateBody, resources: FromResources) -> KeyCreated:
    """The key stands in this answer only; what is stored is its hash."""
    async with resources.database.transaction() as connection:
        known = {store.code for store in await list_stores(connection)} | {ALL_STORES}
        unknown = [code for code in body.stores if code not in known]
        if unknown:
            raise Conflict(f"There is no store {unknown[0]}.")
        key_id, key = await add_key(connection, admin.actor, body.name, body.scopes, body.stores, body.expires_at)
    return KeyCreated(api_key_id=key_id, api_key=key)


@router.delete("/{apiKeyId}", summary="Revoke an API key", status_code=204, responses={404: {}})
async def revoke(admin: FullAdmin, key_id: IdPath, resources: FromResources) -> None:
    """It stops working within a second. Revoking it again changes nothing."""
    async with resources.database.transaction() as connection:
        if await end_key(connection, admin.actor, parse_id(key_id)) is None:
            raise NotFound
