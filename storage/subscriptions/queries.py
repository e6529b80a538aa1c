"""Create, list, change, pause, disable and delete subscriptions. Header values and keys are stored encrypted."""

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Update, and_, case, delete, exists, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus, Reason, SubscriptionStatus
from domain.delivery.notices import BY_PERSON, FAILING, NoticeKind
from domain.urls.targets import webhook_title
from domain.wire.authentication import AuthenticationValues
from domain.wire.headers import OwnHeader
from domain.wire.signing import SECRET_BYTES, format_secret
from storage.access.audit import record
from storage.access.tables import Store
from storage.deliveries.transitions import end_open, release_groups
from storage.listing import Condition, FieldKind, ListField, Order, filtered, order_sql
from storage.mapping import all_as, columns_for, one_as, table_of
from storage.sealing import SealBrokenError, Sealer
from storage.subscriptions.notices import Occurrence, note
from storage.subscriptions.tables import Subscription, SubscriptionHealth

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
SHOWN_FAILING = "failing"
"""Status in the panel of an active subscription whose last attempt failed."""

_HEALTH = table_of(SubscriptionHealth).c
_FAILING = exists().where(_HEALTH.subscription_id == _C.id, _HEALTH.failing_since.is_not(None))
_SHOWN_STATUS = case((and_(_C.status == SubscriptionStatus.ACTIVE.value, _FAILING), SHOWN_FAILING), else_=_C.status)
FIELDS_AND_STATUS = SUBSCRIPTION_FIELDS | {
    "webhookSubscriptionId": ListField(_C.id, FieldKind.ID),
    "status": ListField(_SHOWN_STATUS, FieldKind.TEXT, (*SubscriptionStatus, SHOWN_FAILING)),
}
"""Fields in the panel, whose list shows the status itself."""


SubscriptionRow: TypeAlias = Subscription


class SubscriptionLimits(NamedTuple):
    """Maximum number of subscriptions."""

    per_store: int
    per_event: int


class SubscriptionPage(NamedTuple):
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


_SUBSCRIPTIONS = select(*_C)
_NO_KEYS = {"sealed_secret": None, "sealed_previous_secret": None, "previous_secret_until": None}


def seal_headers(headers: Sequence[OwnHeader], sealer: Sealer) -> bytes | None:
    """Encrypt headers as JSON [[name, value], …]; return None if there are none."""
    pairs = [[header.name, header.value] for header in headers]
    return sealer.seal(orjson.dumps(pairs).decode()) if pairs else None


def open_headers(sealed: bytes | None, sealer: Sealer) -> list[OwnHeader]:
    """Decrypt headers, in their order; raises `SealBrokenError`."""
    return [] if sealed is None else [OwnHeader(name, value) for name, value in orjson.loads(sealer.open(sealed))]


def seal_authentication(authentication: AuthenticationValues | None, sealer: Sealer) -> bytes | None:
    """Encrypt an authentication as JSON; return None if there is none."""
    return None if authentication is None else sealer.seal(orjson.dumps(authentication).decode())


def open_authentication(sealed: bytes | None, sealer: Sealer) -> AuthenticationValues | None:
    """Decrypt an authentication; raises `SealBrokenError`."""
    return None if sealed is None else orjson.loads(sealer.open(sealed))


def _in_store(store_code: str) -> ColumnElement[bool]:
    return (_C.store_code == store_code) & _C.deleted_at.is_(None)


async def _lock_store(connection: AsyncConnection, store_code: str) -> None:
    store = select(col(Store.code)).where(col(Store.code) == store_code)
    await connection.execute(store.with_for_update(key_share=True))


async def find_subscription(
    connection: AsyncConnection, store_code: str, subscription_id: UUID, *, lock: bool = False
) -> SubscriptionRow | None:
    """Return the subscription, or None. `lock`: other transactions that lock it wait for this one."""
    query = _SUBSCRIPTIONS.where(_in_store(store_code), _C.id == subscription_id)
    return one_as(SubscriptionRow, await connection.execute(query.with_for_update(key_share=True) if lock else query))


async def all_subscriptions(
    connection: AsyncConnection, store_code: str, *, lock: bool = False
) -> list[SubscriptionRow]:
    """Return every subscription of the store; `lock`: other transactions that change any of them wait."""
    query = _SUBSCRIPTIONS.where(_in_store(store_code)).order_by(_C.id)
    if lock:
        await _lock_store(connection, store_code)
        query = query.with_for_update(key_share=True)
    return all_as(SubscriptionRow, await connection.execute(query))


async def subscription_page(
    connection: AsyncConnection,
    store_code: str,
    conditions: Sequence[Condition],
    order: Sequence[Order],
    limit: int,
    offset: int,
) -> SubscriptionPage:
    """Return one page, oldest first unless ordered otherwise. Must be the first call of its transaction."""
    await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
    count = select(func.count()).select_from(Subscription).where(_in_store(store_code))
    query = filtered(_SUBSCRIPTIONS.where(_in_store(store_code)), FIELDS_AND_STATUS, conditions)
    keys = [*order_sql(FIELDS_AND_STATUS, order), _C.created_at, _C.id]
    rows = await connection.execute(query.order_by(*keys).limit(limit).offset(offset))
    return SubscriptionPage(
        all_as(SubscriptionRow, rows),
        await connection.scalar(count) or 0,
        await connection.scalar(filtered(count, FIELDS_AND_STATUS, conditions)) or 0,
    )


async def subscriptions_with_header(
    connection: AsyncConnection, store_code: str, part: str, sealer: Sealer
) -> tuple[UUID, ...]:
    """Return the subscriptions with a header whose name contains the text, regardless of case.

    Headers are encrypted as a whole, so no index has their names. Those that cannot be decrypted are skipped.
    """
    query = select(_C.id, _C.sealed_headers).where(_in_store(store_code), _C.sealed_headers.is_not(None))
    rows = (await connection.execute(query)).all()

    def has_header(sealed: bytes) -> bool:
        try:
            return any(part.lower() in header.name.lower() for header in open_headers(sealed, sealer))
        except SealBrokenError:
            return False

    return await asyncio.to_thread(lambda: tuple(row.id for row in rows if has_header(row.sealed_headers)))


async def check_limits(
    connection: AsyncConnection, store_code: str, event_name: str, limits: SubscriptionLimits
) -> None:
    """Lock the store's row; raise SubscriptionLimitError if it may have no other subscription to the event."""
    await _lock_store(connection, store_code)
    query = select(
        func.count().label("in_store"), func.count().filter(_C.event_name == event_name).label("of_event")
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
    return update(Subscription).where(_C.id == subscription_id)


async def delete_subscription(
    connection: AsyncConnection, store_code: str, subscription_id: UUID
) -> tuple[str, str] | None:
    """Mark a subscription as deleted, delete its secrets and cancel its open deliveries, a large number by the drain.

    Return its event name and URL, or None if there is no such subscription. Deliveries refer to the row, so it stays.
    """
    now = func.clock_timestamp()
    values = {"deleted_at": now, "updated_at": now, "sealed_headers": None, "sealed_authentication": None, **_NO_KEYS}
    deleted = _update(subscription_id).where(_in_store(store_code)).values(values)
    row = (await connection.execute(deleted.returning(_C.event_name, _C.url))).one_or_none()
    if row is None:
        return None
    await end_open(connection, subscription_id, status=DeliveryStatus.CANCELLED, reason=Reason.SUBSCRIPTION_DELETED)
    return row.event_name, row.url


def new_secret() -> str:
    """Return a new random signing key."""
    return format_secret(secrets.token_bytes(SECRET_BYTES))


async def switch_signing_on(
    connection: AsyncConnection, subscription_id: UUID, sealer: Sealer, secret: str | None = None
) -> tuple[str, int]:
    """Store the given key or a new one, and return it with its version."""
    values = {**_NO_KEYS, "hmac_enabled": True}
    return await _store_key(connection, subscription_id, sealer, values, secret or new_secret())


async def first_key(connection: AsyncConnection, store_code: str, subscription_id: UUID, sealer: Sealer) -> str | None:
    """Return the key that the subscription was created with, if that is still its key; else None."""
    first = _in_store(store_code), _C.id == subscription_id, _C.signature_version == 1
    sealed = await connection.scalar(select(_C.sealed_secret).where(*first))
    return None if sealed is None else sealer.open(sealed)


async def sealed_key(connection: AsyncConnection, subscription_id: UUID) -> bytes | None:
    """Return the key that signs now, encrypted."""
    sealed: bytes | None = await connection.scalar(select(_C.sealed_secret).where(_C.id == subscription_id))
    return sealed


async def rotate_key(
    connection: AsyncConnection, subscription_id: UUID, sealer: Sealer, secret: str | None = None
) -> tuple[str, int]:
    """Store the given key or a new one, and return it with its version; the previous key signs for 24 more hours."""
    now = func.clock_timestamp()
    previous = {"sealed_previous_secret": _C.sealed_secret, "previous_secret_until": now + ROTATION_OVERLAP}
    values = {"updated_at": now, **previous}
    return await _store_key(connection, subscription_id, sealer, values, secret or new_secret())


async def sharing_key(
    connection: AsyncConnection, row: SubscriptionRow, sealer: Sealer, *, lock: bool = False
) -> list[SubscriptionRow]:
    """Return the other subscriptions of the store to the same URL that sign with the same key.

    `lock`: lock all subscriptions to the URL by their ids before their keys are compared.
    """

    def opened(sealed: bytes | None) -> str | None:
        try:
            return None if sealed is None else sealer.open(sealed)
        except SealBrokenError:  # a rotation is the remedy, so it must not fail for this
            return None

    at_url = _SUBSCRIPTIONS.where(_in_store(row.store_code), _C.url == row.url).order_by(_C.id)
    query = at_url.with_for_update(key_share=True) if lock else at_url
    keys = [(one, opened(one.sealed_secret)) for one in all_as(SubscriptionRow, await connection.execute(query))]
    own = next((key for one, key in keys if one.id == row.id), None)
    others = [one for one, key in keys if key is not None and key == own and one.id != row.id]
    return sorted(others, key=lambda one: (one.event_name, one.id))


async def switch_signing_off(connection: AsyncConnection, subscription_id: UUID) -> None:
    """Delete the keys; the version continues when signing is switched on again."""
    await connection.execute(_update(subscription_id).values({**_NO_KEYS, "hmac_enabled": False}))


async def _store_key(
    connection: AsyncConnection, subscription_id: UUID, sealer: Sealer, values: Mapping[str, Any], secret: str
) -> tuple[str, int]:
    version = _C.signature_version
    key = {"sealed_secret": sealer.seal(secret), "signature_version": version + 1}
    statement = _update(subscription_id).values({**values, **key}).returning(version)
    return secret, (await connection.execute(statement)).scalar_one()


class NamedSubscription(NamedTuple):
    """A subscription, possibly deleted, with the columns by which people tell subscriptions apart."""

    id: UUID
    name: str | None
    event_name: str
    url: str
    status: str
    deleted: bool
    ordered: bool

    @property
    def title(self) -> str:
        """Its name, or host and path of its URL if it has none."""
        return webhook_title(self.name, self.url)


async def named_subscriptions(
    connection: AsyncConnection, store_code: str, ids: Collection[UUID], *, others: bool = False
) -> dict[UUID, NamedSubscription]:
    """Return these subscriptions of the store by id, ordered by name; with `others` also all that are not deleted."""
    deleted, wanted = _C.deleted_at.is_not(None), _C.id.in_(ids)
    query = select(*columns_for(Subscription, NamedSubscription, but=("deleted",)), deleted.label("deleted"))
    query = query.where(_C.store_code == store_code, wanted | ~deleted if others else wanted)
    query = query.order_by(func.coalesce(_C.name, _C.url), _C.created_at, _C.id)
    return {named.id: named for named in all_as(NamedSubscription, await connection.execute(query))}


SYSTEM = "system"
"""Actor of changes that no person made."""

OWN_REASONS = frozenset({FAILING, FailureKind.http_gone.value, FailureKind.disabled_by_receiver.value})
"""Reasons for which the system disables a subscription."""


async def _change(
    connection: AsyncConnection,
    subscription_id: UUID,
    status: SubscriptionStatus,
    *before: SubscriptionStatus,
    reason: str | None = None,
) -> bool:
    """Change the status if it is one of `before`; return False if it is not."""
    changes = {"status": status, "status_reason": reason, "status_since": func.clock_timestamp()}
    statement = _update(subscription_id).where(_C.deleted_at.is_(None), _C.status.in_(before))
    changed = statement.values({**changes, "updated_at": func.clock_timestamp()})
    return (await connection.execute(changed)).rowcount == 1


async def pause(connection: AsyncConnection, subscription_id: UUID, *, reason: str) -> bool:
    """Pause an active subscription, so that its deliveries are held; return False if it was not active."""
    return await _change(
        connection, subscription_id, SubscriptionStatus.PAUSED, SubscriptionStatus.ACTIVE, reason=reason
    )


async def resume(connection: AsyncConnection, subscription_id: UUID) -> bool:
    """End a pause; return False if there was none. The caller wakes the drain, which sends the held deliveries."""
    return await _change(connection, subscription_id, SubscriptionStatus.ACTIVE, SubscriptionStatus.PAUSED)


async def disable(connection: AsyncConnection, subscription_id: UUID, *, reason: str) -> bool:
    """Disable a subscription and exhaust its open deliveries, a large number by the drain; return False if it was."""
    occurrences = await _disable(connection, subscription_id, reason)
    await note(connection, occurrences)
    return bool(occurrences)


async def disable_by_system(
    connection: AsyncConnection, subscription_id: UUID, *, reason: str, message_id: UUID | None = None
) -> list[Occurrence]:
    """Disable a subscription for one of `OWN_REASONS`, with an audit entry that names the delivery (`message_id`) whose
    response asked for it. Return the occurrences to note, none if it was disabled already. The caller notes them with
    all others, as the last step of its transaction."""
    query = select(_C.store_code, _C.status).where(_C.id == subscription_id, _C.deleted_at.is_(None))
    before = (await connection.execute(query.with_for_update(key_share=True))).one_or_none()
    occurrences = await _disable(connection, subscription_id, reason)
    if occurrences and before is not None:
        changes = {"status": {"before": before.status, "after": SubscriptionStatus.DISABLED}, "reason": reason}
        changes |= {} if message_id is None else {"messageId": str(message_id)}
        await record(connection, SYSTEM, "disable", "subscription", subscription_id, before.store_code, changes)
    return occurrences


async def _disable(connection: AsyncConnection, subscription_id: UUID, reason: str) -> list[Occurrence]:
    before = SubscriptionStatus.ACTIVE, SubscriptionStatus.PAUSED
    if not await _change(connection, subscription_id, SubscriptionStatus.DISABLED, *before, reason=reason):
        return []
    why = Reason.SUBSCRIPTION_DISABLED
    ended = await end_open(connection, subscription_id, status=DeliveryStatus.EXHAUSTED, reason=why)
    by = reason if reason in OWN_REASONS else BY_PERSON
    occurrences = [Occurrence(subscription_id, NoticeKind.DISABLED, by)]
    return occurrences + ([Occurrence(subscription_id, NoticeKind.EXHAUSTED, why, ended)] if ended else [])


async def lock_health(connection: AsyncConnection, subscription_id: UUID) -> None:
    """Lock the subscription's health. A transaction that changes both locks health first, as the recorder does."""
    health = select(col(SubscriptionHealth.subscription_id)).where(
        col(SubscriptionHealth.subscription_id) == subscription_id
    )
    await connection.execute(health.with_for_update())


async def enable(connection: AsyncConnection, subscription_id: UUID) -> bool:
    """Enable a disabled subscription, with its health reset; return False if it was not disabled."""
    changed = await _change(connection, subscription_id, SubscriptionStatus.ACTIVE, SubscriptionStatus.DISABLED)
    if changed:
        health = col(SubscriptionHealth.subscription_id) == subscription_id
        await connection.execute(delete(SubscriptionHealth).where(health))
        await release_groups(connection, subscription_id)
    return changed
