"""Open deliveries with everything an attempt needs, read anew before each attempt."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Result, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import hold_reason
from domain.delivery.lifecycle import OPEN, DeliveryStatus, Reason
from domain.wire.bodies import TEST, EventFacts
from storage.columns import in_list
from storage.events.days import BODY_OF_EVENT, LAST_ATTEMPT_OF_DELIVERY
from storage.ids import drawn_id
from storage.mapping import pairs_as
from storage.operations.workers import SENDER_ID
from storage.subscriptions.state import DRAIN_ONLY


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """The current subscription of an attempt, its secrets still sealed."""

    id: UUID
    url: str
    legacy: bool
    status: str
    deleted: bool
    sealed_headers: bytes | None
    hmac_enabled: bool
    sealed_secret: bytes | None
    sealed_previous_secret: bytes | None
    signature_version: int
    retry_schedule: Sequence[int] | None
    max_concurrency: int | None
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
    """An open delivery.

    `number`: the next attempt, or the attempt whose intent is already written. `intended`: this worker's intent for
    `number` was written with the match. `sender_id`: the live worker whose attempt has no outcome yet.
    `next_in_seconds`: seconds until the next attempt is due; None if none was scheduled (or it is due at once).
    """

    message_id: UUID
    event: EventFacts
    """Its data has masked secrets if `sealed_data` is set."""
    sealed_data: bytes | None
    variant: str
    subscription: SubscriptionFacts
    timezone: str
    status: str
    number: int
    failures: int
    request_id: UUID
    intended: bool
    sender_id: UUID | None
    next_in_seconds: float | None
    accepted_on: date
    """Partition day of its attempts."""
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
    """The delivery has ended and a person requested one more attempt; only its success changes the status."""
    traceparent: str | None = None
    """Span in which the event was emitted, if recorded."""
    retry_id: str | None = None
    """Id of the standalone activity that owns its later attempts."""
    allowed_in_seconds: float | None = None
    """Seconds until the instant that the receiver asked for (`not_before`); None if it asked for none."""

    @property
    def is_test(self) -> bool:
        """True for a sample, which is sent once and does not count for the receiver's health."""
        return self.variant == TEST


SUBSCRIPTION_COLUMNS = f"""
subscription.id, subscription.url, subscription.legacy, subscription.status,
subscription.deleted_at IS NOT NULL AS deleted, subscription.sealed_headers, subscription.hmac_enabled,
subscription.sealed_secret,
CASE WHEN subscription.previous_secret_until > clock_timestamp() THEN subscription.sealed_previous_secret END
    AS sealed_previous_secret,
subscription.signature_version, subscription.retry_schedule, subscription.max_concurrency,
health.breaker_opened_at IS NOT NULL AS breaker_open, {DRAIN_ONLY} AS drain_only,
subscription.ordered AND subscription.order_key = 'customer' AS by_customer,
subscription.ordered AND subscription.after_exhausted = 'hold' AS holds_group
"""
"""SQL over rows `subscription` and `health`: the columns of `SubscriptionFacts`."""


class _OpenRow(NamedTuple):
    message_id: UUID
    variant: str
    delivery_status: str
    failures: int
    next_in_seconds: float | None
    last_number: int
    sender_id: UUID | None
    timezone: str
    store_code: str
    event_id: UUID
    name: str
    created_at_text: str
    data: str | None
    sealed_data: bytes | None
    event_sequence: int
    accepted_on: date
    accepted_at: datetime
    traceparent: str | None
    attempts: int
    retry_id: str | None
    allowed_in_seconds: float | None


_OPEN = f"""
SELECT delivery.message_id, delivery.variant, delivery.status AS delivery_status, delivery.failures,
    CAST(extract(epoch FROM delivery.next_attempt_at - clock_timestamp()) AS float8) AS next_in_seconds,
    coalesce(attempt.number, 0) AS last_number, {SENDER_ID} AS sender_id, store.timezone,
    event.store_code, event.event_id, event.name, event.created_at_text, body.data, body.sealed_data,
    delivery.event_sequence, delivery.accepted_on, event.accepted_at, event.traceparent, delivery.attempts,
    delivery.retry_id,
    CAST(extract(epoch FROM delivery.not_before - clock_timestamp()) AS float8) AS allowed_in_seconds,
    {SUBSCRIPTION_COLUMNS}
FROM delivery
JOIN event ON event.store_code = delivery.store_code AND event.event_id = delivery.event_id
JOIN store ON store.code = delivery.store_code
JOIN subscription ON subscription.id = delivery.subscription_id
LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
{BODY_OF_EVENT}
{LAST_ATTEMPT_OF_DELIVERY}
"""

_OPEN_OF_EVENTS = text(
    _OPEN
    + f"""
JOIN unnest(CAST(:store_code AS text[]), CAST(:event_id AS uuid[])) AS given (store_code, event_id)
    ON delivery.store_code = given.store_code AND delivery.event_id = given.event_id
WHERE delivery.status IN {in_list(OPEN)}
"""
)
_OPEN_BY_ID = text(_OPEN + "WHERE delivery.message_id = :message_id")


def _open_deliveries(result: Result[Any]) -> list[OpenDelivery]:
    return [_open_delivery(row, subscription) for row, subscription in pairs_as(_OpenRow, SubscriptionFacts, result)]


def _open_delivery(row: _OpenRow, subscription: SubscriptionFacts) -> OpenDelivery:
    return OpenDelivery(
        message_id=row.message_id,
        event=EventFacts(row.event_id, row.name, row.store_code, row.created_at_text, row.data or ""),
        sealed_data=row.sealed_data,
        erased=row.data is None,
        variant=row.variant,
        subscription=subscription,
        timezone=row.timezone,
        status=row.delivery_status,
        number=row.last_number + 1,
        failures=row.failures,
        request_id=drawn_id(),
        intended=False,
        sender_id=row.sender_id,
        next_in_seconds=row.next_in_seconds,
        event_sequence=row.event_sequence,
        accepted_on=row.accepted_on,
        accepted_at=row.accepted_at,
        traceparent=row.traceparent,
        recorded=row.attempts,
        retry_id=row.retry_id,
        allowed_in_seconds=row.allowed_in_seconds,
    )


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


_HELD = _OPEN + f"WHERE delivery.subscription_id = :subscription_id AND delivery.status = '{DeliveryStatus.HELD}'"
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
    """Return held deliveries without a due instant, in the order of acceptance.

    `after`: keyset cursor (event sequence, message id). Deliveries in flight (`under_way`) are left out.
    """
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
