"""Figures of a store's dashboard. Their cost does not depend on the length of the log:

- outcomes and durations of attempts are counted when they are recorded (`storage/deliveries/traffic.py`);
- open deliveries are found by a skip scan of the log (`storage/deliveries/log.py`) and counted up to a limit.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import OPEN, DeliveryStatus
from storage.deliveries.log import branches, in_branch, use_indexes_in_order
from storage.deliveries.traffic import AttemptOutcome
from storage.listing import Condition, Operator
from storage.mapping import all_as
from storage.operations.workers import LEASE_SECONDS

COUNTED_OPEN = 10_000
"""Maximum number of open deliveries counted; the panel shows a larger number as "at least"."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Attempts with an outcome in the interval that begins at `start`, and the number of them in each duration step."""

    start: datetime
    delivered: int
    failed: int
    given_up: int
    steps: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Attempts of a time span: outcomes by interval, and the number of attempts in each duration step."""

    outcomes: Sequence[Outcomes]
    steps: Mapping[int, int]
    """Attempts by duration step (`domain/durations.py`)."""


@dataclass(frozen=True, slots=True)
class OpenDeliveries:
    """Open deliveries, counted up to COUNTED_OPEN."""

    pending: int
    held: int
    retrying: int
    """Number of them that have failed at least once."""
    oldest: datetime | None
    """Creation instant of the oldest."""

    @property
    def count(self) -> int:
        """Number of pending and held deliveries."""
        return self.pending + self.held


@dataclass(frozen=True, slots=True)
class FailingSubscription:
    """A subscription whose last attempt failed. `breaker_opened_at` set: its deliveries wait until `probe_at`."""

    id: UUID
    name: str | None
    event_name: str
    url: str
    status: str
    failures_in_row: int
    failing_since: datetime
    breaker_opened_at: datetime | None
    probe_at: datetime | None


@dataclass(frozen=True, slots=True)
class SubscriptionTraffic:
    """A subscription's attempts of the last 24 h; `failed` counts those that are retried and those given up."""

    id: UUID
    url: str
    delivered: int
    failed: int


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker process of the last days; `alive` while it holds its leases."""

    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    alive: bool


_BOUNDS = text("""
SELECT last - CAST(:span AS interval) + CAST(:width AS interval) AS first, last
FROM (SELECT date_bin(CAST(:width AS interval), now(), CAST(:origin AS timestamptz)) AS last) AS bounds
""")
_COUNTED = text("""
SELECT date_bin(CAST(:width AS interval), minute, CAST(:first AS timestamptz)) AS start, outcome, step,
    CAST(sum(count) AS bigint) AS attempts
FROM attempts_of_minute WHERE store_code = :store_code AND minute >= :first GROUP BY 1, 2, 3
""")

_FAILING = text("""
SELECT subscription.id, subscription.name, subscription.event_name, subscription.url, subscription.status,
    health.failures_in_row, health.failing_since, health.breaker_opened_at, health.probe_at
FROM subscription JOIN subscription_health AS health ON health.subscription_id = subscription.id
WHERE subscription.store_code = :store_code AND subscription.deleted_at IS NULL AND health.failing_since IS NOT NULL
ORDER BY health.breaker_opened_at IS NULL, health.failing_since, subscription.id LIMIT :most
""")

_TRAFFIC = text("""
SELECT subscription.id, subscription.url,
    CAST(coalesce(sum(counted.count) FILTER (WHERE counted.outcome = 'delivered'), 0) AS bigint) AS delivered,
    CAST(coalesce(sum(counted.count) FILTER (WHERE counted.outcome <> 'delivered'), 0) AS bigint) AS failed
FROM subscription JOIN attempts_of_hour AS counted ON counted.subscription_id = subscription.id
    AND counted.hour > now() - interval '24 hours'
WHERE subscription.store_code = :store_code AND subscription.deleted_at IS NULL
    AND (CAST(:ids AS uuid[]) IS NULL OR subscription.id = ANY(:ids))
GROUP BY subscription.id
""")

_WORKERS = text(f"""
SELECT host, pid, started_at, seen_at, seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds' AS alive
FROM worker ORDER BY seen_at DESC, started_at DESC LIMIT :most
""")

_ORIGIN = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


async def traffic(connection: AsyncConnection, store_code: str, *, span: timedelta, width: timedelta) -> Traffic:
    """Count the outcomes of the store's attempts by intervals of `width`, empty ones included, the current one last."""
    bounds = (await connection.execute(_BOUNDS, {"span": span, "width": width, "origin": _ORIGIN})).one()
    counts: dict[datetime, Counter[str]] = defaultdict(Counter)
    steps: dict[datetime, Counter[int]] = defaultdict(Counter)
    rows = await connection.execute(_COUNTED, {"store_code": store_code, "width": width, "first": bounds.first})
    for row in rows:
        counts[row.start][row.outcome] += row.attempts
        if row.step >= 0:
            steps[row.start][row.step] += row.attempts
    starts = [bounds.first + number * width for number in range((bounds.last - bounds.first) // width + 1)]
    outcomes = [
        Outcomes(
            start,
            counts[start][AttemptOutcome.DELIVERED],
            counts[start][AttemptOutcome.FAILED],
            counts[start][AttemptOutcome.GIVEN_UP],
            steps[start],
        )
        for start in starts
    ]
    return Traffic(outcomes, sum(steps.values(), Counter()))


async def open_deliveries(
    connection: AsyncConnection, store_code: str, subscription_id: UUID | None = None
) -> OpenDeliveries:
    """Count the open deliveries of the store or of one subscription.

    Turns bitmap scans off for the rest of the transaction.
    """
    await use_indexes_in_order(connection)
    conditions = [Condition("status", Operator.IN, OPEN)]
    if subscription_id is not None:
        conditions.append(Condition("webhookSubscriptionId", Operator.EQ, subscription_id))
    found = branches(store_code, conditions)
    each = in_branch(found, [], None, COUNTED_OPEN, "each")
    counted = (
        select(each.c.status, each.c.last_failure)
        .select_from(found.join(each, true()))
        .limit(COUNTED_OPEN)
        .subquery("counted")
    )
    oldest = in_branch(found, [], None, 1, "oldest", oldest_first=True)
    query = select(
        func.count().filter(counted.c.status == DeliveryStatus.PENDING).label(DeliveryStatus.PENDING),
        func.count().filter(counted.c.status == DeliveryStatus.HELD).label(DeliveryStatus.HELD),
        func.count().filter(counted.c.last_failure.is_not(None)).label("retrying"),
        select(func.min(oldest.c.created_at)).select_from(found.join(oldest, true())).scalar_subquery().label("oldest"),
    ).select_from(counted)
    return OpenDeliveries(**(await connection.execute(query)).one()._asdict())


async def failing_subscriptions(
    connection: AsyncConnection, store_code: str, *, most: int
) -> list[FailingSubscription]:
    """Return subscriptions whose last attempt failed: those with an open breaker first, then by duration of failure."""
    return all_as(FailingSubscription, await connection.execute(_FAILING, {"store_code": store_code, "most": most}))


async def traffic_of_day(
    connection: AsyncConnection, store_code: str, ids: Sequence[UUID] | None = None
) -> list[SubscriptionTraffic]:
    """Return the attempts of the last 24 h, to the hour, of subscriptions with attempts; `ids`: of these only."""
    values = {"store_code": store_code, "ids": None if ids is None else list(ids)}
    return all_as(SubscriptionTraffic, await connection.execute(_TRAFFIC, values))


async def seen_workers(connection: AsyncConnection, *, most: int) -> list[SeenWorker]:
    """Return the worker processes, last seen first. They work for all stores."""
    return all_as(SeenWorker, await connection.execute(_WORKERS, {"most": most}))
