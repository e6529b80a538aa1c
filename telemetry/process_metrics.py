"""Metrics that API and worker have in common: the process, its version, and its connection pool to PostgreSQL."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge, GCCollector, Info, PlatformCollector, ProcessCollector

from telemetry import build


def process_registry() -> CollectorRegistry:
    """Return a registry with the metrics of this process: CPU, memory, descriptors, garbage collection, version."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    running = Info("loyalty_webhooks_build", "Version of this process, and the commit of its image.", registry=registry)
    running.info({"version": version("loyalty-webhooks"), "commit": build.commit() or ""})
    return registry


class PoolGauges:
    """Gauges of a connection pool to PostgreSQL."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._used = gauge("loyalty_webhooks_database_connections_used", "Connections in use in this process's pool.")
        self._most = gauge("loyalty_webhooks_database_connections_most", "Maximum connections of this process's pool.")

    def watch(self, used: Callable[[], int], most: int) -> None:
        """Report this pool from now on."""
        self._used.set_function(used)
        self._most.set(most)
