"""Matching: an event leaves the outbox, and its deliveries are made, in one transaction and once."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus
from domain.delivery.matching import OVERLOADED, beginning, mismatch
from domain.delivery.ordering import ordering_key_of
from domain.wire.bodies import EventFacts, variants
from storage.deliveries.open import SUBSCRIPTION_COLUMNS, OpenDelivery, SubscriptionFacts, open_of_events
from storage.deliveries.transitions import create_matched
from storage.ids import drawn_id, message_id

MADE_A_TURN = 25
"""Events whose deliveries are made between two turns of the event loop: about 1 ms, so that others' go on meanwhile."""

Candidates: TypeAlias = Mapping[tuple[str, str], Sequence[tuple[datetime, datetime | None, SubscriptionFacts]]]
"""(store code, event name) -> its subscriptions, each with created_at and active_from."""

MayBegin: TypeAlias = Callable[[UUID], bool]
"""Whether a subscription's attempts may begin at once; if not, it has too much waiting in this worker already."""

UNMATCHED = "coalesce(event.matched_at, 'infinity') = 'infinity'"
"""Not `IS NULL`: the planner might read the index of what is not matched, by store alone, for each event."""

EVENT_COLUMNS = """event.store_code, event.event_id, event.name, event.created_at, event.created_at_text,
    event.accepted_at, event.accepted_on, body.data, body.sealed_data, event.workflow_id, store.timezone,
    event.sequence, event.traceparent, store.expiry_kinds_from_events"""

BODY_UNLESS_ERASED = """LEFT JOIN LATERAL (
    SELECT event_body.data, event_body.sealed_data FROM event_body WHERE event_body.accepted_on = event.accepted_on
        AND event_body.store_code = event.store_code AND event_body.event_id = event.event_id
        AND event.erased_at IS NULL LIMIT 1
) AS body ON true"""


# Updated by their places on disk, which the lock keeps: finding them by their keys once more would pass over what the
# claim left of them in the index (a tenth of this statement). An event that somebody changed while the lock was waited
# for is left alone: its place is not yet there for this statement, but for the next.
_TAKE = text(f"""
WITH asked AS MATERIALIZED (
    SELECT event.ctid AS place_on_disk FROM event
    JOIN unnest(CAST(:store_code AS text[]), CAST(:event_id AS uuid[])) AS asked (store_code, event_id)
        ON event.store_code = asked.store_code AND event.event_id = asked.event_id
    WHERE {UNMATCHED} ORDER BY sequence FOR UPDATE OF event
), taken AS (
    UPDATE event SET matched_at = clock_timestamp()
    WHERE ctid = ANY(ARRAY(SELECT place_on_disk FROM asked)) RETURNING *
)
SELECT {EVENT_COLUMNS} FROM taken AS event
JOIN store ON store.code = event.store_code
{BODY_UNLESS_ERASED}
ORDER BY event.sequence
""")

CANDIDATE_COLUMNS = f"subscription.created_at, subscription.active_from, {SUBSCRIPTION_COLUMNS}"

_CANDIDATES = text(f"""
SELECT subscription.store_code, subscription.event_name, {CANDIDATE_COLUMNS}
FROM subscription
JOIN unnest(CAST(:store_code AS text[]), CAST(:event_name AS text[])) AS wanted (store_code, event_name)
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
    with_taken: Callable[[AsyncConnection, Sequence[Any]], Awaitable[None]] | None = None,
) -> list[OpenDelivery]:
    """Match events to subscriptions, once, and return what is to be delivered now.

    `events` are (store code, event id). Those not yet matched get all their deliveries in this transaction, and each
    delivery to be attempted at once its first intent; a subscription for which `may_begin` answers false gets none.
    Those matched before are not matched again: what is still open of them is returned as it stands. Those that are
    held are returned too, for whoever tells their drains.
    `with_taken` is given the events that are matched now, to do in this transaction what is done once for each.
    """
    store_codes, event_ids = [store for store, _ in events], [event_id for _, event_id in events]
    keys = {"store_code": store_codes, "event_id": event_ids}
    rows = list(await connection.execute(_TAKE, keys))
    if len(rows) < len(events):  # matched before, or changed while this waited for its lock
        rows += await connection.execute(_TAKE, keys)
    taken = [row for row in rows if row.data is not None]  # what was erased meanwhile is matched with nobody
    begun: list[OpenDelivery] = []
    if taken:
        candidates = await _candidates(connection, {(row.store_code, row.name) for row in taken})
        made, begun = await deliveries_of(taken, candidates, may_begin)
        if made:
            await create_matched(connection, made, worker_id=worker_id)
        if with_taken is not None:
            await with_taken(connection, taken)
    if len(rows) < len(events):
        fresh = {delivery.message_id for delivery in begun}
        waiting = await open_of_events(connection, store_codes, event_ids)
        begun += [delivery for delivery in waiting if delivery.message_id not in fresh]
    return begun


async def deliveries_of(
    taken: Sequence[Any], candidates: Candidates, may_begin: MayBegin
) -> tuple[list[tuple[Any, ...]], list[OpenDelivery]]:
    """The deliveries of these events: as rows of `transitions.MATCHED_COLUMNS`, and those that are open."""
    made: list[tuple[Any, ...]] = []
    begun: list[OpenDelivery] = []
    for count, row in enumerate(taken):
        if count and count % MADE_A_TURN == 0:
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
                status=subscription.status, breaker_open=subscription.breaker_open, drain_only=subscription.drain_only
            )
            ordering_key = ordering_key_of(subscription.id, facts.data_text) if subscription.by_customer else None
            for variant in variants(name, data, subscription.legacy):
                identity = message_id(event_id, subscription.id, variant)
                if begins.status is DeliveryStatus.PENDING and not may_begin(subscription.id):
                    begins = OVERLOADED
                pending = begins.status is DeliveryStatus.PENDING
                request_id = drawn_id()
                made.append(
                    (
                        *(identity, store_code, event_id, name, sequence, accepted_on, subscription.id, variant),
                        *(
                            subscription.url,
                            begins.status,
                            begins.reason,
                            workflow_id if pending else None,
                            ordering_key,
                        ),
                        *(request_id if pending else None, subscription.legacy),
                    )
                )
                if begins.status is not DeliveryStatus.EXHAUSTED:
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
    return made, begun


async def _candidates(connection: AsyncConnection, wanted: set[tuple[str, str]]) -> Candidates:
    columns = {"store_code": [store for store, _ in wanted], "event_name": [name for _, name in wanted]}
    found: dict[tuple[str, str], list[tuple[datetime, datetime | None, SubscriptionFacts]]] = defaultdict(list)
    for store_code, event_name, created_at, active_from, *subscription in await connection.execute(
        _CANDIDATES, columns
    ):
        found[store_code, event_name].append((created_at, active_from, SubscriptionFacts(*subscription)))
    return found
