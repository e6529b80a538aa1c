"""What the worker process counts, for Prometheus. No label holds an id, a URL or anything else without a bound."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus
from telemetry.pool_gauges import PoolGauges

ATTEMPT_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
FIRST_ATTEMPT_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""5 is the promise's bound (docs/operating.md, service level)."""

CLAIM_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
FLUSH_BUCKETS_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class WorkerMetrics:
    """One registry a process (a test builds several pipelines in one)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.pool = PoolGauges(self.registry)
        attempts = Counter(
            "loyalty_webhooks_attempts",
            "Attempts by what they came to: delivered, or the failure kind of docs/failure-kinds.md.",
            ["outcome"],
            registry=self.registry,
        )
        # A counter that is there from the start is seen to increase at once.
        self.attempts_by_outcome: Mapping[str, Counter] = {
            outcome: attempts.labels(outcome) for outcome in (DeliveryStatus.DELIVERED, *FailureKind)
        }
        self.attempt_seconds = Histogram(
            "loyalty_webhooks_attempt_seconds",
            "From the begin of a request to the last byte of its answer.",
            buckets=ATTEMPT_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.attempts_under_way = Gauge(
            "loyalty_webhooks_attempts_under_way",
            "Attempts this worker is making, those queueing for a place of their subscription included.",
            registry=self.registry,
        )
        self.first_attempt_lag_seconds = Histogram(
            "loyalty_webhooks_first_attempt_lag_seconds",
            "From the acceptance of an event to the begin of the first attempt of one of its deliveries; of those that "
            "wait for nothing (pause, breaker, limit, order). By the clocks of database and worker.",
            buckets=FIRST_ATTEMPT_BUCKETS_SECONDS,
            registry=self.registry,
        )
        deliveries_ended = Counter(
            "loyalty_webhooks_deliveries_ended",
            "Deliveries that an attempt has ended: delivered or exhausted.",
            ["status"],
            registry=self.registry,
        )
        self.deliveries_ended_as: Mapping[str, Counter] = {
            status: deliveries_ended.labels(status) for status in (DeliveryStatus.DELIVERED, DeliveryStatus.EXHAUSTED)
        }
        self.claim_seconds = Histogram(
            "loyalty_webhooks_relay_claim_seconds",
            "The relay's statement that claims events from the outbox, waiting for a connection included.",
            buckets=CLAIM_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.flush_rows = Histogram(
            "loyalty_webhooks_flush_rows",
            "Intents and outcomes written in one transaction.",
            buckets=FLUSH_BUCKETS_ROWS,
            registry=self.registry,
        )
        self.flush_faults = Counter(
            "loyalty_webhooks_flush_faults",
            "Flushes that found the database away; their outcomes are kept in memory.",
            registry=self.registry,
        )
        self.handed_over = Counter(
            "loyalty_webhooks_events_handed_over",
            "Events whose workflow the relay asked Temporal to start, repeats included: single or batch.",
            ["way"],
            registry=self.registry,
        )
        self.start_faults = Counter(
            "loyalty_webhooks_start_faults",
            "Workflow starts that Temporal refused or did not answer; each is tried again.",
            registry=self.registry,
        )
