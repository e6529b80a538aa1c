"""Inputs and outputs of bulk actions, recover and backfill (wire contract, section 5)."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field

from api.body import WHOLE, Input, Output
from api.instants import Instant
from api.subscriptions.models import RATE_MOST_PER_SECOND
from domain.delivery.lifecycle import DeliveryStatus
from storage.operations.bulk_actions import BulkActionProgress

Recoverable = Literal[DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED]


def _exhausted() -> list[Recoverable]:
    return [DeliveryStatus.EXHAUSTED]


RatePerSecond = Annotated[int, Field(ge=1, le=RATE_MOST_PER_SECOND), WHOLE]


class RecoverRequest(Input):
    """Which deliveries to open again: created from `since` until before `until`, by default now."""

    since: Instant
    until: Instant | None = None
    statuses: list[Recoverable] = Field(default_factory=_exhausted, min_length=1, max_length=3)
    rate_per_second: RatePerSecond | None = None
    dry_run: bool = False


class BackfillRequest(Input):
    """Which events to make deliveries of: accepted from `since` until before `until`, by default now."""

    since: Instant
    until: Instant | None = None
    rate_per_second: RatePerSecond | None = None
    dry_run: bool = False


class RecoverBegun(Output):
    """A recovery and how many deliveries it opens again; `recoverId` is null after a dry run."""

    recover_id: UUID | None
    count: int


class BackfillBegun(Output):
    """A backfill and how many events it makes deliveries of; `backfillId` is null after a dry run."""

    backfill_id: UUID | None
    count: int


class BulkActionOut(Output):
    """How far a recovery or backfill is. `opened` of `count` deliveries are open or have ended again since.

    `done` of them have: `delivered`, or `failedAgain` (cancelled ones too). `waiting` are still open: they wait for
    their turn or for a retry. A delivery that a later recovery opened is counted there. `status` is running, finished
    (each has been attempted) or cancelled.
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
        """The answer, with the act's id under its own name."""
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
    """How far a recovery is."""

    recover_id: UUID


class BackfillOut(BulkActionOut):
    """How far a backfill is."""

    backfill_id: UUID
