"""What expires when: the rows the three scheduled events are generated from, and how far an import of them has come.

Ids are the platform's. Each `…_due` index holds only rows that can expire, in the order a day is scanned: one store,
by instant, then id. It carries `imported_at` too, so that late rows are told without reading the table.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, Numeric, Text, func, text
from sqlmodel import Field, SQLModel

TRANSFER_EXPIRES = "status = 'active' AND remaining_points IS DISTINCT FROM 0 AND expires_at IS NOT NULL"
"""An active transfer (both types add points) of which something remains, as far as is known."""
LEVEL_EXPIRES = "level_id IS NOT NULL AND future_level_id IS NOT NULL AND recalculate_at IS NOT NULL"
COUPON_EXPIRES = "status = 'active' AND NOT used AND active_to IS NOT NULL"


def _instant(*, nullable: bool = False, default_now: bool = False) -> Any:
    """A timestamptz column; `default_now` takes the database's clock."""
    default = func.clock_timestamp() if default_now else None
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=nullable, server_default=default))


def _words(*, primary_key: bool = False, nullable: bool = True) -> Any:
    return Field(default=None, sa_column=Column(Text, primary_key=primary_key, nullable=nullable))


def _due_index(name: str, instant: str, identity: str, condition: str) -> Index:
    return Index(
        name,
        "store_code",
        instant,
        identity,
        postgresql_where=text(condition),
        postgresql_include=["imported_at"],
    )


class PointTransfer(SQLModel, table=True):
    """A transfer of points to a member, which expires or does not (`expires_at` null)."""

    __tablename__ = "point_transfer"

    store_code: str = _words(primary_key=True, nullable=False)
    transfer_id: UUID = Field(primary_key=True)
    customer_id: UUID
    account_id: UUID | None = None
    wallet_code: str | None = _words()
    points: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    """Without precision or scale: what was given is kept to the last digit."""
    remaining_points: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    type: str = _words(nullable=False)
    """add or p2p_add"""
    status: str = _words(nullable=False)
    """active, expired, cancelled or blocked"""
    expires_at: datetime | None = _instant(nullable=True)
    customer_email: str | None = _words()
    customer_phone: str | None = _words()
    customer_loyalty_card_number: str | None = _words()
    customer_first_name: str | None = _words()
    customer_last_name: str | None = _words()
    updated_at: datetime = _instant()
    """The platform's: of two writings the newer wins."""
    imported_at: datetime = _instant(default_now=True)
    """When the row came to expire at its present instant, by the database's clock; later writings that leave both the
    instant and the readiness to expire as they were do not move it."""

    __table_args__ = (_due_index("point_transfer_due", "expires_at", "transfer_id", TRANSFER_EXPIRES),)


class MemberLevel(SQLModel, table=True):
    """A member's level, the one that follows, and when it is reckoned anew."""

    __tablename__ = "member_level"

    store_code: str = _words(primary_key=True, nullable=False)
    customer_id: UUID = Field(primary_key=True)
    level_id: UUID | None = None
    level_name: str | None = _words()
    future_level_id: UUID | None = None
    future_level_name: str | None = _words()
    recalculate_at: datetime | None = _instant(nullable=True)
    customer_email: str | None = _words()
    customer_phone: str | None = _words()
    customer_loyalty_card_number: str | None = _words()
    customer_first_name: str | None = _words()
    customer_last_name: str | None = _words()
    updated_at: datetime = _instant()
    imported_at: datetime = _instant(default_now=True)

    __table_args__ = (_due_index("member_level_due", "recalculate_at", "customer_id", LEVEL_EXPIRES),)


class IssuedCoupon(SQLModel, table=True):
    """A coupon issued to a member. Its code is a secret: encrypted (`storage/sealing.py`)."""

    __tablename__ = "issued_coupon"

    store_code: str = _words(primary_key=True, nullable=False)
    issued_coupon_id: UUID = Field(primary_key=True)
    customer_id: UUID
    reward_id: UUID | None = None
    sealed_code: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    status: str = _words(nullable=False)
    """inactive, active, expired or cancelled"""
    used: bool
    active_to: datetime | None = _instant(nullable=True)
    customer_email: str | None = _words()
    customer_phone: str | None = _words()
    customer_loyalty_card_number: str | None = _words()
    customer_first_name: str | None = _words()
    customer_last_name: str | None = _words()
    updated_at: datetime = _instant()
    imported_at: datetime = _instant(default_now=True)

    __table_args__ = (_due_index("issued_coupon_due", "active_to", "issued_coupon_id", COUPON_EXPIRES),)


class ExpiryImport(SQLModel, table=True):
    """How far an import of a file has come: written in the transaction of the rows, so that it resumes exactly."""

    __tablename__ = "expiry_import"

    store_code: str = _words(primary_key=True, nullable=False)
    kind: str = _words(primary_key=True, nullable=False)
    file_sha256: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    position_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    """Of the file; everything before it is either stored or rejected."""
    position_line: int = Field(sa_column=Column(BigInteger, nullable=False))
    rows: int = Field(sa_column=Column(BigInteger, nullable=False))
    written: int = Field(sa_column=Column(BigInteger, nullable=False))
    """Of the rows; the others were older than what was there, or given twice."""
    rejected: int = Field(sa_column=Column(BigInteger, nullable=False))
    rejects_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    """Length of the rejects file at that position."""
    started_at: datetime = _instant(default_now=True)
    finished_at: datetime | None = _instant(nullable=True)
