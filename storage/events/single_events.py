"""The short way of events that come singly: claimed and read in one statement, matched in another.

What was read with the claim decides nothing: the match takes the event out of the outbox, or finds that somebody else
has, and it alone is what the workflow asks for. A webhook changed in the few milliseconds between is sent to as it was
when the event came.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from domain.expiry.from_events import kind_told
from storage.deliveries.matching import (
    BODY_UNLESS_ERASED,
    CANDIDATE_COLUMNS,
    EVENT_COLUMNS,
    OWN_WORKFLOW,
    UNMATCHED,
    Candidates,
    MayBegin,
    deliveries_of,
)
from storage.deliveries.open import OpenDelivery, SubscriptionFacts
from storage.deliveries.transitions import CREATED, INTENDED, MADE, MADE_ALONE, alone, columns_of
from storage.events.intake import EventKey
from storage.events.outbox import ClaimedEvent
from storage.quick import QuickConnections, QuickStatement

# One short reading of the index tells that there are few: of the claim for all stores half is planning and setting out
# for stores there are none of. The commit does not wait for the disk: should the server crash just then, the event is
# claimed again, under the same id while it is quiet; and in whatever workflow, the first match takes it. Of what is too
# much no row is locked: a batch that is claimed just then would pass over it.
_CLAIM = QuickStatement(f"""
WITH waiting AS MATERIALIZED (
    SELECT ctid AS place_on_disk FROM event WHERE matched_at IS NULL AND workflow_id IS NULL
    ORDER BY store_code, sequence LIMIT CAST(:most AS int) + 1
), few AS MATERIALIZED (
    SELECT ctid AS place_on_disk FROM event
    WHERE ctid = ANY(ARRAY(SELECT place_on_disk FROM waiting)) AND (SELECT count(*) FROM waiting) <= CAST(:most AS int)
        AND matched_at IS NULL AND workflow_id IS NULL
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE event SET claimed_until = clock_timestamp() + make_interval(secs => :lease),
        workflow_id = {OWN_WORKFLOW}
    WHERE ctid = ANY(ARRAY(SELECT place_on_disk FROM few)) RETURNING *
)
SELECT {EVENT_COLUMNS}, (SELECT count(*) FROM waiting) AS waiting, candidate.*
FROM (SELECT set_config('synchronous_commit', 'off', true)) AS looked
LEFT JOIN claimed AS event ON true
LEFT JOIN store ON store.code = event.store_code
LEFT JOIN LATERAL (
    SELECT row_number() OVER (ORDER BY subscription.created_at, subscription.id) AS place, {CANDIDATE_COLUMNS}
    FROM subscription LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
    WHERE subscription.store_code = event.store_code AND subscription.event_name = event.name
        AND subscription.deleted_at IS NULL
) AS candidate ON true
{BODY_UNLESS_ERASED} AND coalesce(candidate.place, 1) = 1
ORDER BY event.sequence, candidate.place
""")
"""A row for each subscription to an event's name, or one without; the body with the first."""
_BEFORE_CANDIDATE = EVENT_COLUMNS.count(",") + 3
"""Columns: the event's, how many wait, the subscription's place."""


def _take_and_create(made: str) -> QuickStatement:
    return QuickStatement(f"""
WITH taken AS (
    UPDATE event SET matched_at = clock_timestamp()
    WHERE store_code = :taken_from AND event_id = :taken AND erased_at IS NULL AND {UNMATCHED} RETURNING event_id
), made AS MATERIALIZED ({made} WHERE EXISTS (SELECT FROM taken)), intended AS ({INTENDED}), created AS ({CREATED})
SELECT count(*) FROM taken
""")


_TAKE_AND_CREATE = _take_and_create(MADE)
_TAKE_AND_CREATE_ONE = _take_and_create(MADE_ALONE)


@dataclass(frozen=True, slots=True)
class ReadAhead:
    """An event as it was when it was claimed, and the subscriptions to its name as they were then."""

    event: Any
    """A record of EVENT_COLUMNS."""
    candidates: Candidates
    planned: tuple[Sequence[tuple[Any, ...]], Sequence[OpenDelivery]] | None = None
    """What `deliveries_of` makes of them where all may begin; of an event that was claimed alone."""


@dataclass(frozen=True, slots=True)
class FewClaimed:
    """Events claimed each for a workflow of its own; what was read ahead of those that it may serve."""

    events: Sequence[ClaimedEvent]
    ahead: Mapping[EventKey, ReadAhead]


async def claim_few(quick: QuickConnections, most: int, *, lease_seconds: float) -> FewClaimed | None:
    """Claim what waits, each event for a workflow of its own; None when it is more than `most`, and nothing claimed."""
    rows = await quick.fetch(_CLAIM, {"most": most, "lease": lease_seconds})
    if rows[0]["waiting"] > most:
        return None
    by_event: dict[EventKey, list[Any]] = defaultdict(list)
    for row in rows:
        if row["event_id"] is not None:
            by_event[row["store_code"], row["event_id"]].append(row)
    claimed = [
        ClaimedEvent(row["store_code"], row["event_id"], row["name"], row["workflow_id"], row["traceparent"])
        for row, *_ in by_event.values()
    ]
    ahead = {key: ReadAhead(rows[0], _candidates(rows)) for key, rows in by_event.items() if _may_serve(rows[0])}
    if len(by_event) == 1:
        ahead = {key: await _planned(read) for key, read in ahead.items()}
    return FewClaimed(claimed, ahead)


async def _planned(read: ReadAhead) -> ReadAhead:
    """With its deliveries: of a named event while Temporal starts its workflow, of others just before. A row so damaged
    that none can be made is reported by the activity that matches it, and ends nobody's claims."""
    try:
        return replace(read, planned=await deliveries_of([read.event], read.candidates, lambda _: True))
    except Exception:
        return read


def _may_serve(row: Any) -> bool:
    """Not of what is erased; and what an event tells of expiry is for the whole match to write."""
    return row["data"] is not None and kind_told(row["name"]) not in row["expiry_kinds_from_events"]


def _candidates(rows: Sequence[Any]) -> Candidates:
    found = []
    for row in rows:
        if row["place"] is not None:
            created_at, active_from, *facts = row[_BEFORE_CANDIDATE:]
            found.append((created_at, active_from, SubscriptionFacts(*facts)))
    return {(rows[0]["store_code"], rows[0]["name"]): found}


async def match_read(
    quick: QuickConnections, ahead: ReadAhead, *, worker_id: UUID, may_begin: MayBegin
) -> list[OpenDelivery] | None:
    """The match of one event in a single statement; None, and nothing done, when it was matched or erased meanwhile, or
    nobody is subscribed."""
    made, begun = await _as_planned(ahead, may_begin)
    if not made:
        return None
    values = {"taken_from": ahead.event["store_code"], "taken": ahead.event["event_id"], "worker_id": worker_id}
    if len(made) == 1:
        [[took]] = await quick.fetch(_TAKE_AND_CREATE_ONE, values | alone(made[0]))
    else:
        [[took]] = await quick.fetch(_TAKE_AND_CREATE, values | columns_of(made))
    return begun if took else None


async def _as_planned(ahead: ReadAhead, may_begin: MayBegin) -> tuple[Sequence[Any], list[OpenDelivery]]:
    """The deliveries as planned, if all of them may begin; else made anew."""
    if ahead.planned is None:
        return await deliveries_of([ahead.event], ahead.candidates, may_begin)
    made, begun = ahead.planned
    answers: dict[UUID, deque[bool]] = defaultdict(deque)  # a yes holds a place: it is asked for once
    for one in begun:
        if one.status == "pending":
            answers[one.subscription.id].append(may_begin(one.subscription.id))
    if all(map(all, answers.values())):
        return made, list(begun)
    return await deliveries_of([ahead.event], ahead.candidates, lambda one: answers[one].popleft())
