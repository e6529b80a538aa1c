"""Tables of operations: stores and their operators, notices, bulk actions, draft tests, workers, idempotency keys."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from storage.table_fields import instant

WEBHOOK_DUE = text("due_at IS NOT NULL")
MAIL_DUE = text("mail_due_at IS NOT NULL")


def _count(default: str) -> Any:
    return Field(default=int(default), sa_column=Column(Integer, nullable=False, server_default=default))


class Store(SQLModel, table=True):
    """A tenant, named by its code."""

    __tablename__ = "store"

    code: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = Field(sa_column=Column(Text, nullable=False))
    timezone: str = Field(default="UTC", sa_column=Column(Text, nullable=False, server_default="UTC"))
    expire_points_notification_days: int = Field(
        default=10, sa_column=Column(Integer, nullable=False, server_default="10")
    )
    expire_levels_notification_days: int = Field(
        default=10, sa_column=Column(Integer, nullable=False, server_default="10")
    )
    expire_coupons_notification_days: int = Field(
        default=10, sa_column=Column(Integer, nullable=False, server_default="10")
    )
    expiry_kinds_from_events: list[str] = Field(
        default_factory=list, sa_column=Column(ARRAY(Text), nullable=False, server_default="{}")
    )
    """Of points, levels, coupons: those whose rows are also kept up to date from this store's events."""
    retention_days: int | None = Field(default=None, sa_column=Column(Integer))
    """How long bodies, deliveries and attempts stay; null: as the settings say."""
    retention_exhausted_days: int | None = Field(default=None, sa_column=Column(Integer))
    """The same of events that did not arrive everywhere."""
    created_at: datetime = instant(default_now=True)


class StoreOperator(SQLModel, table=True):
    """Where a store's operational webhooks go, and the key that signs them. No row: nowhere."""

    __tablename__ = "store_operator"

    store_code: str = Field(sa_column=Column(Text, ForeignKey("store.code"), primary_key=True))
    url: str = Field(sa_column=Column(Text, nullable=False))
    sealed_secret: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed_previous_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    previous_secret_until: datetime | None = instant(nullable=True)


class NoticeRow(SQLModel, table=True):
    """What happened to a subscription within a minute; written in the transaction in which it happened."""

    __tablename__ = "notice"

    id: UUID = Field(primary_key=True)
    """The `webhook-id`."""
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    subscription_id: UUID
    kind: str = Field(sa_column=Column(Text, nullable=False))
    minute: datetime = instant()
    count: int = _count("1")
    reasons: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    first_at: datetime = instant()
    last_at: datetime = instant()
    due_at: datetime | None = instant(nullable=True)
    """When the webhook is to be sent (again); null: never (again)."""
    attempts: int = _count("0")
    sent_at: datetime | None = instant(nullable=True)
    last_failure: str | None = Field(default=None, sa_column=Column(Text))
    """Failure kind of the last attempt; with neither this nor `sent_at` there was none."""
    mail_due_at: datetime | None = instant(nullable=True)
    """The same of the mail; without a mail server in the settings nobody looks at it."""
    mail_attempts: int = _count("0")
    mailed_at: datetime | None = instant(nullable=True)

    __table_args__ = (
        Index("notice_of_minute", "subscription_id", "kind", "minute", unique=True),
        Index("notice_due", "store_code", "due_at", postgresql_where=WEBHOOK_DUE),
        Index("notice_mail_due", "store_code", "mail_due_at", postgresql_where=MAIL_DUE),
        Index("notice_by_age", "minute"),
    )


class BulkAction(SQLModel, table=True):
    """A person's act on a window of time of one subscription: recover what ended without success, or backfill what was
    accepted before it was there. The deliveries it opens go on as any others."""

    __tablename__ = "bulk_action"

    id: UUID = Field(primary_key=True)
    kind: str = Field(sa_column=Column(Text, nullable=False))
    """recover or backfill"""
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    subscription_id: UUID
    since: datetime = instant()
    until: datetime = instant()
    statuses: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    """Of the deliveries to recover; empty for a backfill."""
    rate_per_second: int | None = Field(default=None, sa_column=Column(Integer))
    paced_until: datetime | None = instant(nullable=True)
    """Until then its rate allows no more to be opened."""
    count: int = Field(sa_column=Column(Integer, nullable=False))
    """Deliveries that matched when it was asked for."""
    opened: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Deliveries opened so far."""
    all_open: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    cursor_at: datetime | None = instant(nullable=True)
    cursor_id: UUID | None = None
    """The last delivery (or event) dealt with; the next page begins behind it, so that each is opened once."""
    status: str = Field(default="running", sa_column=Column(Text, nullable=False, server_default="running"))
    """running, finished or cancelled"""
    created_at: datetime = instant(default_now=True)
    ended_at: datetime | None = instant(nullable=True)

    __table_args__ = (
        Index(
            "bulk_action_running",
            "subscription_id",
            unique=True,
            postgresql_where=text("status = 'running'"),
        ),
    )


class DraftTest(SQLModel, table=True):
    """One test of a draft, that is, of a webhook that is not saved. Its secrets are deleted once it was sent."""

    __tablename__ = "draft_test"

    id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    event_name: str = Field(sa_column=Column(Text, nullable=False))
    url: str = Field(sa_column=Column(Text, nullable=False))
    legacy: bool = Field(sa_column=Column(Boolean, nullable=False))
    sealed_headers: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sealed_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    signature_version: int = Field(sa_column=Column(Integer, nullable=False))
    created_at: datetime = instant(default_now=True)
    begun_at: datetime | None = instant(nullable=True)
    """Set by the one worker that sends it."""
    sent_headers: list[list[str]] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """Name and value, secrets masked; with all that follows set once there is a result."""
    sent_body: str | None = Field(default=None, sa_column=Column(Text))
    duration_ms: int | None = Field(default=None, sa_column=Column(Integer))
    status_code: int | None = Field(default=None, sa_column=Column(Integer))
    failure: str | None = Field(default=None, sa_column=Column(Text))
    detail: str | None = Field(default=None, sa_column=Column(Text))
    response_excerpt: str | None = Field(default=None, sa_column=Column(Text))

    __table_args__ = (Index("draft_test_by_age", "store_code", "created_at"),)


class WorkerProcess(SQLModel, table=True):
    """A worker process; `seen_at` is touched every second. An attempt's lease lives as long as its worker does."""

    __tablename__ = "worker"

    id: UUID = Field(primary_key=True)
    host: str = Field(sa_column=Column(Text, nullable=False))
    pid: int = Field(sa_column=Column(Integer, nullable=False))
    started_at: datetime = instant(default_now=True)
    seen_at: datetime = instant(default_now=True)
    steady_since: datetime = instant(default_now=True)
    """Since when it was seen without a gap as long as a lease: while no worker is steady, the database was away."""


class IdempotencyKey(SQLModel, table=True):
    """What a create call with the header `Idempotency-Key` made, so that the same call again makes nothing more."""

    __tablename__ = "idempotency_key"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    actor: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """SHA-256 of the call's body."""
    object_id: UUID
    created_at: datetime = instant(default_now=True)

    __table_args__ = (Index("idempotency_key_by_age", "created_at"),)
