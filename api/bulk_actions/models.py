"""Requests and responses of the bulk actions recover and backfill (wire contract, section 5)."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field

from api.body import WHOLE, Input, Output
from api.instants import Instant
from api.subscriptions.models import RATE_MOST_PER_SECOND
from domain.delivery.lifecycle import DeliveryStatus
from storage.deliveries.bulk_actions import BulkActionProgress

Recoverable = Literal[DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED]


def _exhausted() -> list[Recoverable]:
    return [DeliveryStatus.EXHAUSTED]


RatePerSecond = Annotated[int, Field(ge=1, le=RATE_MOST_PER_SECOND), WHOLE]


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

    webhook_subscription_id: UUID
    status: str
    count: int
    opened: int
    done: int
    delivered: int
    failed_again: int
    waiting: int

    @classmethod
    def of(cls, found: BulkActionProgress, **identity: UUID) -> Self:
        """Return the response, with the id of the action under the name given by `identity`."""
        return cls(
            **identity,
            webhook_subscription_id=found.subscription_id,
            status=found.status,
            count=found.count,
            opened=found.opened,
            done=found.delivered + found.failed_again,
            delivered=found.delivered,
            failed_again=found.failed_again,
            waiting=found.waiting,
        )


class RecoverOut(BulkActionOut):
    """Progress of a recovery."""

    recover_id: UUID


class BackfillOut(BulkActionOut):
    """Progress of a backfill."""

    backfill_id: UUID
