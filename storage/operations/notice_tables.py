"""Whom a store wants to be told, and what there is to tell: one notice a subscription, kind and minute."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Column, DateTime, ForeignKey, Index, Integer, LargeBinary, Text, func, text
from sqlmodel import Field, SQLModel

WEBHOOK_DUE = text("due_at IS NOT NULL")
MAIL_DUE = text("mail_due_at IS NOT NULL")


def _instant(*, nullable: bool = False, default_now: bool = False) -> Any:
    """A timestamptz column; `default_now` takes the database's clock."""
    default = func.clock_timestamp() if default_now else None
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=nullable, server_default=default))


def _count(default: str) -> Any:
    return Field(default=int(default), sa_column=Column(Integer, nullable=False, server_default=default))


class StoreOperator(SQLModel, table=True):
    """Where a store's operational webhooks go, and the key that signs them. No row: nowhere."""

    __tablename__ = "store_operator"

    store_code: str = Field(sa_column=Column(Text, ForeignKey("store.code"), primary_key=True))
    url: str = Field(sa_column=Column(Text, nullable=False))
    sealed_secret: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed_previous_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    previous_secret_until: datetime | None = _instant(nullable=True)


class NoticeRow(SQLModel, table=True):
    """What happened to a subscription within a minute; written in the transaction in which it happened."""

    __tablename__ = "notice"

    id: UUID = Field(primary_key=True)
    """The `webhook-id`."""
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    subscription_id: UUID
    kind: str = Field(sa_column=Column(Text, nullable=False))
    minute: datetime = _instant()
    count: int = _count("1")
    reasons: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    first_at: datetime = _instant()
    last_at: datetime = _instant()
    due_at: datetime | None = _instant(nullable=True)
    """When the webhook is to be sent (again); null: never (again)."""
    attempts: int = _count("0")
    sent_at: datetime | None = _instant(nullable=True)
    last_failure: str | None = Field(default=None, sa_column=Column(Text))
    """Failure kind of the last attempt; with neither this nor `sent_at` there was none."""
    mail_due_at: datetime | None = _instant(nullable=True)
    """The same of the mail; without a mail server in the settings nobody looks at it."""
    mail_attempts: int = _count("0")
    mailed_at: datetime | None = _instant(nullable=True)

    __table_args__ = (
        Index("notice_of_minute", "subscription_id", "kind", "minute", unique=True),
        Index("notice_due", "store_code", "due_at", postgresql_where=WEBHOOK_DUE),
        Index("notice_mail_due", "store_code", "mail_due_at", postgresql_where=MAIL_DUE),
        Index("notice_by_age", "minute"),
    )
