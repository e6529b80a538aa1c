"""Receiver health: failures in a row, which open the circuit breaker, and the success that closes it.

SQL text, because outcomes of many subscriptions are written at once (`unnest`) and rows are locked in one order.
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

# All rows to be written are locked first, in one order. Otherwise two workers, each with a success and a failure of the
# same two receivers, would deadlock.
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
"""Maximum number of exhausted deliveries read per subscription and URL, newest first. A receiver may have been failing
for months, and this many show whether enough deliveries have ended lately."""

_FAILING_FOR = text("""
SELECT failing_since, CAST(extract(epoch FROM clock_timestamp() - failing_since) AS float8) AS seconds
FROM subscription_health
WHERE subscription_id = :id AND failing_since <= clock_timestamp() - make_interval(secs => :at_least)
""")

# Open deliveries and those exhausted since the first failure, counted up to `:most`.
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
    """Subscriptions whose breaker was opened, and those whose breaker was closed by a success."""

    opened: set[UUID] = field(default_factory=set)
    closed: set[UUID] = field(default_factory=set)


async def record_health(
    connection: AsyncConnection, succeeded: Collection[UUID], failed: Mapping[UUID, int], rules: BreakerRules
) -> BreakerTransitions:
    """Count the outcomes of attempts; return the breaker transitions.

    Successes count first, then `failed`: the number of failures after the last success of each subscription. A success
    closes the breaker; enough failures in a row open it.
    """
    transitions = BreakerTransitions()
    if succeeded:
        rows = await connection.execute(_SUCCEEDED, {"ids": sorted(succeeded), "failed": sorted(failed)})
        transitions.closed.update(row.subscription_id for row in rows if row.was_open)
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
        transitions.opened.update(
            row.subscription_id
            for row in rows
            if row.failures_in_row - failed[row.subscription_id] < rules.failures <= row.failures_in_row
        )
    return transitions


async def failing(
    connection: AsyncConnection, subscription_id: UUID, *, at_least_seconds: float, most: int
) -> tuple[float | None, int]:
    """Return (seconds since the first failure in a row, undelivered deliveries since then, counted up to `most`).

    Return (None, 0) without counting for a subscription that has been failing for less than `at_least_seconds`.
    Counting turns bitmap scans off for the rest of the transaction.
    """
    values = {"id": subscription_id, "at_least": at_least_seconds}
    row = (await connection.execute(_FAILING_FOR, values)).one_or_none()
    if row is None:
        return None, 0
    await use_indexes_in_order(connection)
    undelivered = {"subscription_id": subscription_id, "since": row.failing_since, "most": most}
    return row.seconds, (await connection.execute(_UNDELIVERED, undelivered)).scalar_one()


async def probe_failed(connection: AsyncConnection, subscription_id: UUID, rules: BreakerRules) -> None:
    """Double the interval until the next probe, up to the maximum."""
    await connection.execute(
        _PROBE_FAILED,
        {"id": subscription_id, "first": rules.first_probe_seconds, "longest": rules.longest_probe_seconds},
    )
