"""The delivery pipeline in one process, for tests: relay, worker and resources on a real database and Temporal.

async with pipeline(database_url, client) as running:
    subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_id = await running.emit("CustomerUpdated", '{"customer":{}}')
    await running.until_open_deliveries(0)
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from cryptography.fernet import Fernet
from pydantic import SecretStr
from temporalio.client import Client

import worker
from domain.delivery.identity import manual_attempt_id
from relay.backpressure import Backpressure
from relay.relay import Relay, RelaySettings
from sending.dispatcher import Dispatcher
from sending.lease import lease
from settings import Settings
from storage.database import Database
from storage.deliveries.actions import delivery_for_action
from telemetry.tracing import NO_TRACES, Traces
from telemetry.worker_metrics import WorkerMetrics
from temporal.drains import Drains
from temporal.retries import Retries
from temporal.starts import ActionStarts
from temporal.versions import VersionRouting
from tests.ground import STORE, Ground

__all__ = ["STORE", "Pipeline", "pipeline", "settings_for"]

ENCRYPTION_KEY = Fernet.generate_key().decode()


def settings_for(database_url: str, **overrides: Any) -> Settings:
    """Settings of a test: http and loopback allowed, a task queue of its own."""
    values: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "encryption_keys": (SecretStr(ENCRYPTION_KEY),),
        "task_queue": f"test-{uuid4()}",
        "allow_http": True,
        "allowed_ports": (),
        "allowed_networks": "127.0.0.0/8,::1/128",
        "shutdown_grace_seconds": 2,
        "request_timeout_seconds": 20,
    }
    return Settings(_env_file=None, **(values | overrides))


@dataclass
class Pipeline(Ground):
    """A running pipeline and what a test does with it."""

    client: Client
    settings: Settings
    worker_id: UUID
    dispatcher: Dispatcher
    relay: Relay
    routing: VersionRouting

    async def attempt_by_hand(self, message_id: UUID, action: str) -> None:
        """Have one attempt made as a person asks for it (`redeliver`, `send-now`), and wait for its end."""
        async with self.database.transaction() as connection:
            delivery = await delivery_for_action(connection, STORE, message_id)
        assert delivery is not None
        assert await ActionStarts(self.client, self.settings.task_queue).attempt_once(delivery, STORE, action)
        await self.client.get_activity_handle(manual_attempt_id(message_id)).result()


@asynccontextmanager
async def pipeline(
    database_url: str,
    client: Client,
    *,
    relaying: bool = True,
    traces: Traces = NO_TRACES,
    retries_through: Client | None = None,
    claim_lease_seconds: float = 2,
    **overrides: Any,
) -> AsyncIterator[Pipeline]:
    """Worker and relay until the block ends; then an orderly stop. Several on one task queue need a client each."""
    settings = settings_for(database_url, **overrides)
    database = Database(settings.database_url.get_secret_value(), pool_size=10)
    worker_id = uuid4()
    metrics = WorkerMetrics()
    try:
        await Ground(database).add_store()
        async with (
            lease(settings.database_url.get_secret_value(), worker_id),
            worker.sending(settings, database, worker_id, metrics, traces) as (dispatcher, _),
            worker.beside_delivery(settings, database, dispatcher) as beside,
        ):
            backpressure = Backpressure()
            relay_settings = RelaySettings(settings.task_queue, settings.batch_events, 0.2, claim_lease_seconds)
            routing = VersionRouting(client, worker.version_of(settings))
            relay = Relay(database, client, backpressure, relay_settings, metrics, routing, traces)
            following = asyncio.create_task(routing.watch())
            running = asyncio.create_task(relay.run()) if relaying else None
            try:
                drains = Drains(client, settings.task_queue)
                retries = Retries(retries_through or client, settings.task_queue, metrics.start_faults.inc)
                delivery = worker.delivery_activities(database, dispatcher, backpressure, drains, retries, settings)
                async with worker.make_worker(client, [*delivery, *beside], settings):
                    yield Pipeline(database, client, settings, worker_id, dispatcher, relay, routing)
                    relay.stop()
                    if running is not None:
                        await running
            finally:
                for part in (following, *([running] if running is not None else [])):
                    part.cancel()
    finally:
        await database.close()
