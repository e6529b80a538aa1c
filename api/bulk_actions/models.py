"""Requests and responses of the bulk actions recover and backfill (wire contract, section 5)."""

from typing import Any, Literal, Self
from uuid import UUID

from pydantic import Field

from api.body import Input, Output
from api.instants import Instant
from api.subscriptions.models import RatePerSecond
from domain.delivery.lifecycle import DeliveryStatus
from storage.deliveries.bulk_actions import BulkActionStatus

Recoverable = Literal[DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED]


def _exhausted() -> list[Recoverable]:
    return [DeliveryStatus.EXHAUSTED]


class RecoverRequest(Input):
    """Deliveries to open again: created from `since` (inclusive) to `until` (exclusive; default: now)."""

    since: Instant
    until: Instant | None = None
    statuses: list[Recoverable] = Field(default_factory=_exhausted, min_length=1, max_length=3)
    rate_per_second: RatePerSecond | None = None
    dry_run: bool = False


class BackfillRequest(Input):
    """Events to deliver: accepted from `since` (inclusive) to `until` (exclusive; default: now)."""

    since: Instant
    until: Instant | None = None
    rate_per_second: RatePerSecond | None = None
    dry_run: bool = False


class RecoverBegun(Output):
    """A recovery and the number of deliveries it opens again; `recoverId` is null after a dry run."""

    recover_id: UUID | None
    count: int


class BackfillBegun(Output):
    """A backfill and the number of events it delivers; `backfillId` is null after a dry run."""

    backfill_id: UUID | None
    count: int


class BulkActionOut(Output):
    """Progress of a recovery or backfill, which has opened `opened` of `count` deliveries.

    `done` of these have ended: `delivered`, or `failedAgain` (including cancelled ones). `waiting` are still open and
    wait for their first attempt or a retry. A delivery that a later recovery opened counts there. `status` is running,
    finished (each delivery has been attempted) or cancelled.
    """

    webhook_subscription_id: UUID = Field(validation_alias="subscription_id")
    status: BulkActionStatus
    count: int
    opened: int
    done: int
    delivered: int
    failed_again: int
    waiting: int

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Build the response from a BulkActionProgress; `more` names the action's id."""
        return super().of(row, done=row.delivered + row.failed_again, **more)


class RecoverOut(BulkActionOut):
    """Progress of a recovery."""

    recover_id: UUID


class BackfillOut(BulkActionOut):
    """Progress of a backfill."""

    backfill_id: UUID
