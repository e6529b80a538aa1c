"""Counting attempts by minute and by hour, in the transaction that writes what came of them.

What is counted is what is recorded: a commit whose answer was lost is recorded again and counted twice, which is rare;
an attempt whose worker died is recorded as `interrupted` by others and not counted.
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
"""Of each table, once a minute and worker: more than a worker adds in a minute."""

UNMEASURED = -1


class AttemptOutcome(StrEnum):
    """What came of an attempt: for its delivery, not for its request."""

    DELIVERED = DeliveryStatus.DELIVERED
    FAILED = "failed"
    """It will be tried again."""
    GIVEN_UP = "given_up"


_OUTCOMES: Mapping[str, AttemptOutcome] = {
    DeliveryStatus.DELIVERED: AttemptOutcome.DELIVERED,
    DeliveryStatus.PENDING: AttemptOutcome.FAILED,
    DeliveryStatus.HELD: AttemptOutcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class CountedAttempt:
    """Whose attempt, what came of it, and its step of duration."""

    subscription_id: UUID
    outcome: AttemptOutcome
    step: int


def counted(attempts: Iterable[tuple[UUID, str, int | None]]) -> Counter[CountedAttempt]:
    """(subscription, status the delivery gets, milliseconds) of attempts -> how many there are of each kind."""
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
    INSERT INTO attempts_of_hour AS kept (subscription_id, hour, outcome, writer_id, count)
    SELECT id, date_trunc('hour', at, 'UTC'), outcome, :writer_id, sum(count) FROM given GROUP BY 1, 2, 3
    ON CONFLICT (subscription_id, hour, outcome, writer_id) DO UPDATE SET count = kept.count + excluded.count
)
INSERT INTO attempts_of_minute AS kept (store_code, minute, outcome, step, writer_id, count)
SELECT store_code, date_trunc('minute', at, 'UTC'), outcome, step, :writer_id, sum(count) FROM given GROUP BY 1, 2, 3, 4
ON CONFLICT (store_code, minute, outcome, step, writer_id) DO UPDATE SET count = kept.count + excluded.count
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
    """Add to the counts of this minute and hour."""
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
    """Delete what is older than anybody is shown."""
    for statement in _PRUNE:
        await connection.execute(statement)
