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
    """Kinds (points, levels, coupons) whose rows are also updated from this store's events."""
    retention_days: int | None = Field(default=None, sa_column=Column(Integer))
    """Retention of bodies, deliveries and attempts; null: the installation's setting applies."""
    retention_exhausted_days: int | None = Field(default=None, sa_column=Column(Integer))
    """Retention for events that were not delivered everywhere; null: the installation's setting applies."""
    created_at: datetime = instant(default_now=True)


class StoreOperator(SQLModel, table=True):
    """URL of a store's operational webhooks and the key that signs them. No row: none are sent."""

    __tablename__ = "store_operator"

    store_code: str = Field(sa_column=Column(Text, ForeignKey("store.code"), primary_key=True))
    url: str = Field(sa_column=Column(Text, nullable=False))
    sealed_secret: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed_previous_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    previous_secret_until: datetime | None = instant(nullable=True)


class NoticeRow(SQLModel, table=True):
    """Occurrences of one kind at a subscription within a minute, written in the transaction in which they happened."""

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
    """Instant of the webhook's next attempt; null: there is none."""
    attempts: int = _count("0")
    sent_at: datetime | None = instant(nullable=True)
    last_failure: str | None = Field(default=None, sa_column=Column(Text))
    """Failure kind of the last attempt; null together with `sent_at`: there was no attempt."""
    mail_due_at: datetime | None = instant(nullable=True)
    """Instant of the mail's next attempt; not used without a mail server in the settings."""
    mail_attempts: int = _count("0")
    mailed_at: datetime | None = instant(nullable=True)

    __table_args__ = (
        Index("notice_of_minute", "subscription_id", "kind", "minute", unique=True),
        Index("notice_due", "store_code", "due_at", postgresql_where=WEBHOOK_DUE),
        Index("notice_mail_due", "store_code", "mail_due_at", postgresql_where=MAIL_DUE),
        Index("notice_by_age", "minute"),
    )


class BulkAction(SQLModel, table=True):
    """A bulk action on a time window of one subscription.

    It recovers deliveries that ended without success, or backfills events accepted before the subscription was created.
    """

    __tablename__ = "bulk_action"

    id: UUID = Field(primary_key=True)
    kind: str = Field(sa_column=Column(Text, nullable=False))
    """recover or backfill"""
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    subscription_id: UUID
    since: datetime = instant()
    until: datetime = instant()
    statuses: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    """Statuses of the deliveries to recover; empty for a backfill."""
    rate_per_second: int | None = Field(default=None, sa_column=Column(Integer))
    paced_until: datetime | None = instant(nullable=True)
    """Instant until which its rate allows no further page."""
    count: int = Field(sa_column=Column(Integer, nullable=False))
    """Deliveries that matched when it was requested."""
    opened: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Deliveries opened so far."""
    all_open: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    cursor_at: datetime | None = instant(nullable=True)
    cursor_id: UUID | None = None
    """The last delivery (or event) processed; the next page begins behind it, so that each is opened once."""
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
    """One draft test, that is, a test of an unsaved webhook. Its secrets are deleted once it was sent."""

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
    """Instant since which it was seen without a gap of a lease. If no worker is steady, the database was away."""


class IdempotencyKey(SQLModel, table=True):
    """Object created by a call with the header `Idempotency-Key`, so that a repeated call creates nothing."""

    __tablename__ = "idempotency_key"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    actor: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """SHA-256 of the call's body."""
    object_id: UUID
    created_at: datetime = instant(default_now=True)

    __table_args__ = (Index("idempotency_key_by_age", "created_at"),)
