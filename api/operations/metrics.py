"""Prometheus metrics of the API process. No label holds an id, a URL or any other unbounded value."""

import asyncio
import logging
from functools import partial
from itertools import product
from math import nan

from prometheus_client import Counter, Gauge, Histogram

from api.ttl_cache import TtlCache
from domain.delivery.lifecycle import DeliveryStatus, SubscriptionStatus
from storage.database import Database
from storage.operations.gauges import COUNTED_DELIVERIES, InstallationFigures, installation_figures
from storage.unavailable import in_words
from telemetry.connections import ConnectionMetrics
from telemetry.process_metrics import PoolGauges, process_registry

EMIT_ROUTES = ("POST /api/{storeCode}/event", "POST /api/{storeCode}/event/batch")
REQUEST_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COMMIT_BUCKETS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
GROUP_BUCKETS_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

REFRESH_SECONDS = 10.0
"""Age at which the figures of the installation are refreshed. Several scrapers share a reading."""

STALE_SECONDS = 60.0
"""Age at which the figures of the installation are exported as NaN."""

READ_SECONDS = 5.0
"""Timeout of a reading."""

FIRST_SECONDS = 1.0
"""Maximum wait of a scrape for a reading while there are no figures yet."""

logger = logging.getLogger(__name__)


class ApiMetrics:
    """Metrics of one process, in a registry of their own: a test builds several applications in one process."""

    def __init__(self) -> None:
        self.registry = process_registry()
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.pool = PoolGauges(self.registry)
        self.request_seconds = histogram(
            "loyalty_webhooks_api_request_seconds",
            "Time from a request to the end of its response, by route and HTTP status. The route of unknown paths and "
            "static files is `other`.",
            ["route", "status"],
            buckets=REQUEST_BUCKETS_SECONDS,
        )
        for route, status in product(EMIT_ROUTES, (500, 503)):
            self.request_seconds.labels(route, status)  # exported as 0 at once, or alerts would miss the first increase
        self.accepted = counter("loyalty_webhooks_events_accepted", "Events stored, by name.", ["event_name"])
        self.duplicates = counter("loyalty_webhooks_events_duplicate", "Repeated events: the same id and content.")
        self.connections = ConnectionMetrics(self.registry)
        self.commit_seconds = histogram(
            "loyalty_webhooks_intake_commit_seconds",
            "Duration of a transaction that stores events.",
            buckets=COMMIT_BUCKETS_SECONDS,
        )
        self.commit_events = histogram(
            "loyalty_webhooks_intake_commit_events",
            "Events per transaction that stores events.",
            buckets=GROUP_BUCKETS_EVENTS,
        )
        self.backlog = gauge(
            "loyalty_webhooks_backlog_events", "Accepted events that are not matched yet; an upper bound above 10,000."
        )
        self.oldest_unmatched_seconds = gauge(
            "loyalty_webhooks_backlog_oldest_seconds", "Age of the oldest event that is not matched."
        )
        # Figures of the whole installation. Every API process exports the same values: aggregate them with max.
        self.waiting = gauge(
            "loyalty_webhooks_deliveries_waiting",
            "Open deliveries: waiting (`pending`, an attempt in progress included) and held (pause, breaker, limit, "
            f"order, overload); counted up to {COUNTED_DELIVERIES:,}.",
            ["status"],
        )
        self.breakers_open = gauge("loyalty_webhooks_breakers_open", "Active webhooks with an open circuit breaker.")
        self.subscriptions = gauge(
            "loyalty_webhooks_subscriptions", "Webhooks that are not deleted, by status.", ["status"]
        )
        self.certificate_seconds = gauge(
            "loyalty_webhooks_client_certificate_expires_in_seconds",
            "Time until the next expiry of a client certificate of a webhook that is not disabled; negative once "
            "expired, NaN without a certificate.",
        )
        self.workers = gauge("loyalty_webhooks_workers", "Worker processes with a heartbeat in the last seconds.")
        self.scan_age_seconds = gauge(
            "loyalty_webhooks_expiry_scan_age_seconds",
            "Time since the last scan by a schedule of this kind, in the store where it is longest ago.",
            ["kind"],
        )

    def tell(self, figures: InstallationFigures | None) -> None:
        """Set the gauges of the installation; None (unknown) sets NaN."""
        self.waiting.labels(DeliveryStatus.PENDING).set(figures.pending if figures else nan)
        self.waiting.labels(DeliveryStatus.HELD).set(figures.held if figures else nan)
        self.breakers_open.set(figures.breakers_open if figures else nan)
        self.workers.set(figures.workers if figures else nan)
        certificate_seconds = figures.certificate_seconds if figures else None
        self.certificate_seconds.set(nan if certificate_seconds is None else certificate_seconds)
        for status in SubscriptionStatus:
            self.subscriptions.labels(status).set(figures.subscriptions.get(status, 0) if figures else nan)
        self.scan_age_seconds.clear()  # a kind without a scan exports no age
        for kind, seconds in figures.scan_age_seconds.items() if figures else ():
            self.scan_age_seconds.labels(kind).set(seconds)


class InstallationGauge:
    """Cached figures of the installation, refreshed in the background of scrapes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: TtlCache[None, InstallationFigures] = TtlCache(STALE_SECONDS, refresh_seconds=REFRESH_SECONDS)

    async def current(self) -> InstallationFigures | None:
        """Return the latest figures, or None if they are older than STALE_SECONDS."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                return await self._cache.get(None, self._read)
        except TimeoutError:
            return None

    async def close(self) -> None:
        """Wait for a reading in progress."""
        await self._cache.close()

    async def _read(self) -> InstallationFigures | None:
        try:
            async with asyncio.timeout(READ_SECONDS), self._database.transaction() as connection:
                return await installation_figures(connection)
        except Exception as error:  # Metrics stay available whatever fails here; the next scrape tries again.
            logger.warning(
                "installation figures for /metrics not read (%s), retrying at the next scrape", in_words(error)
            )
            return None
