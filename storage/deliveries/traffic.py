"""Counts of attempts by minute and by hour, written in the transaction that records their outcomes.

An outcome whose commit was not confirmed is recorded again and counted twice, which is rare. An attempt whose worker
died is closed as `interrupted` by another worker and not counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus
from domain.durations import step_of

MINUTES_KEPT_DAYS = 2
HOURS_KEPT_DAYS = 8
PRUNED_AT_ONCE = 2000
"""Maximum number of rows deleted per table, once a minute by each worker: more than a worker adds in a minute."""

UNMEASURED = -1


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


@dataclass(frozen=True, slots=True)
class CountedAttempt:
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


_COUNT = text("""
WITH given AS MATERIALIZED (
    SELECT subscription.id, subscription.store_code, given.outcome, given.step, given.count, now.at
    FROM unnest(CAST(:subscription_ids AS uuid[]), CAST(:outcomes AS text[]), CAST(:steps AS smallint[]),
        CAST(:counts AS int[])) AS given (subscription_id, outcome, step, count)
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
            ORDER BY {start} LIMIT {PRUNED_AT_ONCE} FOR UPDATE SKIP LOCKED))
    """)
    for table, start, days in (
        ("attempts_of_minute", "minute", MINUTES_KEPT_DAYS),
        ("attempts_of_hour", "hour", HOURS_KEPT_DAYS),
    )
]


async def count_attempts(connection: AsyncConnection, writer_id: UUID, counts: Mapping[CountedAttempt, int]) -> None:
    """Add to the counts of the current minute and hour."""
    if not counts:
        return
    await connection.execute(
        _COUNT,
        {
            "writer_id": writer_id,
            "subscription_ids": [one.subscription_id for one in counts],
            "outcomes": [one.outcome.value for one in counts],
            "steps": [one.step for one in counts],
            "counts": list(counts.values()),
        },
    )


async def forget_old_counts(connection: AsyncConnection) -> None:
    """Delete counts that are older than the longest span shown."""
    for statement in _PRUNE:
        await connection.execute(statement)
