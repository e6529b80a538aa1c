"""Subscription states by which workers send: suspensions, health and breaker, throttling after 429s, limiter leases."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import BreakerRules
from domain.delivery.lifecycle import OPEN, DeliveryStatus
from domain.delivery.throttling import (
    DOUBLED_AFTER_SECONDS,
    HALVED_ONCE_IN_SECONDS,
    LONGEST_REST_SECONDS,
    SLOWED_FROM_PER_SECOND,
    SLOWEST_PER_SECOND,
    UNSLOWED_PER_SECOND,
)
from storage.columns import in_list, unnest
from storage.deliveries.log import use_indexes_in_order
from storage.deliveries.skip_scan import BRANCHES, IN_BRANCH
from storage.operations.workers import LEASE_SECONDS

SLOWED = """EXISTS (SELECT FROM subscription_throttle AS throttle
    WHERE throttle.subscription_id = subscription.id AND throttle.slowed_until > clock_timestamp())"""
"""SQL over a row `subscription`: it is throttled, because its receiver has responded with 429 lately."""

PER_SECOND = f"""least(subscription.rate_limit_per_second, (
    SELECT throttle.slowed_to
        * power(2, extract(epoch FROM clock_timestamp() - throttle.slowed_at) / {DOUBLED_AFTER_SECONDS})
    FROM subscription_throttle AS throttle
    WHERE throttle.subscription_id = subscription.id AND throttle.slowed_until > clock_timestamp()
))"""
"""SQL over a row `subscription`: requests a second; null when it has no rate limit and is not throttled."""

REST_SECONDS = """coalesce((
    SELECT extract(epoch FROM throttle.rests_until - clock_timestamp()) FROM subscription_throttle AS throttle
    WHERE throttle.subscription_id = subscription.id AND throttle.rests_until > clock_timestamp()
), 0)"""
"""SQL over a row `subscription`: seconds until the end of its receiver's `Retry-After`; 0 if there is none."""

DRAIN_ONLY = f"""(subscription.rate_limit_per_second IS NOT NULL OR subscription.ordered
    OR subscription.max_concurrency IS NOT NULL OR {SLOWED})"""
"""SQL over a row `subscription`: a limit, ordering or adaptive throttling applies that only the drain can observe."""


_SLOW_DOWN = text(f"""
WITH slowed AS MATERIALIZED (
    SELECT throttled.id, throttled.rest,
        CASE WHEN throttle.slowed_at > clock_timestamp() - make_interval(secs => {HALVED_ONCE_IN_SECONDS})
            THEN throttle.slowed_to
            ELSE greatest({SLOWEST_PER_SECOND}, least({SLOWED_FROM_PER_SECOND}, {PER_SECOND} / 2)) END AS slowed_to
    FROM {unnest("throttled", "id uuid, rest float8")}
    JOIN subscription ON subscription.id = throttled.id
    LEFT JOIN subscription_throttle AS throttle ON throttle.subscription_id = throttled.id
)
INSERT INTO subscription_throttle AS throttle (subscription_id, rests_until, slowed_to, slowed_at, slowed_until)
SELECT id, clock_timestamp() + make_interval(secs => rest), slowed_to, clock_timestamp(),
    clock_timestamp() + make_interval(secs =>
        greatest(rest, {DOUBLED_AFTER_SECONDS} * log(2, CAST({UNSLOWED_PER_SECOND} / slowed_to AS numeric))))
FROM slowed ORDER BY id
ON CONFLICT (subscription_id) DO UPDATE SET
    rests_until = greatest(throttle.rests_until, excluded.rests_until), slowed_to = excluded.slowed_to,
    slowed_at = CASE WHEN throttle.slowed_at > clock_timestamp() - make_interval(secs => {HALVED_ONCE_IN_SECONDS})
        THEN throttle.slowed_at ELSE excluded.slowed_at END,
    slowed_until = greatest(throttle.slowed_until, excluded.slowed_until)
""")


async def slow_down(connection: AsyncConnection, rests: Mapping[UUID, float]) -> None:
    """Throttle subscriptions after 429s; `rests`: subscription -> seconds of `Retry-After` (0: none was given)."""
    if not rests:
        return
    ids = sorted(rests)
    values = {"id": ids, "rest": [min(rests[one], LONGEST_REST_SECONDS) for one in ids]}
    await connection.execute(_SLOW_DOWN, values)


# Two workers that applied a subscription's limits would send at twice the limit.
_TAKE = text(f"""
INSERT INTO limiter_lease (subscription_id, worker_id) VALUES (:subscription_id, :worker_id)
ON CONFLICT (subscription_id) DO UPDATE SET worker_id = :worker_id, seen_at = clock_timestamp()
WHERE limiter_lease.worker_id = :worker_id
    OR limiter_lease.seen_at < clock_timestamp() - interval '{LEASE_SECONDS} seconds'
""")


async def take_lease(connection: AsyncConnection, subscription_id: UUID, worker_id: UUID) -> bool:
    """Take or renew the lease; return False while another worker holds it."""
    values = {"subscription_id": subscription_id, "worker_id": worker_id}
    return (await connection.execute(_TAKE, values)).rowcount == 1


async def release_lease(connection: AsyncConnection, subscription_id: UUID, worker_id: UUID) -> None:
    """Release the lease, so that any worker can take it."""
    statement = "DELETE FROM limiter_lease WHERE subscription_id = :subscription_id AND worker_id = :worker_id"
    await connection.execute(text(statement), {"subscription_id": subscription_id, "worker_id": worker_id})


_OPENS = "health.failures_in_row + excluded.failures_in_row >= :failures"
_FAILED = text(f"""
INSERT INTO subscription_health AS health (subscription_id, failures_in_row, failing_since, breaker_opened_at, probe_at,
    probe_interval_seconds, last_failed_id)
SELECT id, count, clock_timestamp(), opened, opened + make_interval(secs => :first),
    CASE WHEN opened IS NOT NULL THEN CAST(:first AS float8) END, last_failed_id
FROM (
    SELECT id, count, last_failed_id, CASE WHEN count >= :failures THEN clock_timestamp() END AS opened
    FROM {unnest("failed", "id uuid, count int, last_failed_id uuid")} ORDER BY id
) AS failed
ON CONFLICT (subscription_id) DO UPDATE SET
    failures_in_row = health.failures_in_row + excluded.failures_in_row,
    failing_since = coalesce(health.failing_since, excluded.failing_since),
    breaker_opened_at = coalesce(health.breaker_opened_at, CASE WHEN {_OPENS} THEN clock_timestamp() END),
    probe_at = coalesce(health.probe_at, CASE WHEN {_OPENS} THEN clock_timestamp() + make_interval(secs => :first) END),
    probe_interval_seconds = coalesce(
        health.probe_interval_seconds, CASE WHEN {_OPENS} THEN CAST(:first AS float8) END),
    last_failed_id = coalesce(excluded.last_failed_id, health.last_failed_id)
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
    probe_at = NULL, probe_interval_seconds = NULL, last_failed_id = NULL
FROM locked WHERE health.subscription_id = locked.subscription_id AND health.subscription_id = ANY(:ids)
    AND health.failures_in_row > 0
RETURNING health.subscription_id, locked.open AS was_open
""")

_LONGER = "least(coalesce(probe_interval_seconds, :first) * 2, :longest)"
_PROBE_FAILED = text(f"""
UPDATE subscription_health SET probe_interval_seconds = {_LONGER},
    probe_at = clock_timestamp() + make_interval(secs => {_LONGER})
WHERE subscription_id = :id AND breaker_opened_at IS NOT NULL
""")

EXHAUSTED_READ = 1_000
"""Maximum number of exhausted deliveries read per subscription and URL, newest first. A receiver may have been failing
for months, and this many show whether enough deliveries have ended lately."""

# During a pause the receiver cannot succeed.
_FAILING_FOR = text("""
SELECT since, CAST(extract(epoch FROM clock_timestamp() - since) AS float8) AS seconds
FROM subscription JOIN subscription_health AS health ON health.subscription_id = subscription.id
CROSS JOIN LATERAL (SELECT greatest(failing_since, status_since) AS since) AS asked
WHERE subscription.id = :id AND failing_since IS NOT NULL
    AND since <= clock_timestamp() - make_interval(secs => :at_least)
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
    connection: AsyncConnection,
    succeeded: Collection[UUID],
    failed: Mapping[UUID, int],
    rules: BreakerRules,
    last: Mapping[UUID, UUID] = MappingProxyType({}),
) -> BreakerTransitions:
    """Count the outcomes of attempts; return the breaker transitions.

    Successes count first, then `failed`: the number of failures after the last success of each subscription. A success
    closes the breaker; enough failures in a row open it. `last`: the delivery (message id) that failed last of each.
    """
    transitions = BreakerTransitions()
    if succeeded:
        rows = await connection.execute(_SUCCEEDED, {"ids": sorted(succeeded), "failed": sorted(failed)})
        transitions.closed.update(row.subscription_id for row in rows if row.was_open)
    if failed:
        ids = sorted(failed)
        columns = {"id": ids, "count": [failed[one] for one in ids], "last_failed_id": [last.get(one) for one in ids]}
        limits = {"failures": rules.failures, "first": rules.first_probe_seconds}
        rows = await connection.execute(_FAILED, {**columns, **limits})
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

    The end of a later pause stands for the first failure. Return (None, 0) without counting for a subscription that has
    been failing for less than `at_least_seconds`. Counting turns bitmap scans off for the rest of the transaction.
    """
    values = {"id": subscription_id, "at_least": at_least_seconds}
    row = (await connection.execute(_FAILING_FOR, values)).one_or_none()
    if row is None:
        return None, 0
    await use_indexes_in_order(connection)
    undelivered = {"subscription_id": subscription_id, "since": row.since, "most": most}
    return row.seconds, (await connection.execute(_UNDELIVERED, undelivered)).scalar_one()


async def probe_failed(connection: AsyncConnection, subscription_id: UUID, rules: BreakerRules) -> None:
    """Double the interval until the next probe, up to the maximum."""
    values = {"id": subscription_id, "first": rules.first_probe_seconds, "longest": rules.longest_probe_seconds}
    await connection.execute(_PROBE_FAILED, values)
