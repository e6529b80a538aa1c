"""Stores: the tenants everything else belongs to. They are never deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.expiry.rows import Kind
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
    """Of `domain.expiry.rows.Kind`: whose rows are also kept from the store's events."""
    retention_days: int | None
    """None, here and below: as the installation's settings say."""
    retention_exhausted_days: int | None

    def days_ahead(self, kind: Kind) -> int:
        """How many days before something expires its notice is given."""
        match kind:
            case Kind.POINTS:
                return self.expire_points_notification_days
            case Kind.LEVELS:
                return self.expire_levels_notification_days
            case Kind.COUPONS:
                return self.expire_coupons_notification_days


_COLUMNS = (
    "code, name, timezone, expire_points_notification_days, expire_levels_notification_days, "
    "expire_coupons_notification_days, expiry_kinds_from_events, retention_days, retention_exhausted_days"
)
_EXISTS = text("SELECT true FROM store WHERE code = :code")
_SELECT = text(f"SELECT {_COLUMNS} FROM store WHERE code = :code")
_SELECT_LOCKED = text(f"SELECT {_COLUMNS} FROM store WHERE code = :code FOR NO KEY UPDATE")
_LIST = text(f'SELECT {_COLUMNS} FROM store ORDER BY code COLLATE "C"')
_INSERT = text("""
INSERT INTO store (code, name, timezone) VALUES (:code, :name, :timezone) ON CONFLICT (code) DO NOTHING RETURNING true
""")


async def store_exists(connection: AsyncConnection, code: str) -> bool:
    """Whether there is such a store."""
    return await connection.scalar(_EXISTS, {"code": code}) is not None


async def find_store(connection: AsyncConnection, code: str, *, lock: bool = False) -> StoreRow | None:
    """The store, or None. `lock` makes others who lock it wait until this transaction ends."""
    row = (await connection.execute(_SELECT_LOCKED if lock else _SELECT, {"code": code})).one_or_none()
    return None if row is None else StoreRow(*row)


async def list_stores(connection: AsyncConnection) -> list[StoreRow]:
    """All stores by code."""
    return [StoreRow(*row) for row in await connection.execute(_LIST)]


async def create_store(connection: AsyncConnection, code: str, name: str, timezone: str) -> bool:
    """Create a store with default settings; False when the code is taken."""
    parameters = {"code": code, "name": name, "timezone": timezone}
    return await connection.scalar(_INSERT, parameters) is not None


async def ensure_store(connection: AsyncConnection, code: str, name: str, timezone: str = "UTC") -> None:
    """Create the store unless it exists; an existing one keeps its name and settings."""
    await create_store(connection, code, name, timezone)


async def update_store(connection: AsyncConnection, code: str, values: Mapping[str, Any]) -> None:
    """Write these columns of the store."""
    if values:
        await connection.execute(update(Store).where(col(Store.code) == code).values(**values))
