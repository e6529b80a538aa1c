"""Create, list, change and delete the subscriptions of a store. Header values and keys are stored encrypted."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Update, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.delivery.lifecycle import DeliveryStatus, Reason, SubscriptionStatus
from domain.delivery.ordering import AfterExhausted, OrderKey
from domain.wire.headers import OwnHeader
from domain.wire.signing import SECRET_BYTES, format_secret
from storage.access.tables import Store
from storage.deliveries.transitions import end_open
from storage.listing import Condition, FieldKind, ListField, Order, filtered, order_sql
from storage.mapping import all_as, columns_for, one_as, table_of
from storage.sealing import Sealer
from storage.subscriptions.tables import Subscription

ROTATION_OVERLAP = timedelta(hours=24)
"""Period in which the previous key signs beside the new one (wire contract, section 2)."""

_C = table_of(Subscription).c

SUBSCRIPTION_FIELDS: dict[str, ListField] = {
    "eventName": ListField(_C.event_name, FieldKind.TEXT),
    "url": ListField(_C.url, FieldKind.TEXT),
    "legacy": ListField(_C.legacy, FieldKind.FLAG),
    "createdAt": ListField(_C.created_at, FieldKind.INSTANT),
    "name": ListField(_C.name, FieldKind.TEXT),
    "activeFrom": ListField(_C.active_from, FieldKind.INSTANT),
    SubscriptionStatus.ACTIVE: ListField(_C.status == SubscriptionStatus.ACTIVE.value, FieldKind.FLAG),
}
"""Fields for filters and orders of subscription lists."""
FIELDS_AND_STATUS = SUBSCRIPTION_FIELDS | {
    "status": ListField(_C.status, FieldKind.TEXT, tuple(SubscriptionStatus)),
}
"""Fields in the panel, whose list shows the status itself."""


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
    """Maximum number of subscriptions."""

    per_store: int
    per_event: int


@dataclass(frozen=True, slots=True)
class SubscriptionPage:
    """One page, with the store's number of subscriptions: all, and those that meet the conditions."""

    rows: list[SubscriptionRow]
    all: int
    filtered: int


class SubscriptionLimitError(Exception):
    """The store has the maximum number of subscriptions; `event`: the maximum to this event."""

    def __init__(self, limit: int, *, event: bool) -> None:
        super().__init__(f"limit of {limit} subscriptions reached")
        self.limit = limit
        self.event = event


_SUBSCRIPTIONS = select(*columns_for(Subscription, SubscriptionRow))
_ONE_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_NO_KEYS = {"sealed_secret": None, "sealed_previous_secret": None, "previous_secret_until": None}


def seal_headers(headers: Sequence[OwnHeader], sealer: Sealer) -> bytes | None:
    """Encrypt headers as JSON [[name, value], …]; return None if there are none."""
    pairs = [[header.name, header.value] for header in headers]
    return sealer.seal(orjson.dumps(pairs).decode()) if pairs else None


def open_headers(sealed: bytes | None, sealer: Sealer) -> list[OwnHeader]:
    """Decrypt headers, in their order; raises `SealBrokenError`."""
    return [] if sealed is None else [OwnHeader(name, value) for name, value in orjson.loads(sealer.open(sealed))]


def _in_store(store_code: str) -> ColumnElement[bool]:
    return (col(Subscription.store_code) == store_code) & col(Subscription.deleted_at).is_(None)


async def _lock_store(connection: AsyncConnection, store_code: str) -> None:
    await connection.execute(
        select(col(Store.code)).where(col(Store.code) == store_code).with_for_update(key_share=True)
    )


async def find_subscription(
    connection: AsyncConnection, store_code: str, subscription_id: UUID, *, lock: bool = False
) -> SubscriptionRow | None:
    """Return the subscription, or None. `lock`: other transactions that lock it wait for this one."""
    query = _SUBSCRIPTIONS.where(_in_store(store_code), col(Subscription.id) == subscription_id)
    return one_as(SubscriptionRow, await connection.execute(query.with_for_update(key_share=True) if lock else query))


async def all_subscriptions(
    connection: AsyncConnection, store_code: str, *, lock: bool = False
) -> list[SubscriptionRow]:
    """Return every subscription of the store.

    `lock`: other transactions that create, change or delete a subscription of the store wait for this one.
    """
    query = _SUBSCRIPTIONS.where(_in_store(store_code)).order_by(col(Subscription.id))
    if lock:
        await _lock_store(connection, store_code)
        query = query.with_for_update(key_share=True)
    return all_as(SubscriptionRow, await connection.execute(query))


async def list_subscriptions(
    connection: AsyncConnection,
    store_code: str,
    conditions: Sequence[Condition],
    order: Sequence[Order],
    limit: int,
    offset: int,
) -> SubscriptionPage:
    """Return one page, oldest first unless ordered otherwise. Must be the first call of its transaction."""
    await connection.execute(_ONE_SNAPSHOT)
    count = select(func.count()).select_from(Subscription).where(_in_store(store_code))
    query = filtered(_SUBSCRIPTIONS.where(_in_store(store_code)), FIELDS_AND_STATUS, conditions)
    keys = [*order_sql(FIELDS_AND_STATUS, order), _C.created_at, _C.id]
    rows = await connection.execute(query.order_by(*keys).limit(limit).offset(offset))
    return SubscriptionPage(
        all_as(SubscriptionRow, rows),
        await connection.scalar(count) or 0,
        await connection.scalar(filtered(count, FIELDS_AND_STATUS, conditions)) or 0,
    )


async def check_limits(
    connection: AsyncConnection, store_code: str, event_name: str, limits: SubscriptionLimits
) -> None:
    """Raise SubscriptionLimitError if the limits allow no other subscription to the event.

    The store's row is locked, so that concurrent transactions cannot exceed the limit.
    """
    await _lock_store(connection, store_code)
    query = select(
        func.count().label("in_store"),
        func.count().filter(col(Subscription.event_name) == event_name).label("of_event"),
    ).where(_in_store(store_code))
    count = (await connection.execute(query)).one()
    if count.of_event >= limits.per_event:
        raise SubscriptionLimitError(limits.per_event, event=True)
    if count.in_store >= limits.per_store:
        raise SubscriptionLimitError(limits.per_store, event=False)


async def create_subscription(
    connection: AsyncConnection,
    store_code: str,
    subscription_id: UUID,
    values: dict[str, Any],
    limits: SubscriptionLimits,
) -> None:
    """Insert a subscription with these columns. Raise SubscriptionLimitError."""
    await check_limits(connection, store_code, values["event_name"], limits)
    await connection.execute(insert(Subscription).values(id=subscription_id, store_code=store_code, **values))


async def update_subscription(connection: AsyncConnection, subscription_id: UUID, values: dict[str, Any]) -> None:
    """Update these columns of a locked subscription."""
    changes = {**values, "updated_at": func.clock_timestamp()}
    await connection.execute(_update(subscription_id).values(changes))


def _update(subscription_id: UUID) -> Update:
    return update(Subscription).where(col(Subscription.id) == subscription_id)


async def delete_subscription(
    connection: AsyncConnection, store_code: str, subscription_id: UUID
) -> tuple[str, str] | None:
    """Mark a subscription as deleted, delete its secrets and cancel its open deliveries.

    Return its event name and URL, or None if there is no such subscription. A large number of open deliveries is
    cancelled by the drain. The row stays, because deliveries refer to it. An attempt in flight is finished, and may
    succeed.
    """
    now = func.clock_timestamp()
    values = {"deleted_at": now, "updated_at": now, "sealed_headers": None, **_NO_KEYS}
    statement = _update(subscription_id).where(_in_store(store_code)).values(values)
    deleted = statement.returning(col(Subscription.event_name), col(Subscription.url))
    row = (await connection.execute(deleted)).one_or_none()
    if row is None:
        return None
    await end_open(connection, subscription_id, status=DeliveryStatus.CANCELLED, reason=Reason.SUBSCRIPTION_DELETED)
    return row.event_name, row.url


async def switch_signing_on(connection: AsyncConnection, subscription_id: UUID, sealer: Sealer) -> tuple[str, int]:
    """Make a key and return it with its version: the only time the key is shown."""
    return await _new_key(connection, subscription_id, sealer, {**_NO_KEYS, "hmac_enabled": True})


async def first_key(connection: AsyncConnection, store_code: str, subscription_id: UUID, sealer: Sealer) -> str | None:
    """Return the key that the subscription was created with, if that is still its key; else None."""
    query = select(col(Subscription.sealed_secret)).where(
        _in_store(store_code), col(Subscription.id) == subscription_id, col(Subscription.signature_version) == 1
    )
    sealed = await connection.scalar(query)
    return None if sealed is None else sealer.open(sealed)


async def sealed_key(connection: AsyncConnection, subscription_id: UUID) -> bytes | None:
    """Return the key that signs now, encrypted."""
    query = select(col(Subscription.sealed_secret)).where(col(Subscription.id) == subscription_id)
    return await connection.scalar(query)


async def rotate_key(connection: AsyncConnection, subscription_id: UUID, sealer: Sealer) -> tuple[str, int]:
    """Make a new key and return it with its version; the previous key signs for 24 more hours."""
    now = func.clock_timestamp()
    values = {
        "updated_at": now,
        "sealed_previous_secret": col(Subscription.sealed_secret),
        "previous_secret_until": now + ROTATION_OVERLAP,
    }
    return await _new_key(connection, subscription_id, sealer, values)


async def switch_signing_off(connection: AsyncConnection, subscription_id: UUID) -> None:
    """Delete the keys; the version continues when signing is switched on again."""
    await connection.execute(_update(subscription_id).values({**_NO_KEYS, "hmac_enabled": False}))


async def _new_key(
    connection: AsyncConnection, subscription_id: UUID, sealer: Sealer, values: Mapping[str, Any]
) -> tuple[str, int]:
    secret = format_secret(secrets.token_bytes(SECRET_BYTES))
    version = col(Subscription.signature_version)
    key = {"sealed_secret": sealer.seal(secret), "signature_version": version + 1}
    statement = _update(subscription_id).values({**values, **key}).returning(version)
    return secret, (await connection.execute(statement)).scalar_one()
