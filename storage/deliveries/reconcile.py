"""Work that should have a running workflow, for `reconcile`, which checks that it does."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus
from storage.deliveries.bulk_actions import BulkActionKind
from storage.mapping import all_as


@dataclass(frozen=True, slots=True)
class RunningBulkAction:
    """A recovery or backfill that has not ended."""

    id: UUID
    kind: BulkActionKind
    subscription_id: UUID
    url: str


@dataclass(frozen=True, slots=True)
class LookedAfter:
    """Work that the workers find by themselves: unclaimed events and held deliveries."""

    untaken_events: int
    held_deliveries: int


_RUNNING = text("""
SELECT action.id, action.kind, action.subscription_id, subscription.url
FROM bulk_action AS action JOIN subscription ON subscription.id = action.subscription_id
WHERE action.status = 'running' AND action.created_at <= clock_timestamp() - make_interval(secs => :at_least)
ORDER BY action.created_at, action.id
""")

_LOOKED_AFTER = text(f"""
SELECT (SELECT count(*) FROM event WHERE matched_at IS NULL) AS untaken_events,
    (SELECT count(*) FROM delivery WHERE status = '{DeliveryStatus.HELD}') AS held_deliveries
""")


async def running_bulk_actions(
    connection: AsyncConnection, *, at_least_seconds: float = 0.0
) -> list[RunningBulkAction]:
    """Return the bulk actions that have been running for at least this time, oldest first."""
    return all_as(_bulk_action, await connection.execute(_RUNNING, {"at_least": at_least_seconds}))


def _bulk_action(kind: str, **others: Any) -> RunningBulkAction:
    return RunningBulkAction(kind=BulkActionKind(kind), **others)


async def looked_after(connection: AsyncConnection) -> LookedAfter:
    """Count the events and deliveries that the workers find by themselves."""
    return LookedAfter(**(await connection.execute(_LOOKED_AFTER)).one()._asdict())
