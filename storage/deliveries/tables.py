"""Tables of deliveries: the deliveries, their attempts, and attempts counted by minute and hour.

Attempts are counted as they are recorded, so that a dashboard's figures cost the same however long the log is. A row of
counts belongs to the worker process that writes it: two workers never wait for each other's rows.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlmodel import Field, SQLModel

from domain.delivery.lifecycle import DeliveryStatus
from domain.wire.bodies import TEST
from storage.columns import in_list
from storage.events.tables import BY_DAY
from storage.table_fields import instant

TODAY = text("CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)")
NOT_ARRIVED = text(
    f"status IN {in_list((DeliveryStatus.EXHAUSTED, DeliveryStatus.HELD))} OR next_attempt_at IS NOT NULL"
)
HELD = text(f"status = '{DeliveryStatus.HELD}'")
RETRYING = text(f"status = '{DeliveryStatus.PENDING}' AND next_attempt_at IS NOT NULL")
URL_HASH = text("hashtextextended(url, 0)")
"""In indexes instead of the URL, which may be longer than an index entry."""


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
    """Number of the last attempt whose outcome is recorded."""
    failures: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Failed automatic attempts of this round: the position in the retry schedule."""
    last_status_code: int | None = Field(default=None, sa_column=Column(Integer))
    last_failure: str | None = Field(default=None, sa_column=Column(Text))
    next_attempt_at: datetime | None = instant(nullable=True)
    not_before: datetime | None = instant(nullable=True)
    """Instant before which the receiver wants no attempt (`Retry-After` of the last one); null: it has not said.

    A probe skips the schedule (`next_attempt_at`) and never this; a person's send-now skips both."""
    workflow_id: str | None = Field(default=None, sa_column=Column(Text))
    """Workflow that owns it while it is open: of its first attempts, or the drain of its subscription."""
    retry_id: str | None = Field(default=None, sa_column=Column(Text))
    """Id of the standalone activity that owns its later attempts; null before a first failure and while it is held.

    Committed before the activity is started, so that a repeated start uses the same id."""
    bulk_action_id: UUID | None = None
    """The act that opened it last, if one did."""
    ordering_key: int | None = Field(default=None, sa_column=Column(BigInteger))
    """Of a subscription ordered by customer: whose deliveries wait for each other (`domain/delivery/ordering.py`)."""
    holds_group: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    """It is exhausted, and its successors wait for a person."""
    created_at: datetime = instant(default_now=True)
    ended_at: datetime | None = instant(nullable=True)

    __table_args__ = (
        Index("delivery_by_age", "store_code", "created_at", "message_id"),
        Index("delivery_by_event", "event_id"),
        # Retention looks for what stays of a day: what has not arrived, and has failed at least once or is held.
        Index("delivery_not_arrived", "accepted_on", postgresql_where=NOT_ARRIVED),
        # One index for every filter of the log (`storage/deliveries/log.py`): the few destinations (subscription and
        # URL) and statuses in it are found by skipping through it, and a page is merged from those that are asked for.
        # An index for each filter would cost an entry each at every insert and every change of status.
        Index("delivery_by_destination", "subscription_id", URL_HASH, "status", "created_at", "message_id"),
        # Retries of standalone activities by their instant: how many fall due in a second, and which are overdue.
        Index("delivery_retry_due", "next_attempt_at", postgresql_where=RETRYING),
        Index("delivery_retry_by_subscription", "subscription_id", postgresql_where=RETRYING),
        # Held deliveries by their instant, so that a look at those that are due reads none that are not. Those that
        # were never attempted have none, and are together at the end.
        Index(
            "delivery_held_due",
            *("subscription_id", "next_attempt_at", "event_sequence", "message_id"),
            postgresql_where=HELD,
        ),
        # What a subscription's drain looks after, in the order in which it lets it go.
        Index("delivery_held", "subscription_id", "event_sequence", "message_id", postgresql_where=HELD),
        # The first of each FIFO group is found by skipping through it, whatever the length of the FIFO groups.
        Index(
            "delivery_by_ordering_key",
            *("subscription_id", "ordering_key", "event_sequence", "message_id"),
            postgresql_where=HELD,
        ),
        Index(
            "delivery_holding_group",
            "subscription_id",
            "ordering_key",
            "event_sequence",
            postgresql_where=text("holds_group"),
        ),
        Index(
            "delivery_by_bulk_action", "bulk_action_id", "status", postgresql_where=text("bulk_action_id IS NOT NULL")
        ),
        # Tests whose start got lost are looked for; there is hardly ever one.
        Index(
            "delivery_test_waiting",
            "created_at",
            postgresql_where=text(f"variant = '{TEST}' AND status = '{DeliveryStatus.PENDING}'"),
        ),
    )


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
    started_at: datetime = instant(default_now=True)
    outcome_at: datetime | None = instant(nullable=True)
    duration_ms: int | None = Field(default=None, sa_column=Column(Integer))
    status_code: int | None = Field(default=None, sa_column=Column(Integer))
    failure: str | None = Field(default=None, sa_column=Column(Text))
    detail: str | None = Field(default=None, sa_column=Column(Text))
    """What failed, in words; of a redirect, where to."""
    response_excerpt: str | None = Field(default=None, sa_column=Column(Text))
    body_sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))

    __table_args__ = BY_DAY


def _start() -> Any:
    return Field(sa_column=Column(DateTime(timezone=True), primary_key=True))


def _count() -> Any:
    return Field(sa_column=Column(Integer, nullable=False))


class AttemptsOfMinute(SQLModel, table=True):
    """A store's attempts that came to an outcome within a minute, by outcome and by step of their duration."""

    __tablename__ = "attempts_of_minute"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    minute: datetime = _start()
    outcome: str = Field(sa_column=Column(Text, primary_key=True))
    """`delivered`; `failed`, to be tried again; `given_up`."""
    step: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    """Of `domain.durations`; -1 where nothing was measured."""
    writer_id: UUID = Field(primary_key=True)
    count: int = _count()

    __table_args__ = (Index("attempts_of_minute_by_age", "minute"),)


class AttemptsOfHour(SQLModel, table=True):
    """A subscription's attempts that came to an outcome within an hour."""

    __tablename__ = "attempts_of_hour"

    subscription_id: UUID = Field(primary_key=True)
    hour: datetime = _start()
    outcome: str = Field(sa_column=Column(Text, primary_key=True))
    writer_id: UUID = Field(primary_key=True)
    count: int = _count()

    __table_args__ = (Index("attempts_of_hour_by_age", "hour"),)
