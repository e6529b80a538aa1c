"""Metrics of the worker process, for Prometheus. No label holds an id, a URL or any other unbounded value."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus
from domain.delivery.timeouts import LONGEST_REQUEST_SECONDS
from telemetry.process_metrics import PoolGauges, process_registry

ATTEMPT_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, LONGEST_REQUEST_SECONDS)
FIRST_ATTEMPT_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Bucket bounds of the first attempt's lag, with 5 s, the bound of the service level (docs/operating.md)."""

CLAIM_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
FLUSH_BUCKETS_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class WorkerMetrics:
    """Metrics of one worker, in a registry of their own, because tests run several pipelines in one process."""

    def __init__(self) -> None:
        self.registry = process_registry()
        self.pool = PoolGauges(self.registry)
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        attempts = counter(
            "loyalty_webhooks_attempts",
            "Attempts by outcome: delivered, or a failure kind of docs/failure-kinds.md.",
            ["outcome"],
        )
        # A counter that exists from the start shows its first increase; one created later starts at 1.
        self.attempts_by_outcome: Mapping[str, Counter] = {
            outcome: attempts.labels(outcome) for outcome in (DeliveryStatus.DELIVERED, *FailureKind)
        }
        self.attempt_seconds = histogram(
            "loyalty_webhooks_attempt_seconds",
            "Time from the start of a request to the last byte of its response.",
            buckets=ATTEMPT_BUCKETS_SECONDS,
        )
        self.attempts_under_way = Gauge(
            "loyalty_webhooks_attempts_under_way",
            "Attempts in progress in this worker, including those that wait for the concurrency limiter.",
            registry=self.registry,
        )
        self.first_attempt_lag_seconds = histogram(
            "loyalty_webhooks_first_attempt_lag_seconds",
            "Time from the acceptance of an event to the start of the first attempt of a delivery, for deliveries that "
            "are not held (pause, breaker, limit, order). Compares the clocks of database and worker.",
            buckets=FIRST_ATTEMPT_BUCKETS_SECONDS,
        )
        ended = counter(
            "loyalty_webhooks_deliveries_ended",
            "Deliveries that an attempt ended: delivered, or gave up (exhausted).",
            ["status"],
        )
        self.deliveries_ended_as: Mapping[str, Counter] = {
            status: ended.labels(status) for status in (DeliveryStatus.DELIVERED, DeliveryStatus.EXHAUSTED)
        }
        self.claim_seconds = histogram(
            "loyalty_webhooks_relay_claim_seconds",
            "Duration of the relay's claim statement, including the wait for a connection.",
            buckets=CLAIM_BUCKETS_SECONDS,
        )
        self.flush_rows = histogram(
            "loyalty_webhooks_flush_rows",
            "Intents and outcomes per flush (one transaction).",
            buckets=FLUSH_BUCKETS_ROWS,
        )
        self.flush_faults = counter(
            "loyalty_webhooks_flush_faults",
            "Flushes that failed because the database was unavailable; their outcomes stay in memory.",
        )
        self.handed_over = counter(
            "loyalty_webhooks_events_handed_over",
            "Events for which the relay asked Temporal to start a workflow, repeats included, by kind of workflow: "
            "single or batch.",
            ["kind"],
        )
        self.start_faults = counter(
            "loyalty_webhooks_start_faults",
            "Starts of workflows and retries that Temporal refused or did not answer; each is repeated.",
        )
