"""A store's operator: where its operational webhooks go, and the key that signs them, kept sealed."""

import secrets
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.wire.signing import SECRET_BYTES, format_secret
from storage.sealing import Sealer

ROTATION_OVERLAP_HOURS = 24
"""How long the key before still signs beside the new one, as of subscriptions."""

_URL = text("SELECT url FROM store_operator WHERE store_code = :store_code")
_FIND = text("""
SELECT url, sealed_secret, CASE WHEN previous_secret_until > clock_timestamp() THEN sealed_previous_secret END
FROM store_operator WHERE store_code = :store_code
""")
_SET_URL = text("UPDATE store_operator SET url = :url WHERE store_code = :store_code")
_INSERT = text("INSERT INTO store_operator (store_code, url, sealed_secret) VALUES (:store_code, :url, :sealed)")
_DELETE = text("DELETE FROM store_operator WHERE store_code = :store_code")
_FORGET = text("UPDATE notice SET due_at = NULL WHERE store_code = :store_code AND due_at IS NOT NULL")
_ROTATE = text("""
UPDATE store_operator SET sealed_previous_secret = sealed_secret, sealed_secret = :sealed,
    previous_secret_until = clock_timestamp() + make_interval(hours => :overlap_hours)
WHERE store_code = :store_code
""")


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """An operator as a notice is sent to it; the key before the last rotation only while it still signs."""

    url: str
    sealed_secret: bytes
    sealed_previous_secret: bytes | None


async def operator_url(connection: AsyncConnection, store_code: str) -> str | None:
    """Where the store's operational webhooks go; None: nowhere."""
    url: str | None = await connection.scalar(_URL, {"store_code": store_code})
    return url


async def find_operator(connection: AsyncConnection, store_code: str) -> OperatorRow | None:
    """The store's operator, if it has one."""
    row = (await connection.execute(_FIND, {"store_code": store_code})).one_or_none()
    return None if row is None else OperatorRow(*row)


async def set_operator_url(connection: AsyncConnection, store_code: str, url: str | None, sealer: Sealer) -> str | None:
    """Change where notices go; the caller has locked the store.

    The signing key when this makes one, which is the only time it is given away. None for the URL forgets the key, and
    what was not sent yet.
    """
    if url is None:
        await connection.execute(_DELETE, {"store_code": store_code})
        await connection.execute(_FORGET, {"store_code": store_code})
        return None
    if (await connection.execute(_SET_URL, {"store_code": store_code, "url": url})).rowcount:
        return None
    secret = _new_secret()
    await connection.execute(_INSERT, {"store_code": store_code, "url": url, "sealed": sealer.seal(secret)})
    return secret


async def rotate_operator_key(connection: AsyncConnection, store_code: str, sealer: Sealer) -> str | None:
    """A new key beside the one before, which signs for 24 hours more; None when the store has no operator."""
    secret = _new_secret()
    values = {"store_code": store_code, "sealed": sealer.seal(secret), "overlap_hours": ROTATION_OVERLAP_HOURS}
    return secret if (await connection.execute(_ROTATE, values)).rowcount else None


def _new_secret() -> str:
    return format_secret(secrets.token_bytes(SECRET_BYTES))
