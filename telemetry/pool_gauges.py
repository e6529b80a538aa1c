"""How much of a process's connections to PostgreSQL is in use, for its metrics."""

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
    """NaN until a database is watched."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._used = Gauge(
            "loyalty_webhooks_database_connections_used",
            "Connections of this process's pool that are in use.",
            registry=registry,
        )
        self._most = Gauge(
            "loyalty_webhooks_database_connections_most",
            "Connections this process's pool may have.",
            registry=registry,
        )
        self._used.set(nan)
        self._most.set(nan)

    def watch(self, database: Pool) -> None:
        """Tell of this database's pool from now on."""
        self._used.set_function(lambda: database.connections_used)
        self._most.set(database.connections_most)
