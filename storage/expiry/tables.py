"""Tables of expiry: the rows from which the three scheduled events are generated, their imports, and scans.

Ids are the platform's. Each `…_due` index contains only rows that can expire, in the order in which a day is scanned:
by store, instant, id. It includes `imported_at`, so that late rows are found without reading the table.
"""

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, Index, LargeBinary, Numeric, Text, text
from sqlmodel import Field

from domain.expiry.calendar_days import TimeSpan
from domain.expiry.rows import Kind
from storage.columns import TableModel, counter, instant, member_of

TRANSFER_EXPIRES = "status = 'active' AND remaining_points IS DISTINCT FROM 0 AND expires_at IS NOT NULL"
"""An active transfer (both types add points) with remaining points, as far as known."""
LEVEL_EXPIRES = "level_id IS NOT NULL AND future_level_id IS NOT NULL AND recalculate_at IS NOT NULL"
COUPON_EXPIRES = "status = 'active' AND NOT used AND active_to IS NOT NULL"


def _words(*, primary_key: bool = False, nullable: bool = True) -> Any:
    return Field(default=None, sa_column=Column(Text, primary_key=primary_key, nullable=nullable))


def _due_index(name: str, instant: str, identity: str, condition: str) -> Index:
    columns = ("store_code", instant, identity)
    return Index(name, *columns, postgresql_where=text(condition), postgresql_include=["imported_at"])


def _size() -> Any:
    return Field(default=0, sa_column=Column(BigInteger, nullable=False))


class MemberColumns(TableModel):
    """Columns of the member that a row belongs to, and of the row's age."""

    customer_email: str | None = Field(default=None, sa_type=Text)
    customer_phone: str | None = Field(default=None, sa_type=Text)
    customer_loyalty_card_number: str | None = Field(default=None, sa_type=Text)
    customer_first_name: str | None = Field(default=None, sa_type=Text)
    customer_last_name: str | None = Field(default=None, sa_type=Text)
    updated_at: datetime = instant()
    """The platform's instant: of two writes the newer one wins."""
    imported_at: datetime = instant(default_now=True)
    """Instant since which the row expires at its present instant, by the database's clock.

    Later writes that change neither the instant nor the ability to expire do not move it."""


class PointTransfer(MemberColumns, table=True):
    """A transfer of points to a member; `expires_at` null: it does not expire."""

    __tablename__ = "point_transfer"

    store_code: str = _words(primary_key=True, nullable=False)
    transfer_id: UUID = Field(primary_key=True)
    customer_id: UUID
    account_id: UUID | None = None
    wallet_code: str | None = _words()
    points: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    """Without precision or scale, so that every digit is preserved."""
    remaining_points: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    type: str = _words(nullable=False)
    """add or p2p_add"""
    status: str = _words(nullable=False)
    """active, expired, cancelled or blocked"""
    expires_at: datetime | None = instant(nullable=True)

    __table_args__ = (_due_index("point_transfer_due", "expires_at", "transfer_id", TRANSFER_EXPIRES),)


class MemberLevel(MemberColumns, table=True):
    """A member's level, the next level, and the instant of recalculation."""

    __tablename__ = "member_level"

    store_code: str = _words(primary_key=True, nullable=False)
    customer_id: UUID = Field(primary_key=True)
    level_id: UUID | None = None
    level_name: str | None = _words()
    future_level_id: UUID | None = None
    future_level_name: str | None = _words()
    recalculate_at: datetime | None = instant(nullable=True)

    __table_args__ = (_due_index("member_level_due", "recalculate_at", "customer_id", LEVEL_EXPIRES),)


class IssuedCoupon(MemberColumns, table=True):
    """A coupon issued to a member. Its code is a secret and encrypted (`storage/sealing.py`)."""

    __tablename__ = "issued_coupon"

    store_code: str = _words(primary_key=True, nullable=False)
    issued_coupon_id: UUID = Field(primary_key=True)
    customer_id: UUID
    reward_id: UUID | None = None
    sealed_code: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    status: str = _words(nullable=False)
    """inactive, active, expired or cancelled"""
    used: bool
    active_to: datetime | None = instant(nullable=True)

    __table_args__ = (_due_index("issued_coupon_due", "active_to", "issued_coupon_id", COUPON_EXPIRES),)


class ExpiryImport(TableModel, table=True):
    """Progress of a file import, written in the transaction of the rows, so that it resumes exactly."""

    __tablename__ = "expiry_import"

    store_code: str = _words(primary_key=True, nullable=False)
    kind: str = _words(primary_key=True, nullable=False)
    file_sha256: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    position_bytes: int = _size()
    """Position in the file; everything before it is stored or rejected."""
    position_line: int = _size()
    rows: int = _size()
    written: int = _size()
    """Rows written; the others were older than the stored ones, or duplicates."""
    rejected: int = _size()
    rejects_bytes: int = _size()
    """Length of the rejects file at that position."""
    started_at: datetime = instant(default_now=True)
    finished_at: datetime | None = instant(nullable=True)


class ExpiryCoverage(TableModel, table=True):
    """The interval of expiry that a store's schedule of a kind has scanned.

    Manual scans do not count: they may cover any interval and do not affect the schedule.
    """

    __tablename__ = "expiry_coverage"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    kind: str = Field(sa_column=Column(Text, primary_key=True))
    covered_from: datetime = instant()
    covered_until: datetime = instant()
    """Start of the next scan."""
    rows_seen_until: datetime = instant()
    """Rows imported later (`imported_at`) may be late: possibly no scan has seen them."""

    @property
    def interval(self) -> TimeSpan:
        return TimeSpan(self.covered_from, self.covered_until)


class Origin(StrEnum):
    """Origin of a scan: the schedule, a person, or the check for late rows."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    LATE = "late"


class ExpiryScan(TableModel, table=True):
    """One scan: of a day, scheduled or manual, or of the whole coverage for late rows.

    Position and counts are written in the transactions of the events, so that it resumes exactly.
    """

    __tablename__ = "expiry_scan"

    id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    kind: Kind = member_of(Kind)
    origin: Origin = member_of(Origin)
    day: date | None = Field(default=None, sa_column=Column(Date))
    """Day of expiry; null for late rows."""
    timezone: str = Field(sa_column=Column(Text, nullable=False))
    starts_at: datetime = instant()
    ends_at: datetime = instant()
    imported_after: datetime | None = instant(nullable=True)
    """Only rows that came to expire at their instant after this; null: all."""
    sees_until: datetime = instant()
    """Every row imported before this was visible when the scan began."""
    workflow_id: str = Field(sa_column=Column(Text, nullable=False))
    position_at: datetime = instant()
    position_id: UUID = Field(default=None, nullable=False)
    """Instant and id of the last row scanned: a keyset cursor."""
    scanned: int = counter(type_=BigInteger)
    """Due rows."""
    emitted: int = counter(type_=BigInteger)
    known: int = counter(type_=BigInteger)
    """Rows whose notice existed already."""
    dropped: int = counter(type_=BigInteger)
    """Rows that were no longer due when their notice was to be emitted."""
    refused: int = counter(type_=BigInteger)
    """Rows without a valid event."""
    started_at: datetime = instant(default_now=True)
    advanced_at: datetime = instant(default_now=True)
    finished_at: datetime | None = instant(nullable=True)

    @property
    def interval(self) -> TimeSpan:
        return TimeSpan(self.starts_at, self.ends_at)

    @property
    def seconds(self) -> float:
        """Duration so far, by the database's clock."""
        return ((self.finished_at or self.advanced_at) - self.started_at).total_seconds()

    @property
    def emitted_per_second(self) -> float:
        """Events emitted per second so far; 0 at the beginning."""
        return self.emitted / self.seconds if self.seconds > 0 else 0.0

    __table_args__ = (Index("expiry_scan_by_age", "store_code", "kind", "started_at"),)
