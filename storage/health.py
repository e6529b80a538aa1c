"""A receiver's health: failures in a row, the breaker that they open, and the success that closes it."""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.breaker import BreakerRules

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
""")

# All rows that will be written are locked first, in one order: two workers that each have a success and a failure of
# the same two receivers would wait for each other.
_SUCCEEDED = text("""
WITH locked AS MATERIALIZED (
    SELECT subscription_id FROM subscription_health
    WHERE subscription_id = ANY(:failed) OR subscription_id = ANY(:ids) AND failures_in_row > 0
    ORDER BY subscription_id FOR UPDATE
)
UPDATE subscription_health AS health SET failures_in_row = 0, failing_since = NULL, breaker_opened_at = NULL,
    probe_at = NULL, probe_interval_seconds = NULL
FROM locked WHERE health.subscription_id = locked.subscription_id AND health.subscription_id = ANY(:ids)
    AND health.failures_in_row > 0
""")

_PROBE_FAILED = text("""
UPDATE subscription_health SET
    probe_interval_seconds = least(coalesce(probe_interval_seconds, :first) * 2, :longest),
    probe_at = clock_timestamp()
        + make_interval(secs => least(coalesce(probe_interval_seconds, :first) * 2, :longest))
WHERE subscription_id = :id AND breaker_opened_at IS NOT NULL
""")


async def record_health(
    connection: AsyncConnection, succeeded: Collection[UUID], failed: Mapping[UUID, int], rules: BreakerRules
) -> None:
    """Count the outcomes of attempts: first the successes, then `failed`, the failures after the last of these.

    A success closes the breaker; enough failures in a row open it.
    """
    if succeeded:
        await connection.execute(_SUCCEEDED, {"ids": sorted(succeeded), "failed": sorted(failed)})
    if failed:
        ids = sorted(failed)
        await connection.execute(
            _FAILED,
            {
                "ids": ids,
                "counts": [failed[one] for one in ids],
                "failures": rules.failures,
                "first": rules.first_probe_seconds,
            },
        )


async def probe_failed(connection: AsyncConnection, subscription_id: UUID, rules: BreakerRules) -> None:
    """Double the interval to the next probe."""
    await connection.execute(
        _PROBE_FAILED,
        {"id": subscription_id, "first": rules.first_probe_seconds, "longest": rules.longest_probe_seconds},
    )
