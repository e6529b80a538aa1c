"""Creation and end of API keys and administrators, with the rules that apply in the API and the panel."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncConnection

from api.body import Input, checked_by
from api.errors import Conflict, existing, invalid
from api.instants import Instant
from api.resources import Resources
from domain.access import ALL_STORES, STORE_CODE, Principal, Scope
from storage.access.administration import add_administrator, add_key, replace_password, switch_administrator
from storage.access.passwords import password_problem
from storage.access.queries import find_administrator, full_administrators
from storage.access.stores import list_stores
from storage.access.tables import Administrator

NAME_MOST = 255
STORES_MOST = 1_000


def _store_problem(code: str) -> str | None:
    known = code == ALL_STORES or STORE_CODE.fullmatch(code)
    return None if known else "must be a store code, or * for all stores"


def _username_problem(name: str) -> str | None:
    good = name.isprintable() and name == name.strip()
    return None if good else "must not contain invisible characters, or spaces at its ends"


AccessibleStore = Annotated[
    str,
    checked_by("store_code", _store_problem),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^(?:\*|{STORE_CODE.pattern})$",
            "description": "A store's code, or * for all stores.",
            "examples": ["*"],
        }
    ),
]


ScopeName = Annotated[
    str,
    # Not `Scope` itself: pydantic cannot read the signature of the class on every Python.
    AfterValidator(lambda name: Scope(name)),  # noqa: PLW0108
    WithJsonSchema({"type": "string", "enum": list(Scope)}),
]
Scopes = Annotated[list[ScopeName], Field(min_length=1, max_length=len(Scope))]
Stores = Annotated[list[AccessibleStore], Field(min_length=1, max_length=STORES_MOST)]
Password = Annotated[str, checked_by("password", password_problem)]


class KeyCreate(Input):
    """A new key. Without `expiresAt` it works until it is revoked."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_MOST)]
    scopes: Scopes
    stores: Stores = [ALL_STORES]  # noqa: RUF012 - frozen
    expires_at: Instant | None = None


class AdministratorCreate(Input):
    """A new administrator, able to log in at once."""

    username: Annotated[str, Field(min_length=1, max_length=NAME_MOST), checked_by("username", _username_problem)]
    password: Password
    scopes: Scopes
    stores: Stores


class PasswordChange(Input):
    """A new password for the administrator's own account."""

    password: Password


async def make_key(connection: AsyncConnection, actor: str, body: KeyCreate) -> tuple[UUID, str]:
    """Create a key and return its id and the key, shown only once. Raises Conflict for an unknown store."""
    await _known_stores(connection, body.stores)
    return await add_key(connection, actor, body.name, body.scopes, body.stores, body.expires_at)


async def make_administrator(resources: Resources, actor: str, body: AdministratorCreate) -> None:
    """Create an administrator. Raises Conflict for an unknown store, ValidationFailed for a user name that is taken."""
    hashed = await resources.passwords.hash(body.password)
    async with resources.database.transaction() as connection:
        await _known_stores(connection, body.stores)
        if not await add_administrator(connection, actor, body.username, hashed, body.scopes, body.stores):
            raise invalid("username", "taken", "is the name of another administrator")


async def switch(resources: Resources, by: Principal, administrator_id: UUID, *, active: bool) -> Administrator:
    """Activate or deactivate an administrator, effective at once.

    Raises NotFound, and Conflict for the caller's own account and for the last administrator with all rights.
    """
    async with resources.database.transaction() as connection:
        left = await full_administrators(connection) - {administrator_id}
        found = existing(await find_administrator(connection, administrator_id=administrator_id))
        if not active and str(found.id) == by.id:
            raise Conflict("This is your own account; only another administrator can deactivate it.")
        if not active and not left:
            raise Conflict(
                f"{found.username} is the last administrator with all rights in all stores; create another one first."
            )
        await switch_administrator(connection, by.actor, found, active=active)
    return found


async def change_password(resources: Resources, administrator: Administrator, password: str) -> Administrator:
    """Set an administrator's own password, which ends all earlier sessions and tokens. Return the changed row."""
    hashed = await resources.passwords.hash(password)
    async with resources.database.transaction() as connection:
        await replace_password(connection, administrator.principal.actor, administrator.username, hashed)
        changed = await find_administrator(connection, administrator_id=administrator.id)
    return existing(changed)


async def _known_stores(connection: AsyncConnection, codes: list[str]) -> None:
    known = {store.code for store in await list_stores(connection)} | {ALL_STORES}
    unknown = [code for code in codes if code not in known]
    if unknown:
        raise Conflict(f"There is no store {unknown[0]}.")
