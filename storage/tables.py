"""The tables. PostgreSQL holds facts; what is still to do waits in Temporal (or in a row that names its keeper).

Each class is one table; migrations in `storage/migrations` are what creates them, and a test compares the two.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Computed,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

TODAY = text("CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)")
NOT_ARRIVED = text("status IN ('exhausted', 'held') OR next_attempt_at IS NOT NULL")
UNMATCHED = text("matched_at IS NULL")
URL_HASH = text("hashtextextended(url, 0)")
"""In indexes instead of the URL, which may be longer than an index entry."""


def _instant(*, nullable: bool = False, default_now: bool = False) -> Any:
    """A timestamptz column; `default_now` takes the database's clock, so that instants of one database compare."""
    return Field(
        default=None,
        sa_column=Column(
            DateTime(timezone=True), nullable=nullable, server_default=func.clock_timestamp() if default_now else None
        ),
    )


class SubscriptionStatus(StrEnum):
    """Whether a subscription takes part in deliveries."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeliveryStatus(StrEnum):
    """Where a delivery stands; `delivered`, `exhausted` and `cancelled` are terminal."""

    PENDING = "pending"
    HELD = "held"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"


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
    created_at: datetime = _instant(default_now=True)


class Subscription(SQLModel, table=True):
    """One event name -> one URL. Header values and keys are stored encrypted (`storage/sealing.py`)."""

    __tablename__ = "subscription"

    id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, ForeignKey("store.code"), nullable=False))
    event_name: str = Field(sa_column=Column(Text, nullable=False))
    url: str = Field(sa_column=Column(Text, nullable=False))
    name: str | None = Field(default=None, sa_column=Column(Text))
    legacy: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    destination_type: str = Field(default="rest", sa_column=Column(Text, nullable=False, server_default="rest"))
    active_from: datetime | None = _instant(nullable=True)
    sealed_headers: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    """JSON [[name, value], …], encrypted; null when there are none."""
    hmac_enabled: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    sealed_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sealed_previous_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    previous_secret_until: datetime | None = _instant(nullable=True)
    signature_version: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    status: str = Field(default="active", sa_column=Column(Text, nullable=False, server_default="active"))
    status_reason: str | None = Field(default=None, sa_column=Column(Text))
    status_since: datetime = _instant(default_now=True)
    retry_schedule: list[int] | None = Field(default=None, sa_column=Column(ARRAY(Integer)))
    """Seconds after each failed attempt; null: the installation's schedule."""
    rate_limit_per_second: int | None = Field(default=None, sa_column=Column(Integer))
    max_concurrency: int | None = Field(default=None, sa_column=Column(Integer))
    ordered: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    order_key: str = Field(
        default="subscription", sa_column=Column(Text, nullable=False, server_default="subscription")
    )
    """subscription or customer: which of its deliveries wait for each other when it is ordered."""
    after_exhausted: str = Field(default="skip", sa_column=Column(Text, nullable=False, server_default="skip"))
    """skip or hold: what becomes of the successors of an exhausted one."""
    created_at: datetime = _instant(default_now=True)
    updated_at: datetime = _instant(default_now=True)
    deleted_at: datetime | None = _instant(nullable=True)

    __table_args__ = (
        Index("subscription_by_event", "store_code", "event_name", postgresql_where=text("deleted_at IS NULL")),
        Index("subscription_by_age", "store_code", "created_at", "id"),
    )


class SubscriptionTwin(SQLModel, table=True):
    """The modern twin of a legacy subscription; of one that is deleted another may be made."""

    __tablename__ = "subscription_twin"

    subscription_id: UUID = Field(sa_column=Column(ForeignKey("subscription.id"), primary_key=True))
    twin_id: UUID = Field(sa_column=Column(ForeignKey("subscription.id"), nullable=False))


class SubscriptionHealth(SQLModel, table=True):
    """How a subscription's receiver does; a row appears with its first failure. `breaker_opened_at` null: closed."""

    __tablename__ = "subscription_health"

    subscription_id: UUID = Field(primary_key=True)
    failures_in_row: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    failing_since: datetime | None = _instant(nullable=True)
    breaker_opened_at: datetime | None = _instant(nullable=True)
    probe_at: datetime | None = _instant(nullable=True)
    """When the keeper asks an unwell receiver again."""
    probe_interval_seconds: float | None = Field(default=None, sa_column=Column(Float))


OUTBOX_VACUUM = {
    "autovacuum_vacuum_cost_delay": "1",
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_threshold": "20000",
}
"""Frequent vacuum without pauses. Each event leaves entries in the index of unmatched events, and until a vacuum every
claim passes over them: after three minutes at 3,100 events/s a claim cost more than the events did."""


class Event(SQLModel, table=True):
    """The event log, which is also the outbox: a row with `matched_at` null has not been taken by its workflow.

    It outlives the event's body, so that an id that comes again is still known."""

    __tablename__ = "event"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    event_id: UUID = Field(primary_key=True)
    sequence: int = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), nullable=False))
    """Order of insertion; of each store the relay hands over in this order."""
    name: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = _instant()
    created_at_text: str = Field(sa_column=Column(Text, nullable=False))
    """`createdAt` as it stands in a modern body: as the emitter wrote it, or the instant of acceptance."""
    created_at_given: bool = Field(sa_column_kwargs={"server_default": text("false")})
    accepted_at: datetime = _instant(default_now=True)
    accepted_on: date = Field(
        default=None,
        sa_column=Column(
            Date, Computed("CAST(accepted_at AT TIME ZONE 'UTC' AS date)", persisted=True), nullable=False
        ),
    )
    """The UTC day its body and the attempts of its deliveries are filed under (`storage/events/daily_tables.py`)."""
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """SHA-256 over name and canonical data (secrets masked): whether a repeated id brings the same content."""
    traceparent: str | None = Field(default=None, sa_column=Column(Text))
    """The span it was emitted in, where that is recorded."""
    workflow_id: str | None = Field(default=None, sa_column=Column(Text))
    """Committed by the claim, before the workflow is started, and never changed: a repeated start uses this id."""
    claimed_until: datetime | None = _instant(nullable=True)
    matched_at: datetime | None = _instant(nullable=True)
    erased_at: datetime | None = _instant(nullable=True)
    """When its body was erased for its customer's sake, long before its time."""

    __table_args__ = (
        # Neither index names workflow_id or claimed_until: a claim adds no entry where the row's page has room. None is
        # by sequence alone: in it a store's first event that is not matched would be looked for behind all others.
        Index("event_unmatched", "store_code", "sequence", postgresql_where=UNMATCHED),
        Index("event_by_age", "store_code", "accepted_at", "event_id"),
        {"postgresql_with": OUTBOX_VACUUM},
    )


class Delivery(SQLModel, table=True):
    """One event × one subscription × one variant. Its id is the `messageId`, derived, so it is unique by itself."""

    __tablename__ = "delivery"

    message_id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    event_id: UUID
    event_name: str = Field(sa_column=Column(Text, nullable=False))
    event_sequence: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    """The event's place in the order of acceptance; what is held is let go in this order."""
    accepted_on: date = Field(default=None, sa_column=Column(Date, nullable=False, server_default=TODAY))
    """The event's: the day its body and the attempts are filed under."""
    subscription_id: UUID
    variant: str = Field(sa_column=Column(Text, nullable=False))
    url: str = Field(sa_column=Column(Text, nullable=False))
    """Where the last attempt went (or the first will go)."""
    status: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(default=None, sa_column=Column(Text))
    """Why it is held, exhausted or cancelled."""
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Number of the last attempt begun."""
    failures: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Failed automatic attempts of this round: the position in the retry schedule."""
    last_status_code: int | None = Field(default=None, sa_column=Column(Integer))
    last_failure: str | None = Field(default=None, sa_column=Column(Text))
    next_attempt_at: datetime | None = _instant(nullable=True)
    workflow_id: str | None = Field(default=None, sa_column=Column(Text))
    """Who keeps it while it is open."""
    window_act_id: UUID | None = None
    """The act that opened it last, if one did."""
    line: int | None = Field(default=None, sa_column=Column(BigInteger))
    """Of a subscription ordered by customer: whose deliveries wait for each other (`domain/delivery/ordering.py`)."""
    holds_line: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    """It is exhausted, and its successors wait for a person."""
    created_at: datetime = _instant(default_now=True)
    ended_at: datetime | None = _instant(nullable=True)

    __table_args__ = (
        Index("delivery_by_age", "store_code", "created_at", "message_id"),
        Index("delivery_by_event", "event_id"),
        # Retention looks for what stays of a day: what has not arrived, and has failed at least once or is held.
        Index("delivery_not_arrived", "accepted_on", postgresql_where=NOT_ARRIVED),
        # One index for every filter of the log (`storage/deliveries/log.py`): the few destinations (subscription and
        # URL) and statuses in it are found by skipping through it, and a page is merged from those that are asked for.
        # An index for each filter would cost an entry each at every insert and every change of status.
        Index("delivery_by_destination", "subscription_id", URL_HASH, "status", "created_at", "message_id"),
        # What a subscription's keeper looks after, in the order in which it lets it go.
        Index(
            "delivery_held", "subscription_id", "event_sequence", "message_id", postgresql_where=text("status = 'held'")
        ),
        # The first of each line is found by skipping through it, whatever the length of the lines.
        Index(
            "delivery_in_line",
            *("subscription_id", "line", "event_sequence", "message_id"),
            postgresql_where=text("status = 'held'"),
        ),
        Index(
            "delivery_holding_line", "subscription_id", "line", "event_sequence", postgresql_where=text("holds_line")
        ),
        Index("delivery_by_window_act", "window_act_id", "status", postgresql_where=text("window_act_id IS NOT NULL")),
        # Tests whose start got lost are looked for; there is hardly ever one.
        Index(
            "delivery_test_waiting",
            "created_at",
            postgresql_where=text("variant = 'test' AND status = 'pending'"),
        ),
    )


class WindowAct(SQLModel, table=True):
    """A person's act on a window of time of one subscription: recover what ended without success, or backfill what was
    accepted before it was there. The deliveries it opens go on as any others."""

    __tablename__ = "window_act"

    id: UUID = Field(primary_key=True)
    kind: str = Field(sa_column=Column(Text, nullable=False))
    """recover or backfill"""
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    subscription_id: UUID
    since: datetime = _instant()
    until: datetime = _instant()
    statuses: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    """Of the deliveries to recover; empty for a backfill."""
    rate_per_second: int | None = Field(default=None, sa_column=Column(Integer))
    paced_until: datetime | None = _instant(nullable=True)
    """Until then its rate allows no more to be opened."""
    count: int = Field(sa_column=Column(Integer, nullable=False))
    """Deliveries that matched when it was asked for."""
    opened: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Deliveries opened so far."""
    all_open: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    cursor_at: datetime | None = _instant(nullable=True)
    cursor_id: UUID | None = None
    """The last delivery (or event) dealt with; the next page begins behind it, so that each is opened once."""
    status: str = Field(default="running", sa_column=Column(Text, nullable=False, server_default="running"))
    """running, finished or cancelled"""
    created_at: datetime = _instant(default_now=True)
    ended_at: datetime | None = _instant(nullable=True)

    __table_args__ = (
        Index(
            "window_act_running",
            "subscription_id",
            unique=True,
            postgresql_where=text("status = 'running'"),
        ),
    )


class RejectedEmit(SQLModel, table=True):
    """An emit that was refused, kept for a week so that a missing event can be explained; nothing of its body."""

    __tablename__ = "rejected_emit"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    event_id: UUID = Field(primary_key=True)
    rejected_at: datetime = _instant(default_now=True)
    because: str = Field(sa_column=Column(Text, nullable=False))

    __table_args__ = (Index("rejected_emit_by_age", "rejected_at"),)


class WorkerProcess(SQLModel, table=True):
    """A worker process; `seen_at` is touched every second. An attempt's lease lives as long as its worker does."""

    __tablename__ = "worker"

    id: UUID = Field(primary_key=True)
    host: str = Field(sa_column=Column(Text, nullable=False))
    pid: int = Field(sa_column=Column(Integer, nullable=False))
    started_at: datetime = _instant(default_now=True)
    seen_at: datetime = _instant(default_now=True)
    steady_since: datetime = _instant(default_now=True)
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
    created_at: datetime = _instant(default_now=True)

    __table_args__ = (Index("idempotency_key_by_age", "created_at"),)


class AuditEntry(SQLModel, table=True):
    """Who changed what, when; secrets masked."""

    __tablename__ = "audit"

    id: int = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    at: datetime = _instant(default_now=True)
    store_code: str | None = Field(default=None, sa_column=Column(Text))
    actor: str = Field(sa_column=Column(Text, nullable=False))
    action: str = Field(sa_column=Column(Text, nullable=False))
    object_type: str = Field(sa_column=Column(Text, nullable=False))
    object_id: str = Field(sa_column=Column(Text, nullable=False))
    changes: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))

    __table_args__ = (Index("audit_by_store", "store_code", "id"),)
