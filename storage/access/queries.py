"""Administrators, API keys and refresh tokens. Callers hash passwords; keys and tokens are hashed here."""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, any_, cast, delete, exists, extract, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.access import ALL_STORES, Principal, Scope
from storage.access.passwords import Passwords
from storage.access.tables import Administrator, ApiKey, RefreshToken
from storage.listing import CODE_POINTS
from storage.mapping import all_as, one_as

USE_RECORDED_EVERY = timedelta(minutes=1)
"""Precision of the recorded last use of a key or session. Not every request should write a row."""


def new_key() -> str:
    """Return a new API key of 256 random bits, with a prefix by which secret scanners recognize it."""
    return f"lwk_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> bytes:
    """Return the stored hash of a key or token. They have 256 random bits, so a slow hash would add nothing."""
    return sha256(secret.encode()).digest()


PASSWORD_VERSION = cast(extract("epoch", col(Administrator.password_changed_at)) * 1_000_000, BigInteger)
"""SQL of `Administrator.password_version`."""


async def find_administrator(
    connection: AsyncConnection,
    *,
    username: str | None = None,
    administrator_id: UUID | None = None,
    refresh_digest: bytes | None = None,
) -> Administrator | None:
    """Return the administrator of that user name or id, or None. With `refresh_digest`, None if that token ended."""
    named = col(Administrator.id) == administrator_id if username is None else col(Administrator.username) == username
    query = select(Administrator).where(named)
    if refresh_digest is not None:
        query = query.where(exists().where(col(RefreshToken.token_sha256) == refresh_digest))
    return one_as(Administrator, await connection.execute(query))


async def list_administrators(connection: AsyncConnection) -> list[Administrator]:
    """Return all administrators, ordered by user name."""
    by_username = select(Administrator).order_by(col(Administrator.username).collate(CODE_POINTS))
    return all_as(Administrator, await connection.execute(by_username))


async def create_administrator(
    connection: AsyncConnection, username: str, password_hash: str, scopes: Iterable[str], stores: Iterable[str]
) -> UUID | None:
    """Create the administrator and return its id; None if the user name is taken."""
    values = {"id": uuid4(), "username": username, "password_hash": password_hash}
    statement = insert(Administrator).values(**values, scopes=sorted(scopes), stores=sorted(stores))
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
        await revoke_tokens(connection, administrator_id)
    return administrator_id


async def full_administrators(connection: AsyncConnection) -> set[UUID]:
    """Return the active administrators with every right in every store. Their rows are locked, so that two of them
    cannot deactivate each other at the same time."""
    query = select(col(Administrator.id)).where(
        col(Administrator.active),
        literal(Scope.ADMIN.value) == any_(col(Administrator.scopes)),
        literal(ALL_STORES) == any_(col(Administrator.stores)),
    )
    locked = query.order_by(col(Administrator.id)).with_for_update(key_share=True)
    return set(await connection.scalars(locked))


async def revoke_tokens(connection: AsyncConnection, administrator_id: UUID) -> None:
    await connection.execute(delete(RefreshToken).where(col(RefreshToken.administrator_id) == administrator_id))


async def note_login(
    connection: AsyncConnection, administrator: Administrator, rehashed_password: str | None = None
) -> bool:
    """Record the log-in, and store the password's new hash if the hashing parameters have changed. Return False if the
    password is another one since the administrator was read, or the administrator inactive."""
    this_one = update(Administrator).where(
        col(Administrator.id) == administrator.id,
        col(Administrator.password_changed_at) == administrator.password_changed_at,
        col(Administrator.active),
    )
    values = {} if rehashed_password is None else {"password_hash": rehashed_password}
    noted = await connection.execute(this_one.values(last_login_at=func.clock_timestamp(), **values))
    return noted.rowcount == 1


async def find_usable_key(connection: AsyncConnection, key: str) -> Principal | None:
    """Return the key's principal, or None if the key is unknown, expired or revoked. The time of use is recorded to the
    minute."""
    now = func.clock_timestamp()
    stale = func.coalesce(col(ApiKey.last_used_at) < now - USE_RECORDED_EVERY, true()).label("stale")
    query = select(col(ApiKey.id), col(ApiKey.name), col(ApiKey.scopes), col(ApiKey.stores), stale).where(
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


async def list_keys(connection: AsyncConnection) -> list[ApiKey]:
    """Return all keys, oldest first, revoked ones included."""
    oldest_first = select(ApiKey).order_by(col(ApiKey.created_at), col(ApiKey.id))
    return all_as(ApiKey, await connection.execute(oldest_first))


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
    held = {"scopes": sorted(scopes), "stores": sorted(stores)}
    await connection.execute(
        insert(ApiKey).values(id=key_id, name=name, key_sha256=digest(key), expires_at=expires_at, **held)
    )
    return key_id


async def store_refresh_token(
    connection: AsyncConnection, token: str, administrator_id: UUID, family: UUID, days: int
) -> None:
    """Store the hash of a new refresh token, and delete all expired ones."""
    now = func.clock_timestamp()
    await connection.execute(delete(RefreshToken).where(col(RefreshToken.expires_at) < now))
    values = {"administrator_id": administrator_id, "family": family, "expires_at": now + timedelta(days=days)}
    await connection.execute(insert(RefreshToken).values(token_sha256=digest(token), **values))


async def use_refresh_token(connection: AsyncConnection, token: str) -> tuple[UUID, UUID] | None:
    """Use up a valid token and return its administrator and family; None for any other token. A token used a second
    time was stolen, or its successor was: the whole family is revoked."""
    this_token = col(RefreshToken.token_sha256) == digest(token)
    # The administrator's row is locked first: a DELETE that waited for a token in use would not see its successor.
    owner = select(col(RefreshToken.administrator_id)).where(this_token).scalar_subquery()
    this_one = select(col(Administrator.id)).where(col(Administrator.id) == owner)
    await connection.execute(this_one.with_for_update(key_share=True))
    valid = col(RefreshToken.used_at).is_(None) & (col(RefreshToken.expires_at) > func.clock_timestamp())
    use = update(RefreshToken).where(this_token, valid).values(used_at=func.clock_timestamp())
    returned = use.returning(col(RefreshToken.administrator_id), col(RefreshToken.family))
    row = (await connection.execute(returned)).one_or_none()
    if row is not None:
        return row.administrator_id, row.family
    used = select(col(RefreshToken.family)).where(this_token, col(RefreshToken.used_at).is_not(None))
    await connection.execute(delete(RefreshToken).where(col(RefreshToken.family) == used.scalar_subquery()))
    return None


async def ensure_administrator(connection: AsyncConnection, username: str, password: str) -> None:
    """Create the administrator, with all rights, unless the name exists: it retains password and rights then."""
    if await find_administrator(connection, username=username) is None:
        hashed = await Passwords().hash(password)
        await create_administrator(connection, username, hashed, (Scope.ADMIN,), (ALL_STORES,))


async def ensure_api_key(connection: AsyncConnection, name: str, key: str) -> None:
    """Store the key, with all rights, unless it is there already, revoked or not."""
    if await connection.scalar(select(col(ApiKey.id)).where(col(ApiKey.key_sha256) == digest(key))) is None:
        await create_key(connection, name, key, (Scope.ADMIN,), (ALL_STORES,))
