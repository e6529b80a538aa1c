"""Metrics of a process's connection pool to PostgreSQL."""

from math import nan
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge


class Pool(Protocol):
    """A pool of connections (`storage.database.Database`)."""

    @property
    def connections_used(self) -> int:
        """Connections in use."""

    @property
    def connections_most(self) -> int:
        """Size of the pool."""


class PoolGauges:
    """Gauges of a connection pool; NaN until `watch` is called."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._used = Gauge(
            "loyalty_webhooks_database_connections_used",
            "Connections in use in this process's pool.",
            registry=registry,
        )
        self._most = Gauge(
            "loyalty_webhooks_database_connections_most",
            "Maximum connections of this process's pool.",
            registry=registry,
        )
        self._used.set(nan)
        self._most.set(nan)

    def watch(self, database: Pool) -> None:
        """Report this database's pool from now on."""
        self._used.set_function(lambda: database.connections_used)
        self._most.set(database.connections_most)
