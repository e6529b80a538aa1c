"""Figures of the whole installation for its operators. The cost of reading each is bounded."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus, SubscriptionStatus
from storage.deliveries.skip_scan import ALL_BRANCHES, IN_ANY_BRANCH
from storage.operations.workers import LEASE_SECONDS

COUNTED_DELIVERIES = 100_000
"""Maximum number of waiting deliveries counted per status. Counting as many index entries takes some 20 ms."""


@dataclass(frozen=True, slots=True)
class InstallationFigures:
    """Figures of the installation. `pending` and `held` are counted up to COUNTED_DELIVERIES. `certificate_seconds` is
    the time until the first client certificate expires, None without one. `scan_age_seconds` is by kind of expiring
    object."""

    pending: int
    held: int
    breakers_open: int
    subscriptions: Mapping[str, int]
    certificate_seconds: float | None
    workers: int
    scan_age_seconds: Mapping[str, float]


# There is no index on pending deliveries, which would cost every delivery two writes. A skip scan of the log's index
# finds the few destinations with pending deliveries, with one probe for each destination and status.
_PENDING = text(f"""
WITH RECURSIVE {ALL_BRANCHES}
SELECT count(*) FROM (
    SELECT FROM branch CROSS JOIN LATERAL (
        SELECT FROM delivery WHERE {IN_ANY_BRANCH} LIMIT :most
    ) AS waiting WHERE branch.status = '{DeliveryStatus.PENDING}' LIMIT :most
) AS pending
""")

_HELD = text(f"SELECT count(*) FROM (SELECT FROM delivery WHERE status = '{DeliveryStatus.HELD}' LIMIT :most) AS held")

_SUBSCRIPTIONS = text("""
SELECT subscription.status, count(*) AS subscriptions, count(health.breaker_opened_at) AS breakers_open,
    CAST(extract(epoch FROM min(certificate_expires_at) - clock_timestamp()) AS float8) AS certificate_seconds
FROM subscription LEFT JOIN subscription_health AS health ON health.subscription_id = subscription.id
WHERE subscription.deleted_at IS NULL GROUP BY subscription.status
""")

_WORKERS = text(f"SELECT count(*) FROM worker WHERE seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds'")

_SCANS = text("""
SELECT coverage.kind, CAST(max(extract(epoch FROM clock_timestamp() - latest.started_at)) AS float8) AS age_seconds
FROM expiry_coverage AS coverage CROSS JOIN LATERAL (
    SELECT started_at FROM expiry_scan
    WHERE expiry_scan.store_code = coverage.store_code AND expiry_scan.kind = coverage.kind AND origin = 'schedule'
    ORDER BY started_at DESC LIMIT 1
) AS latest GROUP BY coverage.kind
""")


async def installation_figures(connection: AsyncConnection) -> InstallationFigures:
    """Read the current figures, from open deliveries only."""
    subscriptions = (await connection.execute(_SUBSCRIPTIONS)).all()
    certificates = [row.certificate_seconds for row in subscriptions if row.status != SubscriptionStatus.DISABLED]
    scans = await connection.execute(_SCANS)
    return InstallationFigures(
        pending=await connection.scalar(_PENDING, {"most": COUNTED_DELIVERIES}) or 0,
        held=await connection.scalar(_HELD, {"most": COUNTED_DELIVERIES}) or 0,
        breakers_open=sum(row.breakers_open for row in subscriptions if row.status == SubscriptionStatus.ACTIVE),
        subscriptions={row.status: row.subscriptions for row in subscriptions},
        certificate_seconds=min((one for one in certificates if one is not None), default=None),
        workers=await connection.scalar(_WORKERS) or 0,
        scan_age_seconds={row.kind: row.age_seconds for row in scans},
    )
