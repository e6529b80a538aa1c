"""Administrators, API keys and refresh tokens. Passwords come here hashed, keys and tokens leave here hashed."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.access import ALL_STORES, Principal, Scope
from storage.access.passwords import Passwords


def new_key() -> str:
    """An API key of 256 random bits, with a mark by which scanners of leaked secrets can know it."""
    return f"lwk_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> bytes:
    """What is stored of a key or token. They have 256 random bits, so a slow hash would add nothing."""
    return sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class AdministratorRow:
    """A person who logs in. `password_version` changes with the password, which ends the tokens made before."""

    id: UUID
    username: str
    password_hash: str
    password_version: int
    scopes: frozenset[str]
    stores: frozenset[str]
    active: bool
    created_at: datetime
    last_login_at: datetime | None

    @property
    def principal(self) -> Principal:
        """As who is asking."""
        return Principal("administrator", str(self.id), self.username, self.scopes, self.stores)


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """A permanent key; the key itself is not stored."""

    id: UUID
    name: str
    scopes: frozenset[str]
    stores: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


ADMINISTRATOR_COLUMNS = (
    "administrator.id, username, password_hash, (extract(epoch FROM password_changed_at) * 1000000)::bigint, scopes, "
    "stores, active, created_at, last_login_at"
)
"""Of a query that joins; `administrator_of` takes them."""
_BY_USERNAME = text(f"SELECT {ADMINISTRATOR_COLUMNS} FROM administrator WHERE username = :username")
_BY_ID = text(f"SELECT {ADMINISTRATOR_COLUMNS} FROM administrator WHERE id = :id")
_ADMINISTRATORS = text(f'SELECT {ADMINISTRATOR_COLUMNS} FROM administrator ORDER BY username COLLATE "C"')
_INSERT_ADMINISTRATOR = text("""
INSERT INTO administrator (id, username, password_hash, scopes, stores)
VALUES (:id, :username, :password_hash, :scopes, :stores) ON CONFLICT (username) DO NOTHING RETURNING id
""")
_SET_PASSWORD = text("""
UPDATE administrator SET password_hash = :password_hash, password_changed_at = clock_timestamp(), active = true
WHERE username = :username RETURNING id
""")
_SWITCH = text("UPDATE administrator SET active = :active WHERE id = :id")
_FULL = text("""
SELECT id FROM administrator WHERE active AND 'admin' = ANY(scopes) AND '*' = ANY(stores) ORDER BY id
FOR NO KEY UPDATE
""")
_REHASH = text("UPDATE administrator SET password_hash = :password_hash WHERE id = :id AND password_hash = :old")
_LOGGED_IN = text("UPDATE administrator SET last_login_at = clock_timestamp() WHERE id = :id")

_KEY = "id, name, scopes, stores, created_at, expires_at, revoked_at, last_used_at"
_USABLE_KEY = text("""
SELECT id, name, scopes, stores, coalesce(last_used_at < clock_timestamp() - interval '1 minute', true) FROM api_key
WHERE key_sha256 = :digest AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
""")
_KNOWN_KEY = text("SELECT id FROM api_key WHERE key_sha256 = :digest")
_KEY_USED = text("UPDATE api_key SET last_used_at = clock_timestamp() WHERE id = :id")
_KEYS = text(f"SELECT {_KEY} FROM api_key ORDER BY created_at, id")
_INSERT_KEY = text("""
INSERT INTO api_key (id, name, key_sha256, scopes, stores, expires_at)
VALUES (:id, :name, :digest, :scopes, :stores, :expires_at)
""")
_REVOKE_KEY = text("""
UPDATE api_key SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = :id RETURNING name
""")

_INSERT_TOKEN = text("""
INSERT INTO refresh_token (token_sha256, administrator_id, family, expires_at)
VALUES (:digest, :administrator_id, :family, clock_timestamp() + make_interval(days => :days))
""")
_USE_TOKEN = text("""
UPDATE refresh_token SET used_at = clock_timestamp()
WHERE token_sha256 = :digest AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING administrator_id, family
""")
_REVOKE_FAMILY = text("""
DELETE FROM refresh_token
WHERE family = (SELECT family FROM refresh_token WHERE token_sha256 = :digest AND used_at IS NOT NULL)
""")
_REVOKE_TOKENS = text("DELETE FROM refresh_token WHERE administrator_id = :id")
_DROP_EXPIRED = text("DELETE FROM refresh_token WHERE expires_at < clock_timestamp()")


def administrator_of(row: Sequence[Any]) -> AdministratorRow:
    """The administrator of a row's `ADMINISTRATOR_COLUMNS`."""
    id_, username, password_hash, version, scopes, stores, *rest = row
    return AdministratorRow(id_, username, password_hash, version, frozenset(scopes), frozenset(stores), *rest)


async def find_administrator(
    connection: AsyncConnection, *, username: str | None = None, administrator_id: UUID | None = None
) -> AdministratorRow | None:
    """By user name or by id; None when there is none."""
    query, parameters = (
        (_BY_ID, {"id": administrator_id}) if username is None else (_BY_USERNAME, {"username": username})
    )
    row = (await connection.execute(query, parameters)).one_or_none()
    return None if row is None else administrator_of(row)


async def list_administrators(connection: AsyncConnection) -> list[AdministratorRow]:
    """All of them, by user name."""
    return [administrator_of(row) for row in await connection.execute(_ADMINISTRATORS)]


async def create_administrator(
    connection: AsyncConnection, username: str, password_hash: str, scopes: Iterable[str], stores: Iterable[str]
) -> UUID | None:
    """The new administrator's id; None when the user name is taken."""
    parameters = {
        "id": uuid4(),
        "username": username,
        "password_hash": password_hash,
        "scopes": sorted(scopes),
        "stores": sorted(stores),
    }
    created: UUID | None = await connection.scalar(_INSERT_ADMINISTRATOR, parameters)
    return created


async def set_password(connection: AsyncConnection, username: str, password_hash: str) -> UUID | None:
    """Set a new password, which ends all tokens made before; None when there is no such administrator."""
    parameters = {"username": username, "password_hash": password_hash}
    administrator_id: UUID | None = await connection.scalar(_SET_PASSWORD, parameters)
    if administrator_id is not None:
        await connection.execute(_REVOKE_TOKENS, {"id": administrator_id})
    return administrator_id


async def full_administrators(connection: AsyncConnection) -> set[UUID]:
    """Those who may log in and do everything everywhere; locked, so that two of them cannot switch each other off."""
    return set(await connection.scalars(_FULL))


async def set_active(connection: AsyncConnection, administrator_id: UUID, *, active: bool) -> None:
    """Whether the administrator may log in; one who may not has no token left."""
    await connection.execute(_SWITCH, {"id": administrator_id, "active": active})
    if not active:
        await connection.execute(_REVOKE_TOKENS, {"id": administrator_id})


async def note_login(
    connection: AsyncConnection, administrator: AdministratorRow, rehashed_password: str | None = None
) -> None:
    """Note the log-in, and keep the password's new hash when the parameters of hashing have changed."""
    await connection.execute(_LOGGED_IN, {"id": administrator.id})
    if rehashed_password is not None:
        parameters = {"id": administrator.id, "old": administrator.password_hash, "password_hash": rehashed_password}
        await connection.execute(_REHASH, parameters)


async def find_usable_key(connection: AsyncConnection, key: str) -> Principal | None:
    """Who the key speaks for; None when it is unknown, expired or revoked. Notes its use, to the minute."""
    row = (await connection.execute(_USABLE_KEY, {"digest": digest(key)})).one_or_none()
    if row is None:
        return None
    id_, name, scopes, stores, stale = row
    if stale:
        await connection.execute(_KEY_USED, {"id": id_})
    return Principal("api_key", str(id_), name, frozenset(scopes), frozenset(stores))


async def list_keys(connection: AsyncConnection) -> list[ApiKeyRow]:
    """All keys, oldest first, revoked ones included."""
    return [
        ApiKeyRow(id_, name, frozenset(scopes), frozenset(stores), *instants)
        for id_, name, scopes, stores, *instants in await connection.execute(_KEYS)
    ]


async def create_key(
    connection: AsyncConnection,
    name: str,
    key: str,
    scopes: Iterable[str],
    stores: Iterable[str],
    expires_at: datetime | None = None,
) -> UUID:
    """Store the hash of a new key; its id."""
    key_id = uuid4()
    parameters = {
        "id": key_id,
        "name": name,
        "digest": digest(key),
        "scopes": sorted(scopes),
        "stores": sorted(stores),
        "expires_at": expires_at,
    }
    await connection.execute(_INSERT_KEY, parameters)
    return key_id


async def revoke_key(connection: AsyncConnection, key_id: UUID) -> str | None:
    """The name of the key that is revoked now; None when there is none."""
    name: str | None = await connection.scalar(_REVOKE_KEY, {"id": key_id})
    return name


async def store_refresh_token(
    connection: AsyncConnection, token: str, administrator_id: UUID, family: UUID, days: int
) -> None:
    """Keep the hash of a new refresh token, and drop all that have expired."""
    await connection.execute(_DROP_EXPIRED)
    parameters = {"digest": digest(token), "administrator_id": administrator_id, "family": family, "days": days}
    await connection.execute(_INSERT_TOKEN, parameters)


async def use_refresh_token(connection: AsyncConnection, token: str) -> tuple[UUID, UUID] | None:
    """Administrator and family of a token that works, which works no more; None for any other.

    A token used a second time was stolen, or its successor was: the whole family is revoked.
    """
    row = (await connection.execute(_USE_TOKEN, {"digest": digest(token)})).one_or_none()
    if row is not None:
        return row[0], row[1]
    await connection.execute(_REVOKE_FAMILY, {"digest": digest(token)})
    return None


async def ensure_administrator(
    connection: AsyncConnection,
    username: str,
    password: str,
    scopes: Iterable[str] = (Scope.ADMIN,),
    stores: Iterable[str] = (ALL_STORES,),
) -> None:
    """Create the administrator unless there is one of that name, who keeps password and rights."""
    if await find_administrator(connection, username=username) is None:
        await create_administrator(connection, username, await Passwords().hash(password), scopes, stores)


async def ensure_api_key(
    connection: AsyncConnection, name: str, key: str, scopes: Iterable[str], stores: Iterable[str] = (ALL_STORES,)
) -> None:
    """Store the key unless it is there already, revoked or not."""
    if await connection.scalar(_KNOWN_KEY, {"digest": digest(key)}) is None:
        await create_key(connection, name, key, scopes, stores)
