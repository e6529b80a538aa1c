"""What is sent and answered about acts (wire contract, section 5)."""

from typing import Literal
from uuid import UUID

from pydantic import Field

from api.body import Input, Output
from api.instants import Instant

Recoverable = Literal["exhausted", "cancelled", "delivered"]


def _exhausted() -> list[Recoverable]:
    return ["exhausted"]


class SentTest(Output):
    """The delivery in which to see what came of the test."""

    message_id: UUID


class RecoverRequest(Input):
    """Which deliveries to open again: created from `since` until before `until`, by default now."""

    since: Instant
    until: Instant | None = None
    statuses: list[Recoverable] = Field(default_factory=_exhausted, min_length=1, max_length=3)
    dry_run: bool = False


class RecoverBegun(Output):
    """A recovery and how many deliveries it opens again; `recoverId` is null after a dry run."""

    recover_id: UUID | None
    count: int


class RecoverOut(Output):
    """A recovery: `done` of `count` deliveries are open again. `status` is running, finished or cancelled."""

    recover_id: UUID
    webhook_subscription_id: UUID
    status: str
    done: int
    count: int
