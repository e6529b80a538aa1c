"""Deliveries: made once when an event is matched, read again before each attempt."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.bodies import TEST, EventFacts, variants
from domain.breaker import hold_reason
from domain.identity import message_id
from domain.matching import BUSY, beginning, mismatch
from domain.order import line_of
from storage.columns import without_nulls_alone
from storage.days import BODY_OF_EVENT, LAST_ATTEMPT_OF_DELIVERY
from storage.subscription_standing import KEPT
from storage.workers import SENDER_ID

MADE_A_TURN = 25
"""Events whose deliveries are made between two turns of the event loop: about 1 ms, so that others' go on meanwhile."""


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """What an attempt needs of its subscription, as it is now; secrets still sealed."""

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
    kept: bool = False
    """It has a limit or an order that only its keeper can honour."""
    by_customer: bool = False
    """It is ordered, with a line for each customer."""
    holds_line: bool = False
    """It is ordered, and the successors of what is exhausted wait for a person."""

    @property
    def hold_reason(self) -> str | None:
        """Why its deliveries wait for the keeper; None when they may be attempted at once."""
        return hold_reason(status=self.status, breaker_open=self.breaker_open, kept=self.kept)


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class OpenDelivery:
    """A delivery to work on. `number` is the attempt to make next, or the one whose intent is already written.

    `intended`: this worker's intent for `number` was written with the match. `sender_id`: the live worker that has
    begun an attempt and not said what came of it.
    `next_in_seconds`: when its next attempt is due, null when none was scheduled (or it is due at once).
    """

    message_id: UUID
    event: EventFacts
    """Its data is masked where `sealed_data` holds the whole."""
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
    """The day its attempts are filed under."""
    event_sequence: int = 0
    kept_as: str | None = None
    """Set when the keeper sends it: the reason it is held again for should the attempt fail."""
    accepted_at: datetime | None = None
    """When the event was accepted, by the database's clock."""
    erased: bool = False
    """The event's body is gone: there is nothing left to send."""
    recorded: int = 0
    """The last of its attempts whose outcome was written."""
    redelivered: bool = False
    """A person asked for one more attempt of what has ended; only its success changes the status."""
    traceparent: str | None = None
    """The span its event was emitted in, where that is recorded."""

    @property
    def is_test(self) -> bool:
        """A sample, sent once; what comes of it says nothing about the receiver's health."""
        return self.variant == TEST


_SUBSCRIPTION_COLUMNS = f"""
subscription.id, subscription.url, subscription.legacy, subscription.status,
subscription.deleted_at IS NOT NULL AS deleted, subscription.sealed_headers, subscription.hmac_enabled,
subscription.sealed_secret,
CASE WHEN subscription.previous_secret_until > clock_timestamp() THEN subscription.sealed_previous_secret END,
subscription.signature_version, subscription.retry_schedule, subscription.max_concurrency,
health.breaker_opened_at IS NOT NULL, {KEPT}, subscription.ordered AND subscription.order_key = 'customer',
subscription.ordered AND subscription.after_exhausted = 'hold'
"""

# Not `IS NULL`: the planner might read the index of what is not matched, which knows the store alone, for each event.
# Who waits here for an erasure sees the event as that left it, but bodies as they were before: hence `erased_at`.
_TAKE = text("""
WITH asked AS MATERIALIZED (
    SELECT event.store_code, event.event_id, event.accepted_on, event.erased_at FROM event
    JOIN unnest(CAST(:store_code AS text[]), CAST(:event_id AS uuid[])) AS asked (store_code, event_id)
        ON event.store_code = asked.store_code AND event.event_id = asked.event_id
    WHERE coalesce(matched_at, 'infinity') = 'infinity' ORDER BY sequence FOR UPDATE OF event
)
UPDATE event SET matched_at = clock_timestamp()
FROM asked
JOIN store ON store.code = asked.store_code
LEFT JOIN LATERAL (
    SELECT event_body.data, event_body.sealed_data FROM event_body WHERE event_body.accepted_on = asked.accepted_on
        AND event_body.store_code = asked.store_code AND event_body.event_id = asked.event_id
        AND asked.erased_at IS NULL LIMIT 1
) AS body ON true
WHERE event.store_code = asked.store_code AND event.event_id = asked.event_id
RETURNING event.store_code, event.event_id, event.name, event.created_at, event.created_at_text, event.accepted_at,
    event.accepted_on, body.data, body.sealed_data, event.workflow_id, store.timezone, event.sequence,
    event.traceparent, store.expiry_kinds_from_events
""")

_CANDIDATES = text(f"""
SELECT subscription.store_code, subscription.event_name, subscription.created_at, subscription.active_from,
    {_SUBSCRIPTION_COLUMNS}
FROM subscription
JOIN unnest(CAST(:store_code AS text[]), CAST(:event_name AS text[])) AS wanted (store_code, event_name)
    ON subscription.store_code = wanted.store_code AND subscription.event_name = wanted.event_name
LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
WHERE subscription.deleted_at IS NULL ORDER BY subscription.created_at, subscription.id
""")

# What is to be attempted at once has a request id, and its first intent is written beside it.
_CREATE = text("""
WITH made AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:message_id AS uuid[]), CAST(:store_code AS text[]), CAST(:event_id AS uuid[]),
        CAST(:event_name AS text[]), CAST(:event_sequence AS bigint[]), CAST(:accepted_on AS date[]),
        CAST(:subscription_id AS uuid[]), CAST(:variant AS text[]), CAST(:url AS text[]), CAST(:status AS text[]),
        CAST(:reason AS text[]), CAST(:workflow_id AS text[]), CAST(:line AS bigint[]), CAST(:request_id AS uuid[]),
        CAST(:legacy AS bool[]))
        AS made (message_id, store_code, event_id, event_name, event_sequence, accepted_on, subscription_id, variant,
            url, status, reason, workflow_id, line, request_id, legacy)
), intended AS (
    INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
    SELECT accepted_on, message_id, 1, request_id, 'automatic', :worker_id, legacy FROM made
    WHERE request_id IS NOT NULL ON CONFLICT (accepted_on, message_id, number) DO NOTHING
)
INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, accepted_on, subscription_id,
    variant, url, status, reason, workflow_id, line, ended_at)
SELECT message_id, store_code, event_id, event_name, event_sequence, accepted_on, subscription_id,
    variant, url, status, reason, workflow_id, line, CASE WHEN status = 'exhausted' THEN clock_timestamp() END
FROM made ON CONFLICT (message_id) DO NOTHING
""")
_CREATED = (
    *("message_id", "store_code", "event_id", "event_name", "event_sequence", "accepted_on", "subscription_id"),
    *("variant", "url", "status", "reason", "workflow_id", "line", "request_id", "legacy"),
)

_OPEN = f"""
SELECT delivery.message_id, delivery.variant, delivery.status, delivery.failures,
    extract(epoch FROM delivery.next_attempt_at - clock_timestamp()), coalesce(attempt.number, 0),
    {SENDER_ID}, store.timezone,
    event.store_code, event.event_id, event.name, event.created_at_text, body.data, body.sealed_data,
    delivery.event_sequence, delivery.accepted_on, event.accepted_at, event.traceparent, delivery.attempts,
    {_SUBSCRIPTION_COLUMNS}
FROM delivery
JOIN event ON event.store_code = delivery.store_code AND event.event_id = delivery.event_id
JOIN store ON store.code = delivery.store_code
JOIN subscription ON subscription.id = delivery.subscription_id
LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
{BODY_OF_EVENT}
{LAST_ATTEMPT_OF_DELIVERY}
"""
_OPEN_COLUMNS_BEFORE_SUBSCRIPTION = 19

_OPEN_OF_EVENTS = text(
    _OPEN
    + """
JOIN unnest(CAST(:store_code AS text[]), CAST(:event_id AS uuid[])) AS asked (store_code, event_id)
    ON delivery.store_code = asked.store_code AND delivery.event_id = asked.event_id
WHERE delivery.status IN ('pending', 'held')
"""
)
_OPEN_BY_ID = text(_OPEN + "WHERE delivery.message_id = :message_id")


def _open_delivery(row: Sequence[Any]) -> OpenDelivery:
    identity, variant, status, failures, next_in, last_number, sender_id, timezone = row[:8]
    store_code, event_id, name, created_at_text, data, sealed_data, sequence, day, at, traceparent, recorded = row[
        8:_OPEN_COLUMNS_BEFORE_SUBSCRIPTION
    ]
    return OpenDelivery(
        message_id=identity,
        event=EventFacts(event_id, name, store_code, created_at_text, data or ""),
        sealed_data=sealed_data,
        erased=data is None,
        variant=variant,
        subscription=SubscriptionFacts(*row[_OPEN_COLUMNS_BEFORE_SUBSCRIPTION:]),
        timezone=timezone,
        status=status,
        number=last_number + 1,
        failures=failures,
        request_id=uuid4(),
        intended=False,
        sender_id=sender_id,
        next_in_seconds=None if next_in is None else float(next_in),
        event_sequence=sequence,
        accepted_on=day,
        accepted_at=at,
        traceparent=traceparent,
        recorded=recorded,
    )


async def match(
    connection: AsyncConnection,
    events: Sequence[tuple[str, UUID]],
    *,
    worker_id: UUID,
    may_begin: Callable[[UUID], bool],
    with_taken: Callable[[AsyncConnection, Sequence[Any]], Awaitable[None]] | None = None,
) -> list[OpenDelivery]:
    """Match events to subscriptions, once, and return what is to be delivered now.

    `events` are (store code, event id). Those not yet matched get all their deliveries in this transaction, and each
    delivery to be attempted at once its first intent; a subscription for which `may_begin` answers false gets none (it
    has too much waiting in this worker already). Those matched before are not matched again: what is still open of
    them is returned as it stands. Those that are held are returned too, for whoever tells their keepers.
    `with_taken` is given the events that are matched now, to do in this transaction what is done once for each.
    """
    keys = {"store_code": [store for store, _ in events], "event_id": [event_id for _, event_id in events]}
    rows = (await connection.execute(_TAKE, keys)).all()
    taken = [row for row in rows if row.data is not None]  # what was erased meanwhile is matched with nobody
    made = await _create(connection, taken, worker_id, may_begin) if taken else []
    if taken and with_taken is not None:
        await with_taken(connection, taken)
    if len(rows) < len(events):
        fresh = {delivery.message_id for delivery in made}
        waiting = await connection.execute(_OPEN_OF_EVENTS, keys)
        made += [_open_delivery(row) for row in waiting if row[0] not in fresh]
    return made


async def _create(
    connection: AsyncConnection,
    taken: Sequence[Any],
    worker_id: UUID,
    may_begin: Callable[[UUID], bool],
) -> list[OpenDelivery]:
    """Insert the deliveries of events just taken, and the intents of those that begin at once."""
    candidates = await _candidates(connection, {(row.store_code, row.name) for row in taken})
    made: list[tuple[Any, ...]] = []
    begun: list[OpenDelivery] = []
    for count, row in enumerate(taken):
        if count % MADE_A_TURN == 0:
            await asyncio.sleep(0)
        # By their places: looking up a name in a row takes as long as all else of it.
        store_code, event_id, name, created_at, created_at_text, accepted_at, accepted_on = row[:7]
        data, sealed_data, workflow_id, timezone, sequence, traceparent = row[7:13]
        facts = EventFacts(event_id, name, store_code, created_at_text, data)
        for subscribed_at, active_from, subscription in candidates[store_code, name]:
            if mismatch(
                accepted_at=accepted_at, created_at=created_at, subscribed_at=subscribed_at, active_from=active_from
            ):
                continue
            begins = beginning(
                status=subscription.status, breaker_open=subscription.breaker_open, kept=subscription.kept
            )
            line = line_of(subscription.id, facts.data_text) if subscription.by_customer else None
            for variant in variants(name, data, subscription.legacy):
                identity = message_id(event_id, subscription.id, variant)
                if begins.status == "pending" and not may_begin(subscription.id):
                    begins = BUSY
                pending = begins.status == "pending"
                request_id = uuid4()
                made.append(
                    (
                        *(identity, store_code, event_id, name, sequence, accepted_on, subscription.id, variant),
                        *(subscription.url, begins.status, begins.reason, workflow_id if pending else None, line),
                        *(request_id if pending else None, subscription.legacy),
                    )
                )
                if begins.status != "exhausted":
                    begun.append(
                        OpenDelivery(
                            message_id=identity,
                            event=facts,
                            sealed_data=sealed_data,
                            variant=variant,
                            subscription=subscription,
                            timezone=timezone,
                            status=begins.status,
                            number=1,
                            failures=0,
                            request_id=request_id,
                            intended=pending,
                            sender_id=None,
                            next_in_seconds=None,
                            accepted_at=accepted_at,
                            accepted_on=accepted_on,
                            traceparent=traceparent,
                        )
                    )
    if made:
        columns = dict(zip(_CREATED, map(without_nulls_alone, zip(*made, strict=True)), strict=True))
        await connection.execute(_CREATE, {"worker_id": worker_id, **columns})
    return begun


async def _candidates(
    connection: AsyncConnection, wanted: set[tuple[str, str]]
) -> dict[tuple[str, str], list[tuple[datetime, datetime | None, SubscriptionFacts]]]:
    """(store code, event name) -> its subscriptions, each with created_at and active_from."""
    rows = await connection.execute(
        _CANDIDATES, {"store_code": [store for store, _ in wanted], "event_name": [name for _, name in wanted]}
    )
    found: dict[tuple[str, str], list[tuple[datetime, datetime | None, SubscriptionFacts]]] = defaultdict(list)
    for store_code, event_name, created_at, active_from, *subscription in rows:
        found[store_code, event_name].append((created_at, active_from, SubscriptionFacts(*subscription)))
    return found


async def load(connection: AsyncConnection, identity: UUID) -> OpenDelivery | None:
    """One delivery as it stands now, with its event and subscription; None when there is none of that id."""
    row = (await connection.execute(_OPEN_BY_ID, {"message_id": identity})).one_or_none()
    return _open_delivery(row) if row is not None else None


_END = text("""
UPDATE delivery SET status = :status, reason = :reason, next_attempt_at = NULL, ended_at = clock_timestamp()
WHERE message_id = :message_id AND status IN ('pending', 'held')
""")


async def end(connection: AsyncConnection, identity: UUID, status: str, reason: str) -> None:
    """End an open delivery without an attempt; one that ended already stays as it is."""
    await connection.execute(_END, {"message_id": identity, "status": status, "reason": reason})


_HELD = _OPEN + "WHERE delivery.subscription_id = :subscription_id AND delivery.status = 'held'"
_HELD_ORDER = " ORDER BY delivery.event_sequence, delivery.message_id LIMIT :most"
_HELD_DUE = text(f"""{_HELD}
AND (delivery.next_attempt_at IS NULL OR delivery.next_attempt_at <= clock_timestamp())
AND (delivery.event_sequence, delivery.message_id) > (:sequence, :message_id) AND delivery.message_id <> ALL(:under_way)
{_HELD_ORDER}""")
_HELD_OLDEST = text(_HELD + _HELD_ORDER)

BEFORE_ALL = (-1, UUID(int=0))
"""A place in the order of acceptance (event sequence, message id) before that of any delivery."""


async def held_due(
    connection: AsyncConnection,
    subscription_id: UUID,
    most: int,
    *,
    after: tuple[int, UUID] = BEFORE_ALL,
    under_way: Collection[UUID] = (),
) -> list[OpenDelivery]:
    """Held deliveries that may be attempted now, in the order of acceptance from behind a place in it, without those
    that are under way."""
    sequence, identity = after
    values = {"subscription_id": subscription_id, "sequence": sequence, "message_id": identity, "most": most}
    rows = await connection.execute(_HELD_DUE, values | {"under_way": list(under_way)})
    return [_open_delivery(row) for row in rows]


async def held_oldest(connection: AsyncConnection, subscription_id: UUID) -> OpenDelivery | None:
    """The held delivery of the event accepted first, due or not."""
    row = (await connection.execute(_HELD_OLDEST, {"subscription_id": subscription_id, "most": 1})).one_or_none()
    return None if row is None else _open_delivery(row)


_HELD_BY_ID = text(_OPEN + "WHERE delivery.message_id = ANY(:ids) AND delivery.status = 'held'" + _HELD_ORDER)


async def held_of(connection: AsyncConnection, message_ids: Sequence[UUID]) -> list[OpenDelivery]:
    """Those of these deliveries that are held, in the order of acceptance."""
    rows = await connection.execute(_HELD_BY_ID, {"ids": list(message_ids), "most": len(message_ids)})
    return [_open_delivery(row) for row in rows]
