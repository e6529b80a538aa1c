"""Subscriptions: created, listed, changed and deleted within one store. Header values and keys are kept sealed."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.ordering import AfterExhausted, OrderKey
from domain.wire.headers import OwnHeader
from domain.wire.signing import SECRET_BYTES, format_secret
from storage.deliveries.held import end_open
from storage.listing import Condition, FieldKind, ListField, Order, filtered, order_sql
from storage.sealing import Sealer
from storage.subscriptions.tables import Subscription, SubscriptionStatus

ROTATION_OVERLAP_HOURS = 24  # how long the key before still signs beside the new one (wire contract, section 2)

_TABLE: Any = Subscription.__table__  # type: ignore[attr-defined]
_C = _TABLE.c

SUBSCRIPTION_FIELDS: dict[str, ListField] = {
    "eventName": ListField(_C.event_name, FieldKind.TEXT),
    "url": ListField(_C.url, FieldKind.TEXT),
    "legacy": ListField(_C.legacy, FieldKind.FLAG),
    "createdAt": ListField(_C.created_at, FieldKind.INSTANT),
    "name": ListField(_C.name, FieldKind.TEXT),
    "activeFrom": ListField(_C.active_from, FieldKind.INSTANT),
    "active": ListField(_C.status == SubscriptionStatus.ACTIVE.value, FieldKind.FLAG),
}
"""What lists of subscriptions may be filtered and ordered by."""
FIELDS_AND_STATUS = SUBSCRIPTION_FIELDS | {
    "status": ListField(_C.status, FieldKind.TEXT, tuple(SubscriptionStatus)),
}
"""The same in the panel, whose list shows the status itself."""


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """A subscription as stored."""

    id: UUID
    event_name: str
    url: str
    name: str | None
    legacy: bool
    destination_type: str
    active_from: datetime | None
    sealed_headers: bytes | None
    hmac_enabled: bool
    signature_version: int
    status: str
    status_reason: str | None
    status_since: datetime
    retry_schedule: list[int] | None
    rate_limit_per_second: int | None
    max_concurrency: int | None
    ordered: bool
    order_key: OrderKey
    after_exhausted: AfterExhausted
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SubscriptionLimits:
    """The most subscriptions there may be."""

    per_store: int
    per_event: int


@dataclass(frozen=True, slots=True)
class SubscriptionPage:
    """One page, and how many there are in the store: in all, and with these conditions."""

    rows: list[SubscriptionRow]
    all: int
    filtered: int


class SubscriptionLimitError(Exception):
    """The store has as many subscriptions as it may have; `event`: to this event."""

    def __init__(self, limit: int, *, event: bool) -> None:
        super().__init__(f"limit of {limit} subscriptions reached")
        self.limit = limit
        self.event = event


_COLUMNS = [_C[name] for name in SubscriptionRow.__dataclass_fields__]
_LOCK_STORE = text("SELECT code FROM store WHERE code = :store_code FOR NO KEY UPDATE")
_COUNT = text("""
SELECT count(*), count(*) FILTER (WHERE event_name = :event_name) FROM subscription
WHERE store_code = :store_code AND deleted_at IS NULL
""")
_ONE_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_DELETE = text("""
UPDATE subscription SET deleted_at = clock_timestamp(), updated_at = clock_timestamp(), sealed_headers = NULL,
    sealed_secret = NULL, sealed_previous_secret = NULL, previous_secret_until = NULL
WHERE store_code = :store_code AND id = :id AND deleted_at IS NULL RETURNING event_name, url
""")
_ROTATE = text("""
UPDATE subscription SET signature_version = signature_version + 1, updated_at = clock_timestamp(),
    sealed_previous_secret = sealed_secret, sealed_secret = :sealed,
    previous_secret_until = clock_timestamp() + make_interval(hours => :overlap_hours)
WHERE id = :id RETURNING signature_version
""")
_SWITCH_ON = text("""
UPDATE subscription SET hmac_enabled = true, signature_version = signature_version + 1, sealed_secret = :sealed,
    sealed_previous_secret = NULL, previous_secret_until = NULL
WHERE id = :id RETURNING signature_version
""")
_SWITCH_OFF = text("""
UPDATE subscription SET hmac_enabled = false, sealed_secret = NULL, sealed_previous_secret = NULL,
    previous_secret_until = NULL
WHERE id = :id
""")


def seal_headers(headers: Sequence[OwnHeader], sealer: Sealer) -> bytes | None:
    """JSON [[name, value], …], encrypted; None when there are none."""
    pairs = [[header.name, header.value] for header in headers]
    return sealer.seal(orjson.dumps(pairs).decode()) if pairs else None


def open_headers(sealed: bytes | None, sealer: Sealer) -> list[OwnHeader]:
    """The headers in their order; raises `SealBrokenError`."""
    return [] if sealed is None else [OwnHeader(name, value) for name, value in orjson.loads(sealer.open(sealed))]


def _here(store_code: str) -> ColumnElement[bool]:
    here: ColumnElement[bool] = (_C.store_code == store_code) & _C.deleted_at.is_(None)
    return here


async def find_subscription(
    connection: AsyncConnection, store_code: str, subscription_id: UUID, *, lock: bool = False
) -> SubscriptionRow | None:
    """The subscription, or None. `lock` makes others who lock it wait until this transaction ends."""
    query = select(*_COLUMNS).where(_here(store_code), _C.id == subscription_id)
    row = (await connection.execute(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    return None if row is None else SubscriptionRow(*row)


async def all_subscriptions(
    connection: AsyncConnection, store_code: str, *, lock: bool = False
) -> list[SubscriptionRow]:
    """Every subscription of the store. `lock`: whoever creates, changes or deletes one waits for this transaction."""
    query = select(*_COLUMNS).where(_here(store_code)).order_by(_C.id)
    if lock:
        await connection.execute(_LOCK_STORE, {"store_code": store_code})
        query = query.with_for_update(key_share=True)
    return [SubscriptionRow(*row) for row in await connection.execute(query)]


async def list_subscriptions(
    connection: AsyncConnection,
    store_code: str,
    conditions: Sequence[Condition],
    order: Sequence[Order],
    limit: int,
    offset: int,
) -> SubscriptionPage:
    """One page, oldest first unless ordered otherwise. Must be the first statement of its transaction."""
    await connection.execute(_ONE_SNAPSHOT)
    count = select(func.count()).select_from(_TABLE).where(_here(store_code))
    query = filtered(select(*_COLUMNS).where(_here(store_code)), FIELDS_AND_STATUS, conditions)
    keys = [*order_sql(FIELDS_AND_STATUS, order), _C.created_at, _C.id]
    rows = await connection.execute(query.order_by(*keys).limit(limit).offset(offset))
    return SubscriptionPage(
        [SubscriptionRow(*row) for row in rows],
        await connection.scalar(count) or 0,
        await connection.scalar(filtered(count, FIELDS_AND_STATUS, conditions)) or 0,
    )


async def check_limits(
    connection: AsyncConnection, store_code: str, event_name: str, limits: SubscriptionLimits
) -> None:
    """Raises SubscriptionLimitError where there is no place for another subscription to the event.

    The store's row is locked, so that two at once cannot both take the last place.
    """
    await connection.execute(_LOCK_STORE, {"store_code": store_code})
    parameters = {"store_code": store_code, "event_name": event_name}
    in_store, of_event = (await connection.execute(_COUNT, parameters)).one()
    if of_event >= limits.per_event:
        raise SubscriptionLimitError(limits.per_event, event=True)
    if in_store >= limits.per_store:
        raise SubscriptionLimitError(limits.per_store, event=False)


async def create_subscription(
    connection: AsyncConnection,
    store_code: str,
    subscription_id: UUID,
    values: dict[str, Any],
    limits: SubscriptionLimits,
) -> None:
    """Insert a subscription of these columns. Raises SubscriptionLimitError."""
    await check_limits(connection, store_code, values["event_name"], limits)
    await connection.execute(insert(_TABLE).values(id=subscription_id, store_code=store_code, **values))


async def update_subscription(connection: AsyncConnection, subscription_id: UUID, values: dict[str, Any]) -> None:
    """Write these columns of a subscription that is locked."""
    changes = {**values, "updated_at": func.clock_timestamp()}
    await connection.execute(update(_TABLE).where(_C.id == subscription_id).values(changes))


async def delete_subscription(
    connection: AsyncConnection, store_code: str, subscription_id: UUID
) -> tuple[str, str] | None:
    """Mark it deleted, forget its secrets and cancel what it has waiting (its keeper cancels the rest, if it is much);
    its event name and URL, or None when there is none.

    The row stays, for deliveries made for it refer to it. An attempt under way is finished, and may succeed.
    """
    row = (await connection.execute(_DELETE, {"store_code": store_code, "id": subscription_id})).one_or_none()
    if row is None:
        return None
    await end_open(connection, subscription_id, status="cancelled", reason="subscription_deleted")
    return row[0], row[1]


async def switch_signing_on(connection: AsyncConnection, subscription_id: UUID, sealer: Sealer) -> tuple[str, int]:
    """Make a key; the key and its version. This is the only time the key is given away."""
    return await _new_key(connection, _SWITCH_ON, subscription_id, sealer)


async def first_key(connection: AsyncConnection, store_code: str, subscription_id: UUID, sealer: Sealer) -> str | None:
    """The key a subscription was created with, while that is its key; else None."""
    query = select(_C.sealed_secret).where(_here(store_code), _C.id == subscription_id, _C.signature_version == 1)
    sealed: bytes | None = await connection.scalar(query)
    return None if sealed is None else sealer.open(sealed)


async def sealed_key(connection: AsyncConnection, subscription_id: UUID) -> bytes | None:
    """The key that signs now, sealed."""
    sealed: bytes | None = await connection.scalar(select(_C.sealed_secret).where(_C.id == subscription_id))
    return sealed


async def rotate_key(connection: AsyncConnection, subscription_id: UUID, sealer: Sealer) -> tuple[str, int]:
    """A new key beside the one before, which signs for 24 hours more; the key and its version."""
    return await _new_key(connection, _ROTATE, subscription_id, sealer, overlap_hours=ROTATION_OVERLAP_HOURS)


async def switch_signing_off(connection: AsyncConnection, subscription_id: UUID) -> None:
    """Forget the keys; the version goes on counting when signing is switched on again."""
    await connection.execute(_SWITCH_OFF, {"id": subscription_id})


async def _new_key(
    connection: AsyncConnection, statement: Any, subscription_id: UUID, sealer: Sealer, **parameters: int
) -> tuple[str, int]:
    secret = format_secret(secrets.token_bytes(SECRET_BYTES))
    sealed = {"id": subscription_id, "sealed": sealer.seal(secret)}
    version: int = (await connection.execute(statement, {**sealed, **parameters})).scalar_one()
    return secret, version
