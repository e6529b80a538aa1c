"""Figures of a store's dashboard. Their cost does not depend on the length of the log:

- outcomes and durations of attempts are counted by minute and by hour, in the transaction that records the outcomes;
- open deliveries are found by a skip scan of the log (`storage/deliveries/log.py`) and counted up to a limit.

An outcome whose commit was not confirmed is recorded again and counted twice, which is rare. An attempt whose worker
died is closed as `interrupted` by another worker and not counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import OPEN, DeliveryStatus
from domain.durations import step_of
from storage.columns import by_column, unnest
from storage.deliveries.log import branches, in_branch, use_indexes_in_order
from storage.listing import Condition, Operator
from storage.mapping import all_as
from storage.operations.workers import LEASE_SECONDS

MINUTES_KEPT_DAYS = 2
HOURS_KEPT_DAYS = 8
COUNTS_PRUNED_AT_ONCE = 2000
"""Maximum number of rows deleted per table, once a minute by each worker: more than a worker adds in a minute."""

UNMEASURED = -1
"""Duration step of an attempt without a duration."""

WAITING_COUNTED = 1_000
"""Maximum number of waiting deliveries counted for each failing subscription of a list."""

COUNTED_OPEN = 10_000
"""Maximum number of open deliveries counted; the panel shows a larger number as "at least"."""


class AttemptOutcome(StrEnum):
    """Outcome of an attempt for its delivery, not for its request."""

    DELIVERED = DeliveryStatus.DELIVERED
    FAILED = "failed"
    """The delivery will be retried."""
    GIVEN_UP = "given_up"


_OUTCOMES: Mapping[str, AttemptOutcome] = {
    DeliveryStatus.DELIVERED: AttemptOutcome.DELIVERED,
    DeliveryStatus.PENDING: AttemptOutcome.FAILED,
    DeliveryStatus.HELD: AttemptOutcome.FAILED,
}


class CountedAttempt(NamedTuple):
    """Key of a count: subscription, outcome and duration step."""

    subscription_id: UUID
    outcome: AttemptOutcome
    step: int


def counted(attempts: Iterable[tuple[UUID, str, int | None]]) -> Counter[CountedAttempt]:
    """Count attempts by kind, given (subscription, new status of the delivery, milliseconds) of each."""
    alike = Counter(
        (subscription_id, status, UNMEASURED if duration_ms is None else step_of(duration_ms))
        for subscription_id, status, duration_ms in attempts
    )
    kinds: Counter[CountedAttempt] = Counter()
    for (subscription_id, status, step), count in alike.items():
        kinds[CountedAttempt(subscription_id, _OUTCOMES.get(status, AttemptOutcome.GIVEN_UP), step)] += count
    return kinds


class Outcomes(NamedTuple):
    """Attempts with an outcome in the interval that begins at `start`, and the number of them in each duration step."""

    start: datetime
    delivered: int
    failed: int
    given_up: int
    steps: Mapping[int, int]


class Traffic(NamedTuple):
    """Attempts of a time span: outcomes by interval, and their number in each step of `domain/durations.py`."""

    outcomes: Sequence[Outcomes]
    steps: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class OpenDeliveries:
    """Open deliveries, counted up to COUNTED_OPEN, and the creation of the oldest."""

    pending: int
    held: int
    retrying: int
    """Number of them that have failed at least once."""
    oldest: datetime | None

    @property
    def count(self) -> int:
        """Number of pending and held deliveries."""
        return self.pending + self.held


class FailingSubscription(NamedTuple):
    """A subscription whose last attempt failed. `breaker_opened_at` set: its deliveries wait for a probe."""

    id: UUID
    name: str | None
    event_name: str
    url: str
    status: str
    failures_in_row: int
    failing_since: datetime
    breaker_opened_at: datetime | None
    next_at: datetime | None
    """Instant of the next probe or retry, or now if it is due; None if no delivery waits."""
    waiting: int
    """Number of its open deliveries, counted up to WAITING_COUNTED."""
    last_failed_id: UUID | None
    """The delivery that failed last, with the receiver's answer; None once retention has removed it."""
    last_failure: str | None
    last_status_code: int | None


class SubscriptionTraffic(NamedTuple):
    """A subscription's attempts of the last 24 h; `failed` counts those that are retried and those given up."""

    id: UUID
    url: str
    delivered: int
    failed: int


class SeenWorker(NamedTuple):
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

_FAILING = text(f"""
WITH failing AS MATERIALIZED (
    SELECT subscription.id, subscription.name, subscription.event_name, subscription.url, subscription.status,
        health.failures_in_row, health.failing_since, health.breaker_opened_at, health.probe_at, health.last_failed_id
    FROM subscription JOIN subscription_health AS health ON health.subscription_id = subscription.id
    WHERE subscription.store_code = :store_code AND subscription.deleted_at IS NULL
        AND health.failing_since IS NOT NULL AND (CAST(:ids AS uuid[]) IS NULL OR subscription.id = ANY(:ids))
    ORDER BY health.breaker_opened_at IS NULL, health.failing_since, subscription.id LIMIT :most
)
SELECT failing.id, failing.name, failing.event_name, failing.url, failing.status, failures_in_row, failing_since,
    breaker_opened_at,
    CASE WHEN waiting.count > 0 THEN greatest(clock_timestamp(),
        CASE WHEN breaker_opened_at IS NULL THEN waiting.next_at ELSE probe_at END) END AS next_at,
    waiting.count AS waiting, failed.message_id AS last_failed_id, failed.last_failure, failed.last_status_code
FROM failing
CROSS JOIN LATERAL (
    SELECT count(*) AS count, min(next_attempt_at) AS next_at FROM (
        (SELECT next_attempt_at FROM delivery WHERE subscription_id = failing.id AND status = '{DeliveryStatus.HELD}'
            ORDER BY next_attempt_at, event_sequence, message_id LIMIT {WAITING_COUNTED})
        UNION ALL
        (SELECT next_attempt_at FROM delivery WHERE subscription_id = failing.id
            AND status = '{DeliveryStatus.PENDING}' AND next_attempt_at IS NOT NULL LIMIT {WAITING_COUNTED})
        LIMIT {WAITING_COUNTED}
    ) AS open
) AS waiting
LEFT JOIN delivery AS failed ON failed.message_id = failing.last_failed_id
ORDER BY breaker_opened_at IS NULL, failing_since, failing.id
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
    outcomes = []
    for start in starts:
        delivered, failed, given_up = (counts[start][outcome] for outcome in AttemptOutcome)
        outcomes.append(Outcomes(start, delivered, failed, given_up, steps[start]))
    return Traffic(outcomes, sum(steps.values(), Counter()))


async def open_deliveries(
    connection: AsyncConnection, store_code: str, subscription_id: UUID | None = None
) -> OpenDeliveries:
    """Count the store's or one subscription's open deliveries; turns bitmap scans off until the transaction ends."""
    await use_indexes_in_order(connection)
    conditions = [Condition("status", Operator.IN, OPEN)]
    if subscription_id is not None:
        conditions.append(Condition("webhookSubscriptionId", Operator.EQ, subscription_id))
    found = branches(store_code, conditions)
    each = in_branch(found, [], None, COUNTED_OPEN, "each")
    rows = select(each.c.status, each.c.last_failure).select_from(found.join(each, true())).limit(COUNTED_OPEN)
    counted = rows.subquery("counted")
    oldest = in_branch(found, [], None, 1, "oldest", oldest_first=True)
    query = select(
        func.count().filter(counted.c.status == DeliveryStatus.PENDING).label(DeliveryStatus.PENDING),
        func.count().filter(counted.c.status == DeliveryStatus.HELD).label(DeliveryStatus.HELD),
        func.count().filter(counted.c.last_failure.is_not(None)).label("retrying"),
        select(func.min(oldest.c.created_at)).select_from(found.join(oldest, true())).scalar_subquery().label("oldest"),
    ).select_from(counted)
    return OpenDeliveries(**(await connection.execute(query)).one()._asdict())


async def failing_subscriptions(
    connection: AsyncConnection, store_code: str, *, most: int, ids: Sequence[UUID] | None = None
) -> list[FailingSubscription]:
    """Return subscriptions whose last attempt failed: those with an open breaker first, then by duration of failure.

    `ids`: of these only.
    """
    values = {"store_code": store_code, "most": most, "ids": None if ids is None else list(ids)}
    return all_as(FailingSubscription, await connection.execute(_FAILING, values))


async def traffic_of_day(
    connection: AsyncConnection, store_code: str, ids: Sequence[UUID] | None = None
) -> list[SubscriptionTraffic]:
    """Return the attempts of the last 24 h, to the hour, of subscriptions with attempts; `ids`: of these only."""
    values = {"store_code": store_code, "ids": None if ids is None else list(ids)}
    return all_as(SubscriptionTraffic, await connection.execute(_TRAFFIC, values))


async def seen_workers(connection: AsyncConnection, *, most: int) -> list[SeenWorker]:
    """Return the worker processes, last seen first. They work for all stores."""
    return all_as(SeenWorker, await connection.execute(_WORKERS, {"most": most}))


_COUNT = text(f"""
WITH given AS MATERIALIZED (
    SELECT subscription.id, subscription.store_code, given.outcome, given.step, given.count, now.at
    FROM {unnest("given", "subscription_id uuid, outcome text, step smallint, count int")}
    JOIN subscription ON subscription.id = given.subscription_id
    CROSS JOIN (SELECT clock_timestamp() AS at) AS now
), hourly AS (
    INSERT INTO attempts_of_hour AS stored (subscription_id, hour, outcome, writer_id, count)
    SELECT id, date_trunc('hour', at, 'UTC'), outcome, :writer_id, sum(count) FROM given GROUP BY 1, 2, 3
    ON CONFLICT (subscription_id, hour, outcome, writer_id) DO UPDATE SET count = stored.count + excluded.count
)
INSERT INTO attempts_of_minute AS stored (store_code, minute, outcome, step, writer_id, count)
SELECT store_code, date_trunc('minute', at, 'UTC'), outcome, step, :writer_id, sum(count) FROM given GROUP BY 1, 2, 3, 4
ON CONFLICT (store_code, minute, outcome, step, writer_id) DO UPDATE SET count = stored.count + excluded.count
""")

_PRUNE = [
    text(f"""
        DELETE FROM {table} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {table} WHERE {start} < clock_timestamp() - make_interval(days => {days})
            ORDER BY {start} LIMIT {COUNTS_PRUNED_AT_ONCE} FOR UPDATE SKIP LOCKED))
    """)
    for table, start, days in (
        ("attempts_of_minute", "minute", MINUTES_KEPT_DAYS),
        ("attempts_of_hour", "hour", HOURS_KEPT_DAYS),
    )
]


async def count_attempts(connection: AsyncConnection, writer_id: UUID, counts: Mapping[CountedAttempt, int]) -> None:
    """Add to the counts of the current minute and hour."""
    if counts:
        columns = {**by_column(list(counts), "subscription_id, outcome, step"), "count": list(counts.values())}
        await connection.execute(_COUNT, {"writer_id": writer_id, **columns})


async def forget_old_counts(connection: AsyncConnection) -> None:
    """Delete counts that are older than the longest span shown."""
    for statement in _PRUNE:
        await connection.execute(statement)
