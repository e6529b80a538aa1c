"""Tables of subscriptions: format migration, receiver health, throttling, limiter leases, notices and draft tests."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from domain.delivery.lifecycle import SubscriptionStatus
from domain.delivery.notices import NoticeKind
from domain.delivery.ordering import AfterExhausted, OrderKey
from storage.columns import TableModel, counter, instant, member_of


class Subscription(TableModel, table=True):
    """One event name -> one URL. Header values and keys are stored encrypted (`storage/sealing.py`)."""

    __tablename__ = "subscription"

    id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, ForeignKey("store.code"), nullable=False))
    event_name: str = Field(sa_column=Column(Text, nullable=False))
    url: str = Field(sa_column=Column(Text, nullable=False))
    name: str | None = Field(default=None, sa_column=Column(Text))
    legacy: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    destination_type: str = Field(default="rest", sa_column=Column(Text, nullable=False, server_default="rest"))
    active_from: datetime | None = instant(nullable=True)
    sealed_headers: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    """JSON [[name, value], …], encrypted; null when there are none."""
    sealed_authentication: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    """JSON of `domain.wire.authentication`, encrypted; null when there is none."""
    certificate_expires_at: datetime | None = instant(nullable=True)
    """Expiry of the client certificate of the authentication; null when it has none."""
    hmac_enabled: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    sealed_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sealed_previous_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    previous_secret_until: datetime | None = instant(nullable=True)
    signature_version: int = counter()
    status: str = Field(
        default=SubscriptionStatus.ACTIVE,
        sa_column=Column(Text, nullable=False, server_default=SubscriptionStatus.ACTIVE.value),
    )
    status_reason: str | None = Field(default=None, sa_column=Column(Text))
    status_since: datetime = instant(default_now=True)
    retry_schedule: list[int] | None = Field(default=None, sa_column=Column(ARRAY(Integer)))
    """Delays in seconds after each failed attempt; null: the installation's schedule."""
    rate_limit_per_second: int | None = Field(default=None, sa_column=Column(Integer))
    max_concurrency: int | None = Field(default=None, sa_column=Column(Integer))
    timeout_seconds: int | None = Field(default=None, sa_column=Column(Integer))
    """Timeout of a whole request; null: the installation's."""
    ordered: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    order_key: OrderKey = Field(
        default="subscription", sa_column=Column(Text, nullable=False, server_default="subscription")
    )
    """Ordering key of an ordered subscription: `subscription` for one FIFO group, `customer` for one per customer."""
    after_exhausted: AfterExhausted = Field(
        default="skip", sa_column=Column(Text, nullable=False, server_default="skip")
    )
    """Treatment of the successors of an exhausted delivery: `skip` sends them, `hold` holds them."""
    created_at: datetime = instant(default_now=True)
    updated_at: datetime = instant(default_now=True)
    deleted_at: datetime | None = instant(nullable=True)

    __table_args__ = (
        Index("subscription_by_event", "store_code", "event_name", postgresql_where=text("deleted_at IS NULL")),
        Index("subscription_by_age", "store_code", "created_at", "id"),
    )


class FormatMigrationPair(TableModel, table=True):
    """The modern subscription of a legacy one; a deleted one may be replaced by another."""

    __tablename__ = "format_migration"

    subscription_id: UUID = Field(sa_column=Column(ForeignKey("subscription.id"), primary_key=True))
    modern_id: UUID = Field(sa_column=Column(ForeignKey("subscription.id"), nullable=False))


class SubscriptionHealth(TableModel, table=True):
    """Health of a subscription's receiver; created by the first failure. `breaker_opened_at` null: closed."""

    __tablename__ = "subscription_health"

    subscription_id: UUID = Field(primary_key=True)
    failures_in_row: int = counter()
    failing_since: datetime | None = instant(nullable=True)
    breaker_opened_at: datetime | None = instant(nullable=True)
    probe_at: datetime | None = instant(nullable=True)
    """Instant of the next probe of an unhealthy receiver by the drain."""
    probe_interval_seconds: float | None = Field(default=None, sa_column=Column(Float))
    last_failed_id: UUID | None = None
    """The delivery whose attempt failed last; its row has the receiver's answer."""


class SubscriptionThrottle(TableModel, table=True):
    """Adaptive throttling of a subscription whose receiver has responded with 429."""

    __tablename__ = "subscription_throttle"

    subscription_id: UUID = Field(primary_key=True)
    rests_until: datetime | None = instant(nullable=True)
    """Instant before which nothing is sent, by the receiver's `Retry-After`."""
    slowed_to: float | None = Field(default=None, sa_column=Column(Float))
    """Requests a second after the last 429; the rate recovers with time (`domain/delivery/throttling.py`)."""
    slowed_at: datetime | None = instant(nullable=True)
    slowed_until: datetime | None = instant(nullable=True)


class LimiterLeaseRow(TableModel, table=True):
    """The one worker that applies a subscription's limits, as long as it renews the lease."""

    __tablename__ = "limiter_lease"

    subscription_id: UUID = Field(primary_key=True)
    worker_id: UUID
    seen_at: datetime = instant(default_now=True)


class NoticeRow(TableModel, table=True):
    """Occurrences of one kind at a subscription within a minute, written in the transaction in which they happened."""

    __tablename__ = "notice"

    id: UUID = Field(primary_key=True)
    """The `webhook-id`."""
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    subscription_id: UUID
    kind: NoticeKind = member_of(NoticeKind)
    minute: datetime = instant()
    count: int = counter(1)
    reasons: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    first_at: datetime = instant()
    last_at: datetime = instant()
    due_at: datetime | None = instant(nullable=True)
    """Instant of the webhook's next attempt; null: there is none."""
    attempts: int = counter()
    sent_at: datetime | None = instant(nullable=True)
    last_failure: str | None = Field(default=None, sa_column=Column(Text))
    """Failure kind of the last attempt; null together with `sent_at`: there was no attempt."""
    mail_due_at: datetime | None = instant(nullable=True)
    """Instant of the mail's next attempt; not used without a mail server in the settings."""
    mail_attempts: int = counter()
    mailed_at: datetime | None = instant(nullable=True)

    __table_args__ = (
        Index("notice_of_minute", "subscription_id", "kind", "minute", unique=True),
        Index("notice_due", "store_code", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("notice_mail_due", "store_code", "mail_due_at", postgresql_where=text("mail_due_at IS NOT NULL")),
        Index("notice_by_age", "minute"),
    )


class DraftTest(TableModel, table=True):
    """One draft test, that is, a test of an unsaved webhook. Its secrets are deleted once it was sent."""

    __tablename__ = "draft_test"

    id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    event_name: str = Field(sa_column=Column(Text, nullable=False))
    url: str = Field(sa_column=Column(Text, nullable=False))
    legacy: bool = Field(sa_column=Column(Boolean, nullable=False))
    sealed_headers: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sealed_authentication: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sealed_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    signature_version: int = Field(sa_column=Column(Integer, nullable=False))
    timeout_seconds: int | None = Field(default=None, sa_column=Column(Integer))
    created_at: datetime = instant(default_now=True)
    begun_at: datetime | None = instant(nullable=True)
    """Set by the one worker that sends it."""
    sent_headers: list[list[str]] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """Name and value of each header, secrets masked; set with the fields below once there is a result."""
    sent_body: str | None = Field(default=None, sa_column=Column(Text))
    duration_ms: int | None = Field(default=None, sa_column=Column(Integer))
    status_code: int | None = Field(default=None, sa_column=Column(Integer))
    failure: str | None = Field(default=None, sa_column=Column(Text))
    detail: str | None = Field(default=None, sa_column=Column(Text))
    response_excerpt: str | None = Field(default=None, sa_column=Column(Text))

    __table_args__ = (Index("draft_test_by_age", "store_code", "created_at"),)
