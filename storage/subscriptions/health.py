"""A receiver's health: failures in a row, the breaker that they open, and the success that closes it.

SQL text, because outcomes come for many subscriptions at once (`unnest`) and rows are locked in one order.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import BreakerRules
from domain.delivery.lifecycle import OPEN, DeliveryStatus
from storage.columns import in_list
from storage.deliveries.log import use_indexes_in_order
from storage.deliveries.skip_scan import BRANCHES, IN_BRANCH

_FAILED = text("""
INSERT INTO subscription_health AS health (subscription_id, failures_in_row, failing_since, breaker_opened_at, probe_at,
    probe_interval_seconds)
SELECT id, count, clock_timestamp(), opened, opened + make_interval(secs => :first),
    CASE WHEN opened IS NOT NULL THEN CAST(:first AS float8) END
FROM (
    SELECT id, count, CASE WHEN count >= :failures THEN clock_timestamp() END AS opened
    FROM unnest(CAST(:ids AS uuid[]), CAST(:counts AS int[])) AS failed (id, count) ORDER BY id
) AS failed
ON CONFLICT (subscription_id) DO UPDATE SET
    failures_in_row = health.failures_in_row + excluded.failures_in_row,
    failing_since = coalesce(health.failing_since, excluded.failing_since),
    breaker_opened_at = coalesce(health.breaker_opened_at,
        CASE WHEN health.failures_in_row + excluded.failures_in_row >= :failures THEN clock_timestamp() END),
    probe_at = coalesce(health.probe_at,
        CASE WHEN health.failures_in_row + excluded.failures_in_row >= :failures
            THEN clock_timestamp() + make_interval(secs => :first) END),
    probe_interval_seconds = coalesce(health.probe_interval_seconds,
        CASE WHEN health.failures_in_row + excluded.failures_in_row >= :failures THEN CAST(:first AS float8) END)
RETURNING subscription_id, failures_in_row
""")

# All rows that will be written are locked first, in one order: two workers that each have a success and a failure of
# the same two receivers would wait for each other.
_SUCCEEDED = text("""
WITH locked AS MATERIALIZED (
    SELECT subscription_id, breaker_opened_at IS NOT NULL AS open FROM subscription_health
    WHERE subscription_id = ANY(:failed) OR subscription_id = ANY(:ids) AND failures_in_row > 0
    ORDER BY subscription_id FOR UPDATE
)
UPDATE subscription_health AS health SET failures_in_row = 0, failing_since = NULL, breaker_opened_at = NULL,
    probe_at = NULL, probe_interval_seconds = NULL
FROM locked WHERE health.subscription_id = locked.subscription_id AND health.subscription_id = ANY(:ids)
    AND health.failures_in_row > 0
RETURNING health.subscription_id, locked.open AS was_open
""")

_PROBE_FAILED = text("""
UPDATE subscription_health SET
    probe_interval_seconds = least(coalesce(probe_interval_seconds, :first) * 2, :longest),
    probe_at = clock_timestamp()
        + make_interval(secs => least(coalesce(probe_interval_seconds, :first) * 2, :longest))
WHERE subscription_id = :id AND breaker_opened_at IS NOT NULL
""")


EXHAUSTED_READ = 1_000
"""Of what is exhausted of a subscription and URL so much is looked at, the newest first: it may have been failing for
months, and a page of it says whether enough has ended lately."""

_FAILING_FOR = text("""
SELECT failing_since, CAST(extract(epoch FROM clock_timestamp() - failing_since) AS float8) AS seconds
FROM subscription_health
WHERE subscription_id = :id AND failing_since <= clock_timestamp() - make_interval(secs => :at_least)
""")

# Open deliveries and those that ended in vain since the first failure; counted up to what is asked for.
_UNDELIVERED = text(f"""
WITH RECURSIVE {BRANCHES}
SELECT count(*) FROM (
    SELECT FROM branch CROSS JOIN LATERAL (
        SELECT delivery.variant, delivery.ended_at FROM delivery WHERE {IN_BRANCH}
        ORDER BY delivery.created_at DESC, delivery.message_id DESC LIMIT :most + {EXHAUSTED_READ}
    ) AS newest
    WHERE branch.status IN {in_list((*OPEN, DeliveryStatus.EXHAUSTED))} AND newest.variant <> 'test'
        AND (branch.status <> '{DeliveryStatus.EXHAUSTED}' OR newest.ended_at >= :since)
    LIMIT :most
) AS undelivered
""")


@dataclass(frozen=True, slots=True)
class BreakerTransitions:
    """Subscriptions whose breaker opened, and those whose breaker a success closed."""

    opened: set[UUID] = field(default_factory=set)
    closed: set[UUID] = field(default_factory=set)


async def record_health(
    connection: AsyncConnection, succeeded: Collection[UUID], failed: Mapping[UUID, int], rules: BreakerRules
) -> BreakerTransitions:
    """Count the outcomes of attempts: first the successes, then `failed`, the failures after the last of these.

    A success closes the breaker; enough failures in a row open it.
    """
    turns = BreakerTransitions()
    if succeeded:
        rows = await connection.execute(_SUCCEEDED, {"ids": sorted(succeeded), "failed": sorted(failed)})
        turns.closed.update(row.subscription_id for row in rows if row.was_open)
    if failed:
        ids = sorted(failed)
        rows = await connection.execute(
            _FAILED,
            {
                "ids": ids,
                "counts": [failed[one] for one in ids],
                "failures": rules.failures,
                "first": rules.first_probe_seconds,
            },
        )
        turns.opened.update(
            row.subscription_id
            for row in rows
            if row.failures_in_row - failed[row.subscription_id] < rules.failures <= row.failures_in_row
        )
    return turns


async def failing(
    connection: AsyncConnection, subscription_id: UUID, *, at_least_seconds: float, most: int
) -> tuple[float | None, int]:
    """(seconds since its first failure in a row, deliveries not delivered since then, counted up to `most`).

    (None, 0) for one that has not been failing for `at_least_seconds`: its deliveries are not counted. If they are,
    bitmap scans are off for the rest of the transaction.
    """
    values = {"id": subscription_id, "at_least": at_least_seconds}
    row = (await connection.execute(_FAILING_FOR, values)).one_or_none()
    if row is None:
        return None, 0
    await use_indexes_in_order(connection)
    undelivered = {"subscription_id": subscription_id, "since": row.failing_since, "most": most}
    return row.seconds, (await connection.execute(_UNDELIVERED, undelivered)).scalar_one()


async def probe_failed(connection: AsyncConnection, subscription_id: UUID, rules: BreakerRules) -> None:
    """Double the interval to the next probe."""
    await connection.execute(
        _PROBE_FAILED,
        {"id": subscription_id, "first": rules.first_probe_seconds, "longest": rules.longest_probe_seconds},
    )
