"""What was scanned for things that expire: how far each store's schedule has come, and every single scan."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, DateTime, Index, Text, func
from sqlmodel import Field, SQLModel


def _instant(*, nullable: bool = False, default_now: bool = False) -> Any:
    """A timestamptz column; `default_now` takes the database's clock."""
    default = func.clock_timestamp() if default_now else None
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=nullable, server_default=default))


def _count() -> Any:
    return Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))


class ExpiryCoverage(SQLModel, table=True):
    """What a store's schedule of a kind has really scanned: everything that expires from one instant until another.

    Scans by hand do not count: they may lie anywhere, and the schedule goes on where it was.
    """

    __tablename__ = "expiry_coverage"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    kind: str = Field(sa_column=Column(Text, primary_key=True))
    covered_from: datetime = _instant()
    covered_until: datetime = _instant()
    """The next scan begins here."""
    rows_seen_until: datetime = _instant()
    """Rows imported later (`imported_at`) may be late ones: no scan need have seen them."""


class ExpiryScan(SQLModel, table=True):
    """One scan: of a day by the schedule or by hand, or of all that is covered for late rows. Its place and counts are
    written in the transactions of the events, so that it goes on exactly where it was."""

    __tablename__ = "expiry_scan"

    id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    origin: str = Field(sa_column=Column(Text, nullable=False))
    """schedule, manual or late"""
    day: date | None = Field(default=None, sa_column=Column(Date))
    """The day on which things expire; null for late rows."""
    timezone: str = Field(sa_column=Column(Text, nullable=False))
    starts_at: datetime = _instant()
    ends_at: datetime = _instant()
    imported_after: datetime | None = _instant(nullable=True)
    """Only rows that came to expire at their instant after this; null: all."""
    sees_until: datetime = _instant()
    """Every row imported before this could be seen when the scan began."""
    workflow_id: str = Field(sa_column=Column(Text, nullable=False))
    position_at: datetime = _instant()
    position_id: UUID
    """Instant and id of the last row scanned; the next lies behind."""
    scanned: int = _count()
    """Rows that were due."""
    emitted: int = _count()
    known: int = _count()
    """Rows whose notice there was already."""
    dropped: int = _count()
    """Rows no longer due when their notice was to be emitted."""
    refused: int = _count()
    """Rows of which no valid event could be made."""
    started_at: datetime = _instant(default_now=True)
    advanced_at: datetime = _instant(default_now=True)
    finished_at: datetime | None = _instant(nullable=True)

    __table_args__ = (Index("expiry_scan_by_age", "store_code", "kind", "started_at"),)
