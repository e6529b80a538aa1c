"""The pace of subscriptions whose receivers have answered 429, by the database's clock, so that all workers know it."""

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

SLOWED = """EXISTS (SELECT FROM subscription_pace AS pace
    WHERE pace.subscription_id = subscription.id AND pace.slowed_until > clock_timestamp())"""
"""SQL over a row `subscription`: its receiver has answered 429 lately."""

PER_SECOND = f"""least(subscription.rate_limit_per_second, (
    SELECT pace.slowed_to * power(2, extract(epoch FROM clock_timestamp() - pace.slowed_at) / {DOUBLED_AFTER_SECONDS})
    FROM subscription_pace AS pace
    WHERE pace.subscription_id = subscription.id AND pace.slowed_until > clock_timestamp()
))"""
"""SQL over a row `subscription`: requests a second; null when it has no limit and is not slowed."""

REST_SECONDS = """coalesce((
    SELECT extract(epoch FROM pace.rests_until - clock_timestamp()) FROM subscription_pace AS pace
    WHERE pace.subscription_id = subscription.id AND pace.rests_until > clock_timestamp()
), 0)"""
"""SQL over a row `subscription`: for how long its receiver wants to be left alone."""

_SLOW_DOWN = text(f"""
WITH told AS MATERIALIZED (
    SELECT told.id, told.rest, CASE WHEN pace.slowed_at > clock_timestamp() - make_interval(secs => :once_in)
        THEN pace.slowed_to ELSE greatest(:slowest, least(:first, {PER_SECOND} / 2)) END AS slowed_to
    FROM unnest(CAST(:ids AS uuid[]), CAST(:rests AS float8[])) AS told (id, rest)
    JOIN subscription ON subscription.id = told.id
    LEFT JOIN subscription_pace AS pace ON pace.subscription_id = told.id
)
INSERT INTO subscription_pace AS pace (subscription_id, rests_until, slowed_to, slowed_at, slowed_until)
SELECT id, clock_timestamp() + make_interval(secs => rest), slowed_to, clock_timestamp(),
    clock_timestamp() + make_interval(secs =>
        greatest(rest, :doubled_after * log(2, CAST(:unslowed / slowed_to AS numeric))))
FROM told ORDER BY id
ON CONFLICT (subscription_id) DO UPDATE SET
    rests_until = greatest(pace.rests_until, excluded.rests_until), slowed_to = excluded.slowed_to,
    slowed_at = CASE WHEN pace.slowed_at > clock_timestamp() - make_interval(secs => :once_in) THEN pace.slowed_at
        ELSE excluded.slowed_at END,
    slowed_until = greatest(pace.slowed_until, excluded.slowed_until)
""")


async def slow_down(connection: AsyncConnection, told: Mapping[UUID, float]) -> None:
    """Receivers have answered 429, and for how many seconds each wants to be left alone (0: it has not said)."""
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
