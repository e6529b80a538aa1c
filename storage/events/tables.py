"""Tables of events: the event log, bodies, days thinned by retention, rejected events.

Tables that grow by every event are partitioned by the UTC day of the event's acceptance (`BY_DAY`,
`storage/events/days.py`), so that an old day is dropped instead of deleted. Body and attempts of an event lie in the
partitions of one day, so that the number of an attempt months later is unique in the same partition.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Computed, Date, Identity, Index, LargeBinary, Text, text
from sqlmodel import Field

from storage.columns import TableModel, instant

UNMATCHED = text("matched_at IS NULL")

OUTBOX_VACUUM = {
    "autovacuum_vacuum_cost_delay": "1",
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_threshold": "20000",
}
"""Frequent vacuum without pauses. Each event leaves entries in the index of unmatched events, and until a vacuum every
claim passes over them: after three minutes at 3,100 events/s a claim cost more than the events did."""

BY_DAY: Any = {"postgresql_partition_by": "RANGE (accepted_on)"}


class Event(TableModel, table=True):
    """The event log and, where `matched_at` is null, the outbox. Rows outlive bodies: repeated ids stay known."""

    __tablename__ = "event"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    event_id: UUID = Field(primary_key=True)
    sequence: int = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), nullable=False))
    """Order of insertion, in which the relay claims the events of a store."""
    name: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = instant()
    created_at_text: str = Field(sa_column=Column(Text, nullable=False))
    """`createdAt` of a modern body: the emitter's text, or the instant of acceptance."""
    created_at_given: bool = Field(sa_column_kwargs={"server_default": text("false")})
    accepted_at: datetime = instant(default_now=True)
    accepted_on: date = Field(
        default=None,
        sa_column=Column(
            Date, Computed("CAST(accepted_at AT TIME ZONE 'UTC' AS date)", persisted=True), nullable=False
        ),
    )
    """Partition day of its body and of its deliveries' attempts, in UTC (`BY_DAY`)."""
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """SHA-256 over name and canonical data (secrets masked), for comparison with an event of the same id."""
    traceparent: str | None = Field(default=None, sa_column=Column(Text))
    """Span in which it was emitted, if recorded."""
    workflow_id: str | None = Field(default=None, sa_column=Column(Text))
    """Committed by the claim, before the workflow is started, and never changed: a repeated start uses this id."""
    claimed_until: datetime | None = instant(nullable=True)
    matched_at: datetime | None = instant(nullable=True)
    erased_at: datetime | None = instant(nullable=True)
    """Instant at which its body was erased on its customer's request, before the end of its retention."""

    __table_args__ = (
        # Neither index contains workflow_id or claimed_until, so that a claim adds no entry if the row's page has room.
        # There is none by sequence only: finding a store's first unmatched event in it would pass over all others.
        Index("event_unmatched", "store_code", "sequence", postgresql_where=UNMATCHED),
        Index("event_by_age", "store_code", "accepted_at", "event_id"),
        {"postgresql_with": OUTBOX_VACUUM},
    )


class EventBody(TableModel, table=True):
    """An event's data, separate from its row in the log because retention and erasure delete it earlier."""

    __tablename__ = "event_body"

    accepted_on: date = Field(sa_column=Column(Date, primary_key=True))
    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    event_id: UUID = Field(primary_key=True)
    data: str = Field(sa_column=Column(Text, nullable=False))
    """Compact exact JSON text, secrets masked."""
    sealed_data: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    """The data with its secrets, encrypted; null if it has none."""

    __table_args__ = BY_DAY


class ThinnedDay(TableModel, table=True):
    """A day that retention has thinned, and by which rules; deleted when nothing of the day is left."""

    __tablename__ = "thinned_day"

    accepted_on: date = Field(sa_column=Column(Date, primary_key=True))
    age_days: int
    """Age of the day when it was thinned."""
    rules: str = Field(sa_column=Column(Text, nullable=False))
    """Retention of each store when the day was thinned, as JSON."""
    cleared: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    """True once its deliveries have been deleted too."""


class RejectedEmit(TableModel, table=True):
    """A rejected event, stored for a week without its body, so that a missing event can be explained."""

    __tablename__ = "rejected_emit"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    event_id: UUID = Field(primary_key=True)
    rejected_at: datetime = instant(default_now=True)
    because: str = Field(sa_column=Column(Text, nullable=False))

    __table_args__ = (Index("rejected_emit_by_age", "rejected_at"),)
