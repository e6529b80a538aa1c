"""Adaptive throttling after 429 responses, by the database's clock, so that it is the same for all workers."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.throttling import (
    DOUBLED_AFTER_SECONDS,
    HALVED_ONCE_IN_SECONDS,
    LONGEST_REST_SECONDS,
    SLOWED_FROM_PER_SECOND,
    SLOWEST_PER_SECOND,
    UNSLOWED_PER_SECOND,
)

SLOWED = """EXISTS (SELECT FROM subscription_throttle AS throttle
    WHERE throttle.subscription_id = subscription.id AND throttle.slowed_until > clock_timestamp())"""
"""SQL over a row `subscription`: it is throttled, because its receiver has responded with 429 lately."""

PER_SECOND = f"""least(subscription.rate_limit_per_second, (
    SELECT throttle.slowed_to * power(2, extract(epoch FROM clock_timestamp() - throttle.slowed_at) /
    {DOUBLED_AFTER_SECONDS}) FROM subscription_throttle AS throttle WHERE throttle.subscription_id = subscription.id AND
    throttle.slowed_until > clock_timestamp() ))"""
"""SQL over a row `subscription`: requests a second; null when it has no rate limit and is not throttled."""

REST_SECONDS = """coalesce((
    SELECT extract(epoch FROM throttle.rests_until - clock_timestamp()) FROM subscription_throttle AS throttle
    WHERE throttle.subscription_id = subscription.id AND throttle.rests_until > clock_timestamp()
), 0)"""
"""SQL over a row `subscription`: seconds until the end of its receiver's `Retry-After`; 0 if there is none."""

_SLOW_DOWN = text(f"""
WITH told AS MATERIALIZED (
    SELECT told.id, told.rest, CASE WHEN throttle.slowed_at > clock_timestamp() - make_interval(secs => :once_in)
        THEN throttle.slowed_to ELSE greatest(:slowest, least(:first, {PER_SECOND} / 2)) END AS slowed_to
    FROM unnest(CAST(:ids AS uuid[]), CAST(:rests AS float8[])) AS told (id, rest)
    JOIN subscription ON subscription.id = told.id
    LEFT JOIN subscription_throttle AS throttle ON throttle.subscription_id = told.id
)
INSERT INTO subscription_throttle AS throttle (subscription_id, rests_until, slowed_to, slowed_at, slowed_until)
SELECT id, clock_timestamp() + make_interval(secs => rest), slowed_to, clock_timestamp(),
    clock_timestamp() + make_interval(secs =>
        greatest(rest, :doubled_after * log(2, CAST(:unslowed / slowed_to AS numeric))))
FROM told ORDER BY id
ON CONFLICT (subscription_id) DO UPDATE SET
    rests_until = greatest(throttle.rests_until, excluded.rests_until), slowed_to = excluded.slowed_to, slowed_at = CASE
    WHEN throttle.slowed_at > clock_timestamp() - make_interval(secs => :once_in) THEN throttle.slowed_at ELSE
    excluded.slowed_at END, slowed_until = greatest(throttle.slowed_until, excluded.slowed_until) """)


async def slow_down(connection: AsyncConnection, told: Mapping[UUID, float]) -> None:
    """Throttle subscriptions whose receivers responded with 429.

    `told`: subscription -> seconds of `Retry-After` (0: none was given).
    """
    if not told:
        return
    ids = sorted(told)
    await connection.execute(
        _SLOW_DOWN,
        {
            "ids": ids,
            "rests": [min(told[one], LONGEST_REST_SECONDS) for one in ids],
            "once_in": HALVED_ONCE_IN_SECONDS,
            "slowest": SLOWEST_PER_SECOND,
            "first": SLOWED_FROM_PER_SECOND,
            "doubled_after": DOUBLED_AFTER_SECONDS,
            "unslowed": UNSLOWED_PER_SECOND,
        },
    )
