"""A store's operator: the URL of its operational webhooks and the key that signs them, stored encrypted."""

import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.wire.signing import SECRET_BYTES, format_secret
from storage.mapping import one_as
from storage.operations.tables import NoticeRow, StoreOperator
from storage.sealing import Sealer

ROTATION_OVERLAP = timedelta(hours=24)
"""Period in which the previous key signs beside the new one, the same as for subscriptions."""


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """An operator for sending notices; the previous key is set only while it still signs."""

    url: str
    sealed_secret: bytes
    sealed_previous_secret: bytes | None


async def operator_url(connection: AsyncConnection, store_code: str) -> str | None:
    """Return the URL that the store's operational webhooks go to, or None."""
    return await connection.scalar(select(col(StoreOperator.url)).where(_of(store_code)))


async def find_operator(connection: AsyncConnection, store_code: str) -> OperatorRow | None:
    """Return the store's operator, or None."""
    still_signing = col(StoreOperator.previous_secret_until) > func.clock_timestamp()
    query = select(
        col(StoreOperator.url),
        col(StoreOperator.sealed_secret),
        case((still_signing, col(StoreOperator.sealed_previous_secret))).label("sealed_previous_secret"),
    )
    return one_as(OperatorRow, await connection.execute(query.where(_of(store_code))))


async def set_operator_url(connection: AsyncConnection, store_code: str, url: str | None, sealer: Sealer) -> str | None:
    """Change the URL that notices go to; the caller has locked the store.

    Return the signing key if this call makes one: the only time it is shown. None for the URL deletes the key and
    cancels the notices not sent yet.
    """
    if url is None:
        await connection.execute(delete(StoreOperator).where(_of(store_code)))
        unsent = (col(NoticeRow.store_code) == store_code) & col(NoticeRow.due_at).is_not(None)
        await connection.execute(update(NoticeRow).where(unsent).values(due_at=None))
        return None
    if (await connection.execute(update(StoreOperator).where(_of(store_code)).values(url=url))).rowcount:
        return None
    secret = _new_secret()
    values = {"store_code": store_code, "url": url, "sealed_secret": sealer.seal(secret)}
    await connection.execute(insert(StoreOperator).values(values))
    return secret


async def rotate_operator_key(connection: AsyncConnection, store_code: str, sealer: Sealer) -> str | None:
    """Make a new key and return it; the previous key signs for 24 more hours. None if the store has no operator."""
    secret = _new_secret()
    statement = (
        update(StoreOperator)
        .where(_of(store_code))
        .values(
            sealed_previous_secret=col(StoreOperator.sealed_secret),
            sealed_secret=sealer.seal(secret),
            previous_secret_until=func.clock_timestamp() + ROTATION_OVERLAP,
        )
    )
    return secret if (await connection.execute(statement)).rowcount else None


def _of(store_code: str) -> ColumnElement[bool]:
    return col(StoreOperator.store_code) == store_code


def _new_secret() -> str:
    return format_secret(secrets.token_bytes(SECRET_BYTES))
