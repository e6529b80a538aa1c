"""Bulk actions on a time window of one subscription: recover ended deliveries, backfill earlier events."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from api.bulk_actions.models import BackfillRequest, RecoverRequest
from api.errors import Conflict, Unavailable, existing, invalid
from api.refusals import temporal_call
from api.store_actions import StoreActions
from domain.delivery.lifecycle import SubscriptionStatus
from storage.deliveries.bulk_actions import (
    BulkActionKind,
    BulkActionProgress,
    BulkActionStatus,
    NewBulkAction,
    TimeWindow,
    begin_bulk_action,
    bulk_action_progress,
    count_missing,
    count_recoverable,
    end_bulk_action,
    running_bulk_action,
)
from storage.subscriptions.queries import SubscriptionRow

_NOUNS = {BulkActionKind.RECOVER: "recovery", BulkActionKind.BACKFILL: "backfill"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Requested bulk action: its kind, time window and maximum rate."""

    kind: BulkActionKind
    window: TimeWindow
    rate_per_second: int | None


def wanted_of(body: RecoverRequest | BackfillRequest) -> Wanted:
    """Return the requested action; the window ends now by default. Raises ValidationFailed for an empty window."""
    until = body.until or datetime.now(UTC)
    if until <= body.since:
        field, message = ("since", "must be past") if body.until is None else ("until", "must be later than since")
        raise invalid(field, "invalid_value", message)
    if isinstance(body, RecoverRequest):
        return Wanted(BulkActionKind.RECOVER, TimeWindow(body.since, until, body.statuses), body.rate_per_second)
    return Wanted(BulkActionKind.BACKFILL, TimeWindow(body.since, until), body.rate_per_second)


class BulkActions(StoreActions):
    """Bulk actions of one caller in one store."""

    async def count(self, subscription: SubscriptionRow, wanted: Wanted) -> int:
        """Return the number of deliveries the action would open. Raises Conflict if it could not begin."""
        _refuse(subscription, wanted)
        return await self.resources.database.run(self._count, subscription, wanted)

    async def begin(self, subscription: SubscriptionRow, wanted: Wanted) -> tuple[UUID, int]:
        """Begin the action. Return its id and the number of deliveries it opens. Raises Conflict."""
        _refuse(subscription, wanted)
        action_id = uuid4()
        async with self.resources.database.transaction() as connection:
            count = await self._count(connection, subscription, wanted)
            action = NewBulkAction(
                action_id, wanted.kind, self.store_code, subscription.id, wanted.window, wanted.rate_per_second, count
            )
            begun = await begin_bulk_action(connection, action)
            running = None if begun else await running_bulk_action(connection, subscription.id)
            if begun:
                await self._audit(connection, action)
        if running is not None:
            running_id, kind = running
            # The API may have crashed before it started the workflow. A repeated start has no effect.
            await self._start(kind, running_id, subscription)
            noun = _NOUNS[kind].capitalize()
            raise Conflict(f"{noun} {running_id} of this webhook is running; wait for its end, or cancel it.")
        if not begun:
            raise Conflict("Another bulk action on this webhook ended just now; try again.")
        try:
            await self._start(wanted.kind, action_id, subscription)
        except Unavailable:
            await self.resources.database.run(end_bulk_action, action_id, BulkActionStatus.CANCELLED)
            raise
        return action_id, count

    async def progress(self, action_id: UUID, kind: BulkActionKind) -> BulkActionProgress:
        """Return the progress of a bulk action. Raises NotFound."""
        return existing(await self.resources.database.run(bulk_action_progress, self.store_code, action_id, kind))

    async def cancel(self, action_id: UUID, kind: BulkActionKind) -> None:
        """Stop opening deliveries; those already open continue. Raises Conflict, NotFound."""
        async with self.resources.database.transaction() as connection:
            progress = existing(await bulk_action_progress(connection, self.store_code, action_id, kind))
            if not await end_bulk_action(connection, action_id, BulkActionStatus.CANCELLED):
                raise Conflict(f"The {_NOUNS[kind]} is {progress.status} already.")
            await self.record(connection, "cancel", kind, action_id)

    async def _count(self, connection: AsyncConnection, subscription: SubscriptionRow, wanted: Wanted) -> int:
        if wanted.kind is BulkActionKind.RECOVER:
            return await count_recoverable(connection, subscription.id, wanted.window)
        return await count_missing(connection, self.store_code, subscription.id, wanted.window)

    async def _start(self, kind: BulkActionKind, action_id: UUID, subscription: SubscriptionRow) -> None:
        async with temporal_call():
            await self.resources.starts.bulk_action(kind, action_id, subscription.id, subscription.url)

    async def _audit(self, connection: AsyncConnection, action: NewBulkAction) -> None:
        window = action.window
        changes: dict[str, object] = {
            f"{action.kind}Id": str(action.id),
            "count": action.count,
            "since": window.since.isoformat(),
            "until": window.until.isoformat(),
            "ratePerSecond": action.rate_per_second,
        }
        if window.statuses:
            changes["statuses"] = list(window.statuses)
        await self.record(connection, action.kind, "subscription", action.subscription_id, changes)


def _refuse(subscription: SubscriptionRow, wanted: Wanted) -> None:
    if subscription.status == SubscriptionStatus.DISABLED:
        raise Conflict("The webhook is disabled, so everything would end again at once; enable it first.")
    if subscription.ordered and wanted.rate_per_second is not None:
        raise Conflict("The webhook is ordered: its own rateLimitPerSecond applies; omit ratePerSecond.")
