"""What the API process counts, for Prometheus. No label holds an id, a URL or anything else without a bound."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

METRICS_CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

COMMIT_BUCKETS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
GROUP_BUCKETS_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class ApiMetrics:
    """One registry a process (a test builds several applications in one)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.accepted = Counter(
            "loyalty_webhooks_events_accepted",
            "Events stored, by name.",
            ["event_name"],
            registry=self.registry,
        )
        self.duplicates = Counter(
            "loyalty_webhooks_events_duplicate",
            "Events that came again with the same id and content.",
            registry=self.registry,
        )
        self.rejected = Counter(
            "loyalty_webhooks_emit_rejected",
            "Emit requests (single and batch) that were refused, by HTTP status.",
            ["code"],
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "loyalty_webhooks_intake_commit_seconds",
            "From the begin to the commit of a transaction that stores events.",
            buckets=COMMIT_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.commit_events = Histogram(
            "loyalty_webhooks_intake_commit_events",
            "Events in one such transaction.",
            buckets=GROUP_BUCKETS_EVENTS,
            registry=self.registry,
        )
        self.backlog = Gauge(
            "loyalty_webhooks_backlog_events",
            "Events accepted and not yet taken by a workflow; an upper bound above 10,000.",
            registry=self.registry,
        )
        self.oldest_unmatched_seconds = Gauge(
            "loyalty_webhooks_backlog_oldest_seconds",
            "Age of the oldest event that no workflow has taken.",
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """The text Prometheus reads (content type METRICS_CONTENT_TYPE)."""
        return generate_latest(self.registry)
