"""Tables of deliveries: the deliveries, their attempts, attempts counted by minute and hour, and bulk actions.

Attempts are counted as they are recorded, so that the cost of a dashboard does not depend on the length of the log.
Each worker process writes its own rows of counts, so that two workers never wait for each other.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, Date, DateTime, Index, Integer, LargeBinary, SmallInteger, Text, text
from sqlmodel import Field

from domain.delivery.lifecycle import DeliveryStatus
from domain.wire.bodies import TEST
from storage.columns import TableModel, counter, in_list, instant
from storage.events.tables import BY_DAY

TODAY = text("CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)")


def where(condition: str) -> dict[str, Any]:
    """Return the argument that makes an index partial."""
    return {"postgresql_where": text(condition)}


NOT_ARRIVED = where(
    f"status IN {in_list((DeliveryStatus.EXHAUSTED, DeliveryStatus.HELD))} OR next_attempt_at IS NOT NULL"
)
HELD = where(f"status = '{DeliveryStatus.HELD}'")
RETRYING = where(f"status = '{DeliveryStatus.PENDING}' AND next_attempt_at IS NOT NULL")
RUNNING = "status = 'running'"
"""Condition of a running bulk action."""
URL_HASH = text("hashtextextended(url, 0)")
"""Replaces the URL in indexes, because a URL may be longer than an index entry."""


class Delivery(TableModel, table=True):
    """One event × one subscription × one variant. Its id, the `messageId`, is derived from these."""

    __tablename__ = "delivery"

    message_id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    event_id: UUID
    event_name: str = Field(sa_column=Column(Text, nullable=False))
    event_sequence: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    """The event's position in the order of acceptance, in which held deliveries are sent."""
    accepted_on: date = Field(default=None, sa_column=Column(Date, nullable=False, server_default=TODAY))
    """Day of the event's acceptance: the partition day of its body and of the attempts."""
    subscription_id: UUID
    variant: str = Field(sa_column=Column(Text, nullable=False))
    url: str = Field(sa_column=Column(Text, nullable=False))
    """URL of the last attempt, or of the first one to come."""
    status: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(default=None, sa_column=Column(Text))
    """Reason why it is held, exhausted or cancelled."""
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Number of the last attempt whose outcome is recorded; once recovered, of the last one begun before."""
    failures: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Failed automatic attempts since it was created or recovered: the position in the retry schedule."""
    last_status_code: int | None = Field(default=None, sa_column=Column(Integer))
    last_failure: str | None = Field(default=None, sa_column=Column(Text))
    next_attempt_at: datetime | None = instant(nullable=True)
    not_before: datetime | None = instant(nullable=True)
    """Instant before which the receiver wants no attempt (`Retry-After` of the last one); null: it asked for none.

    A probe skips the schedule (`next_attempt_at`) but never this; "send now" skips both."""
    workflow_id: str | None = Field(default=None, sa_column=Column(Text))
    """Workflow that owns it while it is open: of its first attempts, or the drain of its subscription."""
    retry_id: str | None = Field(default=None, sa_column=Column(Text))
    """Id of the standalone activity that owns its later attempts; null before it is needed and while it is held.

    Committed before the activity is started, so that a repeated start uses the same id."""
    bulk_action_id: UUID | None = None
    """The bulk action that opened it last, if any."""
    ordering_key: int | None = Field(default=None, sa_column=Column(BigInteger))
    """FIFO group, if the subscription is ordered by customer (`domain/delivery/ordering.py`)."""
    holds_group: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    """Exhausted, with successors that wait for a person's decision."""
    created_at: datetime = instant(default_now=True)
    ended_at: datetime | None = instant(nullable=True)

    __table_args__ = (
        Index("delivery_by_age", "store_code", "created_at", "message_id"),
        Index("delivery_by_event", "event_id"),
        # Retention finds the deliveries of a day that stay: not delivered, and either held or failed at least once.
        Index("delivery_not_arrived", "accepted_on", **NOT_ARRIVED),
        # One index for every filter of the log (`storage/deliveries/log.py`): a skip scan finds its few destinations
        # (subscription and URL) and statuses, and a page is merged from the selected ones. An index for each filter
        # would cost an entry each at every insert and every change of status.
        Index("delivery_by_destination", "subscription_id", URL_HASH, "status", "created_at", "message_id"),
        # Retries of standalone activities by their instant: how many fall due in a second, and which are overdue.
        Index("delivery_retry_due", "next_attempt_at", **RETRYING),
        Index("delivery_retry_by_subscription", "subscription_id", **RETRYING),
        # Held deliveries by their due instant, so that reading the due ones skips all others. Deliveries that were
        # never attempted have none and sort last.
        Index("delivery_held_due", "subscription_id", "next_attempt_at", "event_sequence", "message_id", **HELD),
        # A subscription's held deliveries in the order of acceptance: for probes, its only FIFO group, and ending them.
        Index("delivery_held", "subscription_id", "event_sequence", "message_id", **HELD),
        # A skip scan finds the first delivery of each FIFO group, independent of the length of the groups.
        Index("delivery_by_ordering_key", "subscription_id", "ordering_key", "event_sequence", "message_id", **HELD),
        Index("delivery_holding_group", "subscription_id", "ordering_key", "event_sequence", **where("holds_group")),
        Index("delivery_by_bulk_action", "bulk_action_id", "status", **where("bulk_action_id IS NOT NULL")),
        # Tests whose start was lost; there is hardly ever one.
        Index(
            "delivery_test_waiting",
            "created_at",
            **where(f"variant = '{TEST}' AND status = '{DeliveryStatus.PENDING}'"),
        ),
    )


class Attempt(TableModel, table=True):
    """One HTTP request of a delivery. `outcome_at` null: in flight, or its worker died before recording an outcome."""

    __tablename__ = "attempt"

    accepted_on: date = Field(sa_column=Column(Date, primary_key=True))
    """Partition day, the same as the delivery's."""
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
    """Description of the failure; for a redirect, its target."""
    response_excerpt: str | None = Field(default=None, sa_column=Column(Text))
    body_sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    signed_at: int | None = Field(default=None, sa_column=Column(BigInteger))
    """Timestamp of the signatures in Unix seconds, by the worker's clock; null: the request was not signed."""

    __table_args__ = BY_DAY


class AttemptsOfMinute(TableModel, table=True):
    """A store's attempts with an outcome within a minute, by outcome and duration step."""

    __tablename__ = "attempts_of_minute"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    minute: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    outcome: str = Field(sa_column=Column(Text, primary_key=True))
    """`delivered`; `failed`, which will be retried; `given_up`."""
    step: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    """Duration step of `domain.durations`; -1 if no duration was measured."""
    writer_id: UUID = Field(primary_key=True)
    count: int = Field(sa_column=Column(Integer, nullable=False))

    __table_args__ = (Index("attempts_of_minute_by_age", "minute"),)


class AttemptsOfHour(TableModel, table=True):
    """A subscription's attempts with an outcome within an hour."""

    __tablename__ = "attempts_of_hour"

    subscription_id: UUID = Field(primary_key=True)
    hour: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    outcome: str = Field(sa_column=Column(Text, primary_key=True))
    writer_id: UUID = Field(primary_key=True)
    count: int = Field(sa_column=Column(Integer, nullable=False))

    __table_args__ = (Index("attempts_of_hour_by_age", "hour"),)


class BulkAction(TableModel, table=True):
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
    opened: int = counter()
    """Deliveries opened so far."""
    all_open: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    cursor_at: datetime | None = instant(nullable=True)
    cursor_id: UUID | None = None
    """The last delivery (or event) processed; the next page begins behind it, so that each is opened once."""
    status: str = Field(default="running", sa_column=Column(Text, nullable=False, server_default="running"))
    """running, finished or cancelled"""
    created_at: datetime = instant(default_now=True)
    ended_at: datetime | None = instant(nullable=True)

    __table_args__ = (Index("bulk_action_running", "subscription_id", unique=True, postgresql_where=text(RUNNING)),)
