"""Administration of stores, administrators and API keys, each change with its audit entry.

`actor` is the person or key that the audit entry names.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.wire.excerpts import MASK
from storage.access.audit import changed, record
from storage.access.queries import create_administrator, create_key, new_key, revoke_tokens, set_password
from storage.access.sessions import end_sessions_of
from storage.access.stores import create_store
from storage.access.tables import Administrator, ApiKey

STORE = "store"
API_KEY = "api_key"
ADMINISTRATOR = "administrator"


async def add_store(connection: AsyncConnection, actor: str, code: str, name: str, timezone: str) -> bool:
    """Create a store; return False if the code is taken. The caller has checked code and time zone."""
    created = await create_store(connection, code, name, timezone)
    if created:
        changes = changed({}, {"name": name, "timezone": timezone})
        await record(connection, actor, "create", STORE, code, store_code=code, changes=changes)
    return created


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
    changes = changed({}, {"name": name, **held, "expires_at": ends})
    await record(connection, actor, "create", API_KEY, key_id, changes=changes)
    return key_id, key


async def end_key(connection: AsyncConnection, actor: str, key_id: UUID) -> str | None:
    """Revoke a key; return its name, or None if there is no such key."""
    revoked_at = func.coalesce(col(ApiKey.revoked_at), func.clock_timestamp())
    revoke = update(ApiKey).where(col(ApiKey.id) == key_id).values(revoked_at=revoked_at)
    name: str | None = await connection.scalar(revoke.returning(col(ApiKey.name)))
    if name is not None:
        changes = {"name": name}
        await record(connection, actor, "revoke", API_KEY, key_id, changes=changes)
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
    changes = changed({}, {"username": username, **held})
    await record(connection, actor, "create", ADMINISTRATOR, created, changes=changes)
    return True


async def replace_password(connection: AsyncConnection, actor: str, username: str, password_hash: str) -> bool:
    """Set a password, which revokes every earlier token; return False if there is no such administrator."""
    changed_id = await set_password(connection, username, password_hash)
    if changed_id is None:
        return False
    changes = {"password": {"before": MASK, "after": MASK}}
    await record(connection, actor, "reset_password", ADMINISTRATOR, changed_id, changes=changes)
    return True


async def switch_administrator(
    connection: AsyncConnection, actor: str, administrator: Administrator, *, active: bool
) -> None:
    """Activate or deactivate an administrator; do nothing if the state is already so. Deactivating revokes all tokens
    and ends all sessions."""
    if administrator.active == active:
        return
    this_one = update(Administrator).where(col(Administrator.id) == administrator.id)
    await connection.execute(this_one.values(active=active))
    if not active:
        await revoke_tokens(connection, administrator.id)
        await end_sessions_of(connection, administrator.id)
    action = "activate" if active else "deactivate"
    changes = changed({"active": administrator.active}, {"active": active})
    await record(connection, actor, action, ADMINISTRATOR, administrator.id, changes=changes)
