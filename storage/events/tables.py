"""Tables of events: the event log, bodies, days thinned by retention, refused emits.

Tables that grow by every event are partitioned by day (`BY_DAY`), so that an old day is dropped instead of deleted. The
day is the UTC day on which the event was accepted: everything about an event lies in the partitions of one day, and an
attempt months later finds its number taken or free in the same place. `storage/events/days.py` makes and drops the
partitions.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Date,
    Identity,
    Index,
    LargeBinary,
    Text,
    text,
)
from sqlmodel import Field, SQLModel

from storage.table_fields import instant

UNMATCHED = text("matched_at IS NULL")

OUTBOX_VACUUM = {
    "autovacuum_vacuum_cost_delay": "1",
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_threshold": "20000",
}
"""Each event leaves entries in the index that claims begin at; until a vacuum every claim passes over them."""

BY_DAY: Any = {"postgresql_partition_by": "RANGE (accepted_on)"}


class Event(SQLModel, table=True):
    """The event log, which is also the outbox: a row with `matched_at` null has not been taken by its workflow.

    It outlives the event's body, so that an id that comes again is still known."""

    __tablename__ = "event"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    event_id: UUID = Field(primary_key=True)
    sequence: int = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), nullable=False))
    """Order of insertion; of each store the relay hands over in this order."""
    name: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = instant()
    created_at_text: str = Field(sa_column=Column(Text, nullable=False))
    """`createdAt` as it stands in a modern body: as the emitter wrote it, or the instant of acceptance."""
    created_at_given: bool = Field(sa_column_kwargs={"server_default": text("false")})
    accepted_at: datetime = instant(default_now=True)
    accepted_on: date = Field(
        default=None,
        sa_column=Column(
            Date, Computed("CAST(accepted_at AT TIME ZONE 'UTC' AS date)", persisted=True), nullable=False
        ),
    )
    """The UTC day its body and the attempts of its deliveries are filed under (`BY_DAY`)."""
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """SHA-256 over name and canonical data (secrets masked): whether a repeated id brings the same content."""
    traceparent: str | None = Field(default=None, sa_column=Column(Text))
    """The span it was emitted in, where that is recorded."""
    workflow_id: str | None = Field(default=None, sa_column=Column(Text))
    """Committed by the claim, before the workflow is started, and never changed: a repeated start uses this id."""
    claimed_until: datetime | None = instant(nullable=True)
    matched_at: datetime | None = instant(nullable=True)
    erased_at: datetime | None = instant(nullable=True)
    """When its body was erased for its customer's sake, long before its time."""

    __table_args__ = (
        # Neither index names workflow_id or claimed_until: a claim adds no entry where the row's page has room. None is
        # by sequence alone: in it a store's first event that is not matched would be looked for behind all others.
        Index("event_unmatched", "store_code", "sequence", postgresql_where=UNMATCHED),
        Index("event_by_age", "store_code", "accepted_at", "event_id"),
        {"postgresql_with": OUTBOX_VACUUM},
    )


class EventBody(SQLModel, table=True):
    """An event's data, apart from its row in the log: it goes when retention or an erasure takes it."""

    __tablename__ = "event_body"

    accepted_on: date = Field(sa_column=Column(Date, primary_key=True))
    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    event_id: UUID = Field(primary_key=True)
    data: str = Field(sa_column=Column(Text, nullable=False))
    """Compact exact JSON text; where the data has secrets they are masked here."""
    sealed_data: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    """The data with its secrets, encrypted; null when it has none."""

    __table_args__ = BY_DAY


class ThinnedDay(SQLModel, table=True):
    """A day that retention has been at: what it was measured by, so that it is not read again before there is a
    reason to. The row goes when nothing of the day is left."""

    __tablename__ = "thinned_day"

    accepted_on: date = Field(sa_column=Column(Date, primary_key=True))
    age_days: int
    """How old it was then."""
    rules: str = Field(sa_column=Column(Text, nullable=False))
    """How long each store kept things then."""
    cleared: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    """Its deliveries have been dealt with too."""


class RejectedEmit(SQLModel, table=True):
    """An emit that was refused, kept for a week so that a missing event can be explained; nothing of its body."""

    __tablename__ = "rejected_emit"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    event_id: UUID = Field(primary_key=True)
    rejected_at: datetime = instant(default_now=True)
    because: str = Field(sa_column=Column(Text, nullable=False))

    __table_args__ = (Index("rejected_emit_by_age", "rejected_at"),)
