"""Open deliveries with everything an attempt needs, read anew before each attempt."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Result, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import hold_reason
from domain.delivery.lifecycle import OPEN, DeliveryStatus, Reason, SubscriptionStatus
from domain.wire.bodies import TEST, EventFacts
from storage.columns import in_list, unnest
from storage.events.days import BODY_OF_EVENT, LAST_ATTEMPT_OF_DELIVERY
from storage.ids import drawn_id
from storage.mapping import all_as
from storage.operations.workers import SENDER_ID
from storage.subscriptions.state import DRAIN_ONLY

DUE_SOON_SECONDS = 20.0
"""Time before its instant at which a held retry needs a drain. The drain watchdog looks for them every 10 s, so a
later retry starts no workflow: after 10,000 failures at once, 9,000 starts would cost 17 ms of CPU each."""


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """The current subscription of an attempt, its secrets still sealed."""

    id: UUID
    url: str
    legacy: bool
    status: str
    deleted: bool
    sealed_headers: bytes | None
    sealed_authentication: bytes | None
    hmac_enabled: bool
    sealed_secret: bytes | None
    sealed_previous_secret: bytes | None
    signature_version: int
    retry_schedule: Sequence[int] | None
    max_concurrency: int | None
    timeout_seconds: int | None
    updated_at: datetime
    breaker_open: bool = False
    drain_only: bool = False
    """A limit or ordering applies that only the drain can observe, so every delivery is held first."""
    by_customer: bool = False
    """Ordered, with a FIFO group for each customer."""
    holds_group: bool = False
    """Ordered, and an exhausted delivery blocks its successors until a person decides."""

    @property
    def hold_reason(self) -> Reason | None:
        """Reason to hold its deliveries for the drain; None when they may be attempted at once."""
        return hold_reason(status=self.status, breaker_open=self.breaker_open, drain_only=self.drain_only)


@dataclass(slots=True)  # Not frozen: that would triple the cost of creating one, for each delivery.
class OpenDelivery:
    """A delivery with everything that an attempt needs: open, or ended and redelivered."""

    message_id: UUID
    event: EventFacts
    """Its data has masked secrets if `sealed_data` is set."""
    sealed_data: bytes | None
    variant: str
    subscription: SubscriptionFacts
    timezone: str
    status: str
    number: int
    """The next attempt, or the attempt whose intent is already written."""
    failures: int
    request_id: UUID
    accepted_on: date
    """Partition day of its attempts."""
    intended: bool = False
    """This worker's intent for `number` was written with the match."""
    sender_id: UUID | None = None
    """The live worker whose attempt has no outcome yet."""
    next_in_seconds: float | None = None
    """Seconds until the next attempt is due; None if none was scheduled, or it is due at once."""
    event_sequence: int = 0
    hold_again_as: Reason | None = None
    """Set by the drain: the reason to hold the delivery again if the attempt fails."""
    accepted_at: datetime | None = None
    """Instant of the event's acceptance, by the database's clock."""
    erased: bool = False
    """The event's body was deleted, so there is nothing to send."""
    recorded: int = 0
    """Number of the last attempt whose outcome is recorded."""
    redelivered: bool = False
    """A person requested this attempt, of an open or an ended delivery; only its success changes the status."""
    traceparent: str | None = None
    """Span in which the event was emitted, if recorded."""
    retry_id: str | None = None
    """Id of the standalone activity that owns its later attempts."""
    allowed_in_seconds: float | None = None
    """Seconds until the instant that the receiver asked for (`not_before`); None if it asked for none."""
    read_at: datetime | None = None
    """Instant from which these seconds count, by the database's clock."""

    @property
    def wakes_drain(self) -> bool:
        """True if its drain has work now or soon. Otherwise the resume or the drain watchdog wakes it."""
        is_paused = self.subscription.status == SubscriptionStatus.PAUSED
        return not is_paused and (self.next_in_seconds or 0.0) <= DUE_SOON_SECONDS

    @property
    def is_test(self) -> bool:
        """True for a sample, which is sent once and does not count for the receiver's health."""
        return self.variant == TEST


SUBSCRIPTION_COLUMNS = f"""
subscription.id, subscription.url, subscription.legacy, subscription.status,
subscription.deleted_at IS NOT NULL AS deleted, subscription.sealed_headers,
subscription.sealed_authentication, subscription.hmac_enabled, subscription.sealed_secret,
CASE WHEN subscription.previous_secret_until > clock_timestamp() THEN subscription.sealed_previous_secret END
    AS sealed_previous_secret,
subscription.signature_version, subscription.retry_schedule, subscription.max_concurrency,
subscription.timeout_seconds, subscription.updated_at,
health.breaker_opened_at IS NOT NULL AS breaker_open, {DRAIN_ONLY} AS drain_only,
subscription.ordered AND subscription.order_key = 'customer' AS by_customer,
subscription.ordered AND subscription.after_exhausted = 'hold' AS holds_group
"""
"""SQL over rows `subscription` and `health`: the columns of `SubscriptionFacts`."""


_OPEN = f"""
SELECT delivery.message_id, delivery.variant, delivery.status AS delivery_status, delivery.failures,
    CAST(extract(epoch FROM delivery.next_attempt_at - clock_timestamp()) AS float8) AS next_in_seconds,
    greatest(coalesce(attempt.number, 0), delivery.attempts) + 1 AS number, {SENDER_ID} AS sender_id, store.timezone,
    event.store_code, event.event_id, event.name, event.created_at_text, body.data, body.sealed_data,
    delivery.event_sequence, delivery.accepted_on, event.accepted_at, event.traceparent,
    delivery.attempts AS recorded, delivery.retry_id,
    CAST(extract(epoch FROM delivery.not_before - clock_timestamp()) AS float8) AS allowed_in_seconds,
    clock_timestamp() AS read_at,
    {SUBSCRIPTION_COLUMNS}
FROM delivery
JOIN event ON event.store_code = delivery.store_code AND event.event_id = delivery.event_id
JOIN store ON store.code = delivery.store_code
JOIN subscription ON subscription.id = delivery.subscription_id
LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
{BODY_OF_EVENT}
{LAST_ATTEMPT_OF_DELIVERY}
"""

_OPEN_OF_EVENTS = text(f"""{_OPEN}
JOIN {unnest("given", "store_code text, event_id uuid")}
    ON delivery.store_code = given.store_code AND delivery.event_id = given.event_id
WHERE delivery.status IN {in_list(OPEN)}""")
_OPEN_BY_ID = text(_OPEN + "WHERE delivery.message_id = :message_id")

_FACTS = tuple(field.name for field in fields(SubscriptionFacts))
_OWN = (
    *("message_id", "variant", "failures", "next_in_seconds", "number", "sender_id", "timezone", "sealed_data"),
    *("event_sequence", "accepted_on", "accepted_at", "traceparent", "recorded", "retry_id"),
    *("allowed_in_seconds", "read_at"),
)
"""Columns with the names of fields of `OpenDelivery`."""
_OTHERS = ("event_id", "name", "store_code", "created_at_text", "data", "delivery_status")


def _open_deliveries(result: Result[Any]) -> list[OpenDelivery]:
    found = []
    for row in result.columns(*_FACTS, *_OWN, *_OTHERS):
        facts, own, others = row[: len(_FACTS)], row[len(_FACTS) : -len(_OTHERS)], row[-len(_OTHERS) :]
        event_id, name, store_code, created_at, data, status = others
        delivery = OpenDelivery(
            event=EventFacts(event_id, name, store_code, created_at, data or ""),
            erased=data is None,
            subscription=SubscriptionFacts(*facts),
            status=status,
            request_id=drawn_id(),
            **dict(zip(_OWN, own, strict=True)),
        )
        found.append(delivery)
    return found


_CURRENT = text(f"""
SELECT {SUBSCRIPTION_COLUMNS}
FROM subscription LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
WHERE subscription.id = ANY(:ids)
""")


async def current_subscriptions(
    connection: AsyncConnection, subscription_ids: Collection[UUID]
) -> list[SubscriptionFacts]:
    """Return these subscriptions as they are now, without those that do not exist."""
    return all_as(SubscriptionFacts, await connection.execute(_CURRENT, {"ids": list(subscription_ids)}))


async def open_of_events(
    connection: AsyncConnection, store_codes: Sequence[str], event_ids: Sequence[UUID]
) -> list[OpenDelivery]:
    """Return the open deliveries of events that were matched before."""
    rows = await connection.execute(_OPEN_OF_EVENTS, {"store_code": store_codes, "event_id": event_ids})
    return _open_deliveries(rows)


async def load(connection: AsyncConnection, identity: UUID) -> OpenDelivery | None:
    """Return a delivery with its event and subscription, or None if the id is unknown."""
    found = _open_deliveries(await connection.execute(_OPEN_BY_ID, {"message_id": identity}))
    return found[0] if found else None


_HELD = f"{_OPEN} WHERE delivery.subscription_id = :subscription_id AND delivery.status = '{DeliveryStatus.HELD}'"
_HELD_ORDER = " ORDER BY delivery.event_sequence, delivery.message_id LIMIT :most"
_BY_INSTANT = " ORDER BY delivery.next_attempt_at, delivery.event_sequence, delivery.message_id LIMIT :most"
# Not `clock_timestamp()`: it is volatile, so PostgreSQL would read the index to its end.
_HELD_RETRIES_DUE = text(f"""{_HELD}
AND delivery.next_attempt_at <= statement_timestamp() AND delivery.message_id <> ALL(:under_way) {_BY_INSTANT}""")
_HELD_FRESH = text(f"""{_HELD} AND delivery.next_attempt_at IS NULL
AND (delivery.event_sequence, delivery.message_id) > (:sequence, :message_id) AND delivery.message_id <> ALL(:under_way)
{_BY_INSTANT}""")
_HELD_OLDEST = text(
    f"{_HELD} AND (delivery.not_before IS NULL OR delivery.not_before <= clock_timestamp()) {_HELD_ORDER}"
)

BEFORE_ALL = (-1, UUID(int=0))
"""Cursor (event sequence, message id) before the first delivery in the order of acceptance."""


async def held_retries_due(
    connection: AsyncConnection, subscription_id: UUID, most: int, *, under_way: Collection[UUID] = ()
) -> list[OpenDelivery]:
    """Return held deliveries whose retry is due, ordered by due instant, except those in flight (`under_way`)."""
    values = {"subscription_id": subscription_id, "most": most, "under_way": list(under_way)}
    return _open_deliveries(await connection.execute(_HELD_RETRIES_DUE, values))


async def held_fresh(
    connection: AsyncConnection,
    subscription_id: UUID,
    most: int,
    *,
    after: tuple[int, UUID] = BEFORE_ALL,
    under_way: Collection[UUID] = (),
) -> list[OpenDelivery]:
    """Return held deliveries without a due instant in the order of acceptance, except those in flight."""
    sequence, identity = after
    values = {"subscription_id": subscription_id, "sequence": sequence, "message_id": identity, "most": most}
    rows = await connection.execute(_HELD_FRESH, values | {"under_way": list(under_way)})
    return _open_deliveries(rows)


async def held_oldest(connection: AsyncConnection, subscription_id: UUID) -> OpenDelivery | None:
    """Return the oldest held delivery, due or not, among those whose receiver has not asked to wait."""
    found = _open_deliveries(await connection.execute(_HELD_OLDEST, {"subscription_id": subscription_id, "most": 1}))
    return found[0] if found else None


_HELD_BY_ID = text(
    _OPEN + f"WHERE delivery.message_id = ANY(:ids) AND delivery.status = '{DeliveryStatus.HELD}'" + _HELD_ORDER
)


async def held_of(connection: AsyncConnection, message_ids: Sequence[UUID]) -> list[OpenDelivery]:
    """Return the held ones of these deliveries, in the order of acceptance."""
    rows = await connection.execute(_HELD_BY_ID, {"ids": list(message_ids), "most": len(message_ids)})
    return _open_deliveries(rows)
