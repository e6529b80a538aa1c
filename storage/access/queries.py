"""Administrators, API keys and refresh tokens. Callers hash passwords; keys and tokens are hashed here."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, any_, cast, delete, extract, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.access import ALL_STORES, Principal, Scope
from storage.access.passwords import Passwords
from storage.access.tables import Administrator, ApiKey, RefreshToken
from storage.listing import CODE_POINTS
from storage.mapping import all_as, columns_for, one_as

USE_RECORDED_EVERY = timedelta(minutes=1)
"""Precision of the recorded last use of a key or session. Not every request should write a row."""


def new_key() -> str:
    """Return a new API key of 256 random bits, with a prefix by which secret scanners recognize it."""
    return f"lwk_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> bytes:
    """Return the stored hash of a key or token. They have 256 random bits, so a slow hash would add nothing."""
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
        """The administrator as the principal of a request."""
        return Principal("administrator", str(self.id), self.username, self.scopes, self.stores)


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """An API key, without the key itself, which is not stored."""

    id: UUID
    name: str
    scopes: frozenset[str]
    stores: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


PASSWORD_VERSION = cast(extract("epoch", col(Administrator.password_changed_at)) * 1_000_000, BigInteger)
"""SQL of `AdministratorRow.password_version`."""
ADMINISTRATOR_COLUMNS = (
    *columns_for(Administrator, AdministratorRow, but=("password_version",)),
    PASSWORD_VERSION.label("password_version"),
)
"""The columns that `administrator_of` takes."""


def administrator_of(scopes: Iterable[str], stores: Iterable[str], **others: Any) -> AdministratorRow:
    """Return the administrator of a row with `ADMINISTRATOR_COLUMNS`."""
    return AdministratorRow(scopes=frozenset(scopes), stores=frozenset(stores), **others)


def _api_key(scopes: Iterable[str], stores: Iterable[str], **others: Any) -> ApiKeyRow:
    return ApiKeyRow(scopes=frozenset(scopes), stores=frozenset(stores), **others)


async def find_administrator(
    connection: AsyncConnection, *, username: str | None = None, administrator_id: UUID | None = None
) -> AdministratorRow | None:
    """Return the administrator of that user name or id, or None."""
    named = col(Administrator.id) == administrator_id if username is None else col(Administrator.username) == username
    return one_as(administrator_of, await connection.execute(select(*ADMINISTRATOR_COLUMNS).where(named)))


async def list_administrators(connection: AsyncConnection) -> list[AdministratorRow]:
    """Return all administrators, ordered by user name."""
    by_username = col(Administrator.username).collate(CODE_POINTS)
    return all_as(administrator_of, await connection.execute(select(*ADMINISTRATOR_COLUMNS).order_by(by_username)))


async def create_administrator(
    connection: AsyncConnection, username: str, password_hash: str, scopes: Iterable[str], stores: Iterable[str]
) -> UUID | None:
    """Create the administrator and return its id; None if the user name is taken."""
    statement = insert(Administrator).values(
        id=uuid4(),
        username=username,
        password_hash=password_hash,
        scopes=sorted(scopes),
        stores=sorted(stores),
    )
    unless_taken = statement.on_conflict_do_nothing(index_elements=["username"])
    created: UUID | None = await connection.scalar(unless_taken.returning(col(Administrator.id)))
    return created


async def set_password(connection: AsyncConnection, username: str, password_hash: str) -> UUID | None:
    """Set a new password and revoke all earlier tokens; return the administrator's id, or None if there is none."""
    statement = (
        update(Administrator)
        .where(col(Administrator.username) == username)
        .values(password_hash=password_hash, password_changed_at=func.clock_timestamp(), active=True)
    )
    administrator_id: UUID | None = await connection.scalar(statement.returning(col(Administrator.id)))
    if administrator_id is not None:
        await _revoke_tokens(connection, administrator_id)
    return administrator_id


async def full_administrators(connection: AsyncConnection) -> set[UUID]:
    """Return the active administrators with every right in every store.

    Their rows are locked, so that two of them cannot deactivate each other at the same time.
    """
    query = select(col(Administrator.id)).where(
        col(Administrator.active),
        literal(Scope.ADMIN.value) == any_(col(Administrator.scopes)),
        literal(ALL_STORES) == any_(col(Administrator.stores)),
    )
    locked = query.order_by(col(Administrator.id)).with_for_update(key_share=True)
    return set(await connection.scalars(locked))


async def set_active(connection: AsyncConnection, administrator_id: UUID, *, active: bool) -> None:
    """Activate or deactivate the administrator; deactivating revokes all tokens."""
    statement = update(Administrator).where(col(Administrator.id) == administrator_id).values(active=active)
    await connection.execute(statement)
    if not active:
        await _revoke_tokens(connection, administrator_id)


async def _revoke_tokens(connection: AsyncConnection, administrator_id: UUID) -> None:
    await connection.execute(delete(RefreshToken).where(col(RefreshToken.administrator_id) == administrator_id))


async def note_login(
    connection: AsyncConnection, administrator: AdministratorRow, rehashed_password: str | None = None
) -> None:
    """Record the log-in, and store the password's new hash if the hashing parameters have changed."""
    this_one = update(Administrator).where(col(Administrator.id) == administrator.id)
    await connection.execute(this_one.values(last_login_at=func.clock_timestamp()))
    if rehashed_password is not None:
        unchanged = this_one.where(col(Administrator.password_hash) == administrator.password_hash)
        await connection.execute(unchanged.values(password_hash=rehashed_password))


async def find_usable_key(connection: AsyncConnection, key: str) -> Principal | None:
    """Return the key's principal, or None if the key is unknown, expired or revoked.

    The time of use is recorded to the minute.
    """
    now = func.clock_timestamp()
    query = select(
        col(ApiKey.id),
        col(ApiKey.name),
        col(ApiKey.scopes),
        col(ApiKey.stores),
        func.coalesce(col(ApiKey.last_used_at) < now - USE_RECORDED_EVERY, true()).label("stale"),
    ).where(
        col(ApiKey.key_sha256) == digest(key),
        col(ApiKey.revoked_at).is_(None),
        col(ApiKey.expires_at).is_(None) | (col(ApiKey.expires_at) > now),
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    if row.stale:
        await connection.execute(update(ApiKey).where(col(ApiKey.id) == row.id).values(last_used_at=now))
    return Principal("api_key", str(row.id), row.name, frozenset(row.scopes), frozenset(row.stores))


async def list_keys(connection: AsyncConnection) -> list[ApiKeyRow]:
    """Return all keys, oldest first, revoked ones included."""
    query = select(*columns_for(ApiKey, ApiKeyRow)).order_by(col(ApiKey.created_at), col(ApiKey.id))
    return all_as(_api_key, await connection.execute(query))


async def create_key(
    connection: AsyncConnection,
    name: str,
    key: str,
    scopes: Iterable[str],
    stores: Iterable[str],
    expires_at: datetime | None = None,
) -> UUID:
    """Store the hash of a new key and return the key's id."""
    key_id = uuid4()
    values = {
        "id": key_id,
        "name": name,
        "key_sha256": digest(key),
        "scopes": sorted(scopes),
        "stores": sorted(stores),
        "expires_at": expires_at,
    }
    await connection.execute(insert(ApiKey).values(values))
    return key_id


async def revoke_key(connection: AsyncConnection, key_id: UUID) -> str | None:
    """Revoke the key and return its name, or None if there is no such key."""
    revoked_at = func.coalesce(col(ApiKey.revoked_at), func.clock_timestamp())
    statement = update(ApiKey).where(col(ApiKey.id) == key_id).values(revoked_at=revoked_at)
    name: str | None = await connection.scalar(statement.returning(col(ApiKey.name)))
    return name


async def store_refresh_token(
    connection: AsyncConnection, token: str, administrator_id: UUID, family: UUID, days: int
) -> None:
    """Store the hash of a new refresh token, and delete all expired ones."""
    now = func.clock_timestamp()
    await connection.execute(delete(RefreshToken).where(col(RefreshToken.expires_at) < now))
    values = {
        "token_sha256": digest(token),
        "administrator_id": administrator_id,
        "family": family,
        "expires_at": now + timedelta(days=days),
    }
    await connection.execute(insert(RefreshToken).values(values))


async def use_refresh_token(connection: AsyncConnection, token: str) -> tuple[UUID, UUID] | None:
    """Use up a valid token and return its administrator and family; None for any other token.

    A token used a second time was stolen, or its successor was: the whole family is revoked.
    """
    this_token = col(RefreshToken.token_sha256) == digest(token)
    valid = col(RefreshToken.used_at).is_(None) & (col(RefreshToken.expires_at) > func.clock_timestamp())
    use = update(RefreshToken).where(this_token, valid).values(used_at=func.clock_timestamp())
    returned = use.returning(col(RefreshToken.administrator_id), col(RefreshToken.family))
    row = (await connection.execute(returned)).one_or_none()
    if row is not None:
        return row.administrator_id, row.family
    used = select(col(RefreshToken.family)).where(this_token, col(RefreshToken.used_at).is_not(None))
    await connection.execute(delete(RefreshToken).where(col(RefreshToken.family) == used.scalar_subquery()))
    return None


async def ensure_administrator(
    connection: AsyncConnection,
    username: str,
    password: str,
    scopes: Iterable[str] = (Scope.ADMIN,),
    stores: Iterable[str] = (ALL_STORES,),
) -> None:
    """Create the administrator unless the name exists; an existing one retains password and rights."""
    if await find_administrator(connection, username=username) is None:
        await create_administrator(connection, username, await Passwords().hash(password), scopes, stores)


async def ensure_api_key(
    connection: AsyncConnection, name: str, key: str, scopes: Iterable[str], stores: Iterable[str] = (ALL_STORES,)
) -> None:
    """Store the key unless it is there already, revoked or not."""
    if await connection.scalar(select(col(ApiKey.id)).where(col(ApiKey.key_sha256) == digest(key))) is None:
        await create_key(connection, name, key, scopes, stores)
