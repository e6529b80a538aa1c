"""What should be kept by a workflow, for whoever looks whether one does."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus
from storage.mapping import all_as
from storage.operations.bulk_actions import BulkActionKind


@dataclass(frozen=True, slots=True)
class RunningBulkAction:
    """A recovery or backfill that has not ended."""

    id: UUID
    kind: BulkActionKind
    subscription_id: UUID
    url: str


@dataclass(frozen=True, slots=True)
class LookedAfter:
    """What needs nobody to restart it: the workers look for events that are not taken and for what is held."""

    untaken_events: int
    held_deliveries: int


_ACTS = text("""
SELECT act.id, act.kind, act.subscription_id, subscription.url
FROM bulk_action AS act JOIN subscription ON subscription.id = act.subscription_id
WHERE act.status = 'running' AND act.created_at <= clock_timestamp() - make_interval(secs => :at_least)
ORDER BY act.created_at, act.id
""")

_LOOKED_AFTER = text(f"""
SELECT (SELECT count(*) FROM event WHERE matched_at IS NULL) AS untaken_events,
    (SELECT count(*) FROM delivery WHERE status = '{DeliveryStatus.HELD}') AS held_deliveries
""")


async def running_bulk_actions(
    connection: AsyncConnection, *, at_least_seconds: float = 0.0
) -> list[RunningBulkAction]:
    """Every recovery and backfill that has been under way for so long, oldest first."""
    return all_as(_act, await connection.execute(_ACTS, {"at_least": at_least_seconds}))


def _act(kind: str, **others: Any) -> RunningBulkAction:
    return RunningBulkAction(kind=BulkActionKind(kind), **others)


async def looked_after(connection: AsyncConnection) -> LookedAfter:
    """How much waits for the workers themselves."""
    return LookedAfter(**(await connection.execute(_LOOKED_AFTER)).one()._asdict())
