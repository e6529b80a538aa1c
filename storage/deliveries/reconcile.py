"""What should be kept by a workflow, for whoever looks whether one does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.mapping import all_as
from storage.operations.bulk_actions import WindowKind


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event with deliveries that wait for an attempt, and the workflows that are named as keeping them."""

    store_code: str
    event_id: UUID
    name: str
    workflow_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class RunningAct:
    """A recovery or backfill that has not ended."""

    id: UUID
    kind: WindowKind
    subscription_id: UUID
    url: str


@dataclass(frozen=True, slots=True)
class LookedAfter:
    """What needs nobody to restart it: the workers look for events that are not taken and for what is held."""

    untaken_events: int
    held_deliveries: int


# No index knows what is pending, since each delivery is for a moment: the table is read, once. A delivery names the
# workflow that is to keep it; until its batch has handed it on, the batch does, which the event names.
_KEPT = text("""
SELECT delivery.store_code, delivery.event_id, event_name AS name,
    array_remove(array_agg(DISTINCT delivery.workflow_id) || array_agg(DISTINCT event.workflow_id), NULL)
        AS workflow_ids
FROM delivery LEFT JOIN event ON event.store_code = delivery.store_code AND event.event_id = delivery.event_id
WHERE delivery.status = 'pending' AND variant <> 'test'
GROUP BY delivery.store_code, delivery.event_id, event_name ORDER BY min(event_sequence)
""")

_ACTS = text("""
SELECT act.id, act.kind, act.subscription_id, subscription.url
FROM window_act AS act JOIN subscription ON subscription.id = act.subscription_id
WHERE act.status = 'running' AND act.created_at <= clock_timestamp() - make_interval(secs => :at_least)
ORDER BY act.created_at, act.id
""")

_LOOKED_AFTER = text("""
SELECT (SELECT count(*) FROM event WHERE matched_at IS NULL) AS untaken_events,
    (SELECT count(*) FROM delivery WHERE status = 'held') AS held_deliveries
""")


async def kept_events(connection: AsyncConnection) -> list[KeptEvent]:
    """Every event of which a delivery waits for an attempt, oldest first."""
    return all_as(KeptEvent, await connection.execute(_KEPT))


async def running_acts(connection: AsyncConnection, *, at_least_seconds: float = 0.0) -> list[RunningAct]:
    """Every recovery and backfill that has been under way for so long, oldest first."""
    return all_as(_act, await connection.execute(_ACTS, {"at_least": at_least_seconds}))


def _act(kind: str, **others: Any) -> RunningAct:
    return RunningAct(kind=WindowKind(kind), **others)


async def looked_after(connection: AsyncConnection) -> LookedAfter:
    """How much waits for the workers themselves."""
    return LookedAfter(**(await connection.execute(_LOOKED_AFTER)).one()._asdict())
