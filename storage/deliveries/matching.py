"""Matching: one transaction takes events out of the outbox and creates their deliveries, exactly once."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.identity import drain_workflow_id
from domain.delivery.lifecycle import DeliveryStatus
from domain.delivery.matching import OVERLOADED, beginning, mismatch
from domain.delivery.ordering import ordering_key_of
from domain.wire.bodies import EventFacts, variants
from storage.columns import unnest
from storage.deliveries.open import SUBSCRIPTION_COLUMNS, OpenDelivery, SubscriptionFacts, open_of_events
from storage.deliveries.transitions import create_matched
from storage.events.days import body_of_event
from storage.ids import drawn_id, message_id
from storage.mapping import pairs_as, rows_as

EVENTS_BETWEEN_YIELDS = 25
"""Events matched before yielding to the event loop: about 1 ms, so that other coroutines are not delayed."""


class MatchedEvent(NamedTuple):
    """An event that is being matched, with its body and the settings of its store."""

    store_code: str
    event_id: UUID
    name: str
    created_at: datetime
    created_at_text: str
    accepted_at: datetime
    accepted_on: date
    data: str
    sealed_data: bytes | None
    workflow_id: str | None
    timezone: str
    sequence: int
    traceparent: str | None
    expiry_kinds_from_events: Sequence[str]


class Subscribed(NamedTuple):
    """The event that a subscription receives, and since when."""

    store_code: str
    event_name: str
    created_at: datetime
    active_from: datetime | None


Candidates: TypeAlias = Mapping[tuple[str, str], Sequence[tuple[Subscribed, SubscriptionFacts]]]
"""(store code, event name) -> the subscriptions to that event."""

MayBegin: TypeAlias = Callable[[UUID], bool]
"""Admission control: False for a subscription that already has too many deliveries waiting in this worker."""

UNMATCHED = "coalesce(event.matched_at, 'infinity') = 'infinity'"
"""SQL over a row `event`: it is unmatched. With `IS NULL` the planner might read the store's part of the index of
unmatched events for each event."""

_EVENT_COLUMNS = """event.store_code, event.event_id, event.name, event.created_at, event.created_at_text,
    event.accepted_at, event.accepted_on, body.data, body.sealed_data, event.workflow_id, store.timezone,
    event.sequence, event.traceparent, store.expiry_kinds_from_events"""

# Rows are updated by ctid, which the lock keeps valid: a second look-up by key would pass over the dead entries that
# the claim left in the index (a tenth of this statement). An event that was changed while this statement waited for its
# lock is skipped, because its new ctid is not visible to this snapshot; the next execution finds it.
_TAKE = text(f"""
WITH given AS MATERIALIZED (
    SELECT event.ctid AS row_ctid FROM event
    JOIN {unnest("given", "store_code text, event_id uuid")}
        ON event.store_code = given.store_code AND event.event_id = given.event_id
    WHERE {UNMATCHED} ORDER BY sequence FOR UPDATE OF event
), taken AS (
    UPDATE event SET matched_at = clock_timestamp()
    WHERE ctid = ANY(ARRAY(SELECT row_ctid FROM given)) RETURNING *
)
SELECT {_EVENT_COLUMNS} FROM taken AS event
JOIN store ON store.code = event.store_code
{body_of_event("AND event.erased_at IS NULL")}
ORDER BY event.sequence
""")

_CANDIDATES = text(f"""
SELECT subscription.store_code, subscription.event_name, subscription.created_at, subscription.active_from,
    {SUBSCRIPTION_COLUMNS}
FROM subscription
JOIN {unnest("wanted", "store_code text, event_name text")}
    ON subscription.store_code = wanted.store_code AND subscription.event_name = wanted.event_name
LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
WHERE subscription.deleted_at IS NULL ORDER BY subscription.created_at, subscription.id
""")


async def match(
    connection: AsyncConnection,
    events: Sequence[tuple[str, UUID]],
    *,
    worker_id: UUID,
    may_begin: MayBegin,
    with_taken: Callable[[AsyncConnection, Sequence[MatchedEvent]], Awaitable[None]] | None = None,
) -> list[OpenDelivery]:
    """Match events to subscriptions, once, and return their open deliveries.

    `events`: (store code, event id). Unmatched events get all their deliveries in this transaction, and each delivery
    to be attempted at once gets its first intent, unless `may_begin` refuses its subscription. Events matched before
    are not matched again; their open deliveries are read. Held deliveries are returned too, so that the caller can
    wake their drains. `with_taken` is called with the events matched now, for work to be done once per event in the
    same transaction.
    """
    store_codes, event_ids = [store for store, _ in events], [event_id for _, event_id in events]
    keys = {"store_code": store_codes, "event_id": event_ids}
    rows = list(rows_as(MatchedEvent, await connection.execute(_TAKE, keys)))
    if len(rows) < len(events):  # matched before, or changed while this waited for its lock
        rows += rows_as(MatchedEvent, await connection.execute(_TAKE, keys))
    taken = [event for event in rows if event.data is not None]  # an event erased meanwhile gets no deliveries
    begun: list[OpenDelivery] = []
    if taken:
        candidates = await _candidates(connection, {(event.store_code, event.name) for event in taken})
        made, begun = await _deliveries_of(taken, candidates, may_begin)
        if made:
            await create_matched(connection, made, worker_id=worker_id)
        if with_taken is not None:
            await with_taken(connection, taken)
    if len(rows) < len(events):
        fresh = {delivery.message_id for delivery in begun}
        waiting = await open_of_events(connection, store_codes, event_ids)
        begun += [delivery for delivery in waiting if delivery.message_id not in fresh]
    return begun


async def _deliveries_of(
    taken: Sequence[MatchedEvent], candidates: Candidates, may_begin: MayBegin
) -> tuple[list[tuple[Any, ...]], list[OpenDelivery]]:
    """Return the deliveries of these events as rows of `transitions.MATCHED_COLUMNS`, and the open ones as objects."""
    made: list[tuple[Any, ...]] = []
    begun: list[OpenDelivery] = []
    for count, event in enumerate(taken):
        if count and count % EVENTS_BETWEEN_YIELDS == 0:
            await asyncio.sleep(0)
        facts = EventFacts(event.event_id, event.name, event.store_code, event.created_at_text, event.data)
        of_event = event.store_code, event.event_id, event.name, event.sequence, event.accepted_on
        for subscribed, subscription in candidates[event.store_code, event.name]:
            if mismatch(
                accepted_at=event.accepted_at,
                created_at=event.created_at,
                subscribed_at=subscribed.created_at,
                active_from=subscribed.active_from,
            ):
                continue
            begins = beginning(
                status=subscription.status, breaker_open=subscription.breaker_open, drain_only=subscription.drain_only
            )
            ordering_key = ordering_key_of(subscription.id, facts.data_text) if subscription.by_customer else None
            for variant in variants(event.name, event.data, subscription.legacy):
                identity = message_id(event.event_id, subscription.id, variant)
                if begins.status is DeliveryStatus.PENDING and not may_begin(subscription.id):
                    begins = OVERLOADED
                pending = begins.status is DeliveryStatus.PENDING
                request_id = drawn_id()
                owner = event.workflow_id if pending else None
                if begins.status is DeliveryStatus.HELD:
                    owner = drain_workflow_id(subscription.id)
                state = begins.status, begins.reason, owner, ordering_key
                attempt = request_id if pending else None, subscription.legacy
                made.append((identity, *of_event, subscription.id, variant, subscription.url, *state, *attempt))
                if begins.status is not DeliveryStatus.EXHAUSTED:
                    begun.append(
                        OpenDelivery(
                            message_id=identity,
                            event=facts,
                            sealed_data=event.sealed_data,
                            variant=variant,
                            subscription=subscription,
                            timezone=event.timezone,
                            status=begins.status,
                            number=1,
                            failures=0,
                            request_id=request_id,
                            intended=pending,
                            accepted_at=event.accepted_at,
                            accepted_on=event.accepted_on,
                            traceparent=event.traceparent,
                        )
                    )
    return made, begun


async def _candidates(connection: AsyncConnection, wanted: set[tuple[str, str]]) -> Candidates:
    columns = {"store_code": [store for store, _ in wanted], "event_name": [name for _, name in wanted]}
    found: dict[tuple[str, str], list[tuple[Subscribed, SubscriptionFacts]]] = defaultdict(list)
    rows = await connection.execute(_CANDIDATES, columns)
    for subscribed, subscription in pairs_as(Subscribed, SubscriptionFacts, rows):
        found[subscribed.store_code, subscribed.event_name].append((subscribed, subscription))
    return found
