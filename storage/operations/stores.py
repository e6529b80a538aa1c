"""Stores, the tenants. They are never deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.expiry.rows import Kind
from storage.listing import CODE_POINTS
from storage.mapping import all_as, columns_for, one_as
from storage.operations.tables import Store


@dataclass(frozen=True, slots=True)
class StoreRow:
    """One store and its settings; `timezone` is an IANA name, the others are days."""

    code: str
    name: str
    timezone: str
    expire_points_notification_days: int
    expire_levels_notification_days: int
    expire_coupons_notification_days: int
    expiry_kinds_from_events: Sequence[str]
    """Kinds (`domain.expiry.rows.Kind`) whose rows are also updated from the store's events."""
    retention_days: int | None
    """None, here and below: the installation's setting applies."""
    retention_exhausted_days: int | None

    def days_ahead(self, kind: Kind) -> int:
        """Return the number of days between a notice and the expiry it announces."""
        match kind:
            case Kind.POINTS:
                return self.expire_points_notification_days
            case Kind.LEVELS:
                return self.expire_levels_notification_days
            case Kind.COUPONS:
                return self.expire_coupons_notification_days


_STORES = select(*columns_for(Store, StoreRow))


async def store_exists(connection: AsyncConnection, code: str) -> bool:
    """Return True if there is such a store."""
    return await connection.scalar(select(col(Store.code)).where(col(Store.code) == code)) is not None


async def find_store(connection: AsyncConnection, code: str, *, lock: bool = False) -> StoreRow | None:
    """Return the store, or None. `lock`: other transactions that lock it wait for this one."""
    query = _STORES.where(col(Store.code) == code)
    return one_as(StoreRow, await connection.execute(query.with_for_update(key_share=True) if lock else query))


async def list_stores(connection: AsyncConnection) -> list[StoreRow]:
    """Return all stores, ordered by code."""
    return all_as(StoreRow, await connection.execute(_STORES.order_by(col(Store.code).collate(CODE_POINTS))))


async def create_store(connection: AsyncConnection, code: str, name: str, timezone: str) -> bool:
    """Create a store with default settings; return False if the code is taken."""
    statement = insert(Store).values(code=code, name=name, timezone=timezone).on_conflict_do_nothing()
    return await connection.scalar(statement.returning(col(Store.code))) is not None


async def ensure_store(connection: AsyncConnection, code: str, name: str, timezone: str = "UTC") -> None:
    """Create the store unless it exists; an existing one is not changed."""
    await create_store(connection, code, name, timezone)


async def update_store(connection: AsyncConnection, code: str, values: Mapping[str, Any]) -> None:
    """Write these columns of the store."""
    if values:
        await connection.execute(update(Store).where(col(Store.code) == code).values(**values))
