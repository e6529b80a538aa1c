"""The tables that grow by every event and are partitioned by day, so that an old day is dropped and not deleted.

The day is the UTC day on which the event was accepted: everything about an event lies in the partitions of one day, and
an attempt months later finds its number taken or free in the same place.
`storage/events/days.py` makes and drops partitions.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Date, DateTime, Integer, LargeBinary, Text, func, text
from sqlmodel import Field, SQLModel

BY_DAY: Any = {"postgresql_partition_by": "RANGE (accepted_on)"}


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


class Attempt(SQLModel, table=True):
    """One HTTP request of a delivery. `outcome_at` null: under way, or its worker died before it could say."""

    __tablename__ = "attempt"

    accepted_on: date = Field(sa_column=Column(Date, primary_key=True))
    """The delivery's."""
    message_id: UUID = Field(primary_key=True)
    number: int = Field(sa_column=Column(Integer, primary_key=True))
    request_id: UUID
    trigger: str = Field(sa_column=Column(Text, nullable=False))
    """automatic, manual or test"""
    worker_id: UUID
    legacy: bool
    """Format of the body sent."""
    started_at: datetime = Field(
        default=None,
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    )
    outcome_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    duration_ms: int | None = Field(default=None, sa_column=Column(Integer))
    status_code: int | None = Field(default=None, sa_column=Column(Integer))
    failure: str | None = Field(default=None, sa_column=Column(Text))
    detail: str | None = Field(default=None, sa_column=Column(Text))
    """What failed, in words; of a redirect, where to."""
    response_excerpt: str | None = Field(default=None, sa_column=Column(Text))
    body_sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))

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
