"""Administration of stores, administrators and API keys, each change with its audit entry.

`actor` is the person or key that the audit entry names.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.access.audit import MASK, changed, record
from storage.access.queries import (
    AdministratorRow,
    create_administrator,
    create_key,
    new_key,
    revoke_key,
    set_active,
    set_password,
)
from storage.access.sessions import end_sessions_of
from storage.operations.stores import create_store

STORE = "store"
API_KEY = "api_key"
ADMINISTRATOR = "administrator"


async def add_store(connection: AsyncConnection, actor: str, code: str, name: str, timezone: str) -> bool:
    """Create a store; return False if the code is taken. The caller has checked code and time zone."""
    if not await create_store(connection, code, name, timezone):
        return False
    await record(
        connection,
        actor=actor,
        action="create",
        object_type=STORE,
        object_id=code,
        store_code=code,
        changes=changed({}, {"name": name, "timezone": timezone}),
    )
    return True


async def add_key(
    connection: AsyncConnection,
    actor: str,
    name: str,
    scopes: Iterable[str],
    stores: Iterable[str],
    expires_at: datetime | None,
) -> tuple[UUID, str]:
    """Create a key; return its id and the key itself, which is shown only this once."""
    key = new_key()
    held = {"scopes": sorted(set(scopes)), "stores": sorted(set(stores))}
    key_id = await create_key(connection, name, key, held["scopes"], held["stores"], expires_at)
    ends = None if expires_at is None else expires_at.isoformat()
    await record(
        connection,
        actor=actor,
        action="create",
        object_type=API_KEY,
        object_id=key_id,
        changes=changed({}, {"name": name, **held, "expires_at": ends}),
    )
    return key_id, key


async def end_key(connection: AsyncConnection, actor: str, key_id: UUID) -> str | None:
    """Revoke a key; return its name, or None if there is no such key."""
    name = await revoke_key(connection, key_id)
    if name is not None:
        await record(
            connection, actor=actor, action="revoke", object_type=API_KEY, object_id=key_id, changes={"name": name}
        )
    return name


async def add_administrator(
    connection: AsyncConnection,
    actor: str,
    username: str,
    password_hash: str,
    scopes: Iterable[str],
    stores: Iterable[str],
) -> bool:
    """Create an administrator; return False if the user name is taken."""
    held = {"scopes": sorted(set(scopes)), "stores": sorted(set(stores))}
    created = await create_administrator(connection, username, password_hash, held["scopes"], held["stores"])
    if created is None:
        return False
    await record(
        connection,
        actor=actor,
        action="create",
        object_type=ADMINISTRATOR,
        object_id=created,
        changes=changed({}, {"username": username, **held}),
    )
    return True


async def replace_password(connection: AsyncConnection, actor: str, username: str, password_hash: str) -> bool:
    """Set a password, which revokes every earlier token; return False if there is no such administrator."""
    administrator_id = await set_password(connection, username, password_hash)
    if administrator_id is None:
        return False
    await record(
        connection,
        actor=actor,
        action="reset_password",
        object_type=ADMINISTRATOR,
        object_id=administrator_id,
        changes={"password": {"before": MASK, "after": MASK}},
    )
    return True


async def switch_administrator(
    connection: AsyncConnection, actor: str, administrator: AdministratorRow, *, active: bool
) -> None:
    """Activate or deactivate an administrator; do nothing if the state is already so."""
    if administrator.active == active:
        return
    await set_active(connection, administrator.id, active=active)
    if not active:
        await end_sessions_of(connection, administrator.id)
    await record(
        connection,
        actor=actor,
        action="activate" if active else "deactivate",
        object_type=ADMINISTRATOR,
        object_id=administrator.id,
        changes=changed({"active": administrator.active}, {"active": active}),
    )
