"""Stores, and the operator of each: the URL of its operational webhooks and the key that signs them, encrypted."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from storage.access.tables import Store, StoreOperator
from storage.listing import CODE_POINTS
from storage.mapping import all_as, one_as
from storage.sealing import Sealer
from storage.subscriptions.queries import ROTATION_OVERLAP, new_secret
from storage.subscriptions.tables import NoticeRow


async def store_exists(connection: AsyncConnection, code: str) -> bool:
    return await connection.scalar(select(col(Store.code)).where(col(Store.code) == code)) is not None


async def find_store(connection: AsyncConnection, code: str, *, lock: bool = False) -> Store | None:
    """Return the store, or None. `lock`: other transactions that lock it wait for this one."""
    query = select(Store).where(col(Store.code) == code)
    return one_as(Store, await connection.execute(query.with_for_update(key_share=True) if lock else query))


async def list_stores(connection: AsyncConnection) -> list[Store]:
    """Return all stores, ordered by code."""
    return all_as(Store, await connection.execute(select(Store).order_by(col(Store.code).collate(CODE_POINTS))))


async def create_store(connection: AsyncConnection, code: str, name: str, timezone: str = "UTC") -> bool:
    """Create a store with default settings; return False, and change nothing, if the code is taken."""
    statement = insert(Store).values(code=code, name=name, timezone=timezone).on_conflict_do_nothing()
    return await connection.scalar(statement.returning(col(Store.code))) is not None


async def update_store(connection: AsyncConnection, code: str, values: Mapping[str, Any]) -> None:
    """Write these columns of the store."""
    if values:
        await connection.execute(update(Store).where(col(Store.code) == code).values(**values))


async def operator_url(connection: AsyncConnection, store_code: str) -> str | None:
    """Return the URL that the store's operational webhooks go to, or None."""
    return await connection.scalar(select(col(StoreOperator.url)).where(_of(store_code)))


async def find_operator(connection: AsyncConnection, store_code: str) -> StoreOperator | None:
    """Return the store's operator, or None. Its previous key is None if it no longer signs."""
    still_signing = col(StoreOperator.previous_secret_until) > func.clock_timestamp()
    query = select(
        col(StoreOperator.store_code),
        col(StoreOperator.url),
        col(StoreOperator.sealed_secret),
        case((still_signing, col(StoreOperator.sealed_previous_secret))).label("sealed_previous_secret"),
    )
    return one_as(StoreOperator, await connection.execute(query.where(_of(store_code))))


async def set_operator_url(connection: AsyncConnection, store_code: str, url: str | None, sealer: Sealer) -> str | None:
    """Change the URL that notices go to; the caller has locked the store. Return the signing key if this call makes
    one: the only time it is shown. None for the URL deletes the key and cancels the notices not sent yet."""
    if url is None:
        await connection.execute(delete(StoreOperator).where(_of(store_code)))
        unsent = (col(NoticeRow.store_code) == store_code) & col(NoticeRow.due_at).is_not(None)
        await connection.execute(update(NoticeRow).where(unsent).values(due_at=None))
        return None
    if (await connection.execute(update(StoreOperator).where(_of(store_code)).values(url=url))).rowcount:
        return None
    secret = new_secret()
    values = {"store_code": store_code, "url": url, "sealed_secret": sealer.seal(secret)}
    await connection.execute(insert(StoreOperator).values(values))
    return secret


async def rotate_operator_key(connection: AsyncConnection, store_code: str, sealer: Sealer) -> str | None:
    """Make a new key and return it; the previous key signs for 24 more hours. None if the store has no operator."""
    secret = new_secret()
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
