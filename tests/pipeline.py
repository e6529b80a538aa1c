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
from sqlalchemy import text
from temporalio.client import Client

import worker
from activities.deliver import DeliveryActivities
from activities.dispatcher import Dispatcher
from activities.gate import Gate
from activities.metrics import WorkerMetrics
from relay import Relay, RelaySettings
from settings import Settings
from storage.database import Database
from tests.deadlines import eventually

STORE = "default"
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
        "request_timeout_seconds": 3,
    }
    return Settings(_env_file=None, **(values | overrides))


@dataclass
class Pipeline:
    """A running pipeline and what a test does with it."""

    database: Database
    client: Client
    settings: Settings
    worker_id: UUID
    dispatcher: Dispatcher

    async def execute(self, statement: str, **values: Any) -> list[Any]:
        """Run one statement in a transaction of its own; its rows, if any."""
        async with self.database.transaction() as connection:
            result = await connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    async def subscribe(self, event_name: str, url: str, **columns: Any) -> UUID:
        """Insert a subscription; `columns` as in storage/tables.py."""
        values = {"id": uuid4(), "store_code": STORE, "event_name": event_name, "url": url} | columns
        names = ", ".join(values)
        await self.execute(
            f"INSERT INTO subscription ({names}) VALUES ({', '.join(':' + name for name in values)})", **values
        )
        identity: UUID = values["id"]
        return identity

    async def emit(self, event_name: str, data: str, count: int = 1) -> list[UUID]:
        """Insert events as the API does, and ring for the relay."""
        ids = [uuid4() for _ in range(count)]
        await self.execute(
            """
            INSERT INTO event (store_code, event_id, name, created_at, created_at_text, data, digest)
            SELECT :store, id, :name, now(), '2026-01-02T03:04:05Z', :data, '' FROM unnest(CAST(:ids AS uuid[])) AS id
            """,
            store=STORE,
            name=event_name,
            data=data,
            ids=ids,
        )
        await self.execute("SELECT pg_notify('outbox', '')")
        return ids

    async def deliveries(self) -> list[Any]:
        """All deliveries, oldest first."""
        return await self.execute("SELECT * FROM delivery ORDER BY created_at, message_id")

    async def attempts(self, message_id: UUID) -> list[Any]:
        """The attempts of one delivery."""
        return await self.execute("SELECT * FROM attempt WHERE message_id = :id ORDER BY number", id=message_id)

    async def until_statuses(self, expected: dict[str, int], deadline_seconds: float = 20) -> None:
        """Wait until there are just so many deliveries of each status."""

        async def reached() -> bool:
            rows = await self.execute("SELECT status, count(*) FROM delivery GROUP BY status")
            return {row.status: row.count for row in rows} == expected

        await eventually(reached, deadline_seconds, f"deliveries {expected}")


@asynccontextmanager
async def pipeline(
    database_url: str, client: Client, *, relaying: bool = True, **overrides: Any
) -> AsyncIterator[Pipeline]:
    """Worker and relay until the block ends; then an orderly stop."""
    settings = settings_for(database_url, **overrides)
    database = Database(settings.sqlalchemy_url, pool_size=10)
    worker_id = uuid4()
    metrics = WorkerMetrics()
    try:
        async with database.transaction() as connection:
            await connection.execute(
                text("INSERT INTO store (code, name) VALUES (:code, 'A store') ON CONFLICT DO NOTHING"), {"code": STORE}
            )
        async with (
            worker.lease(database, worker_id),
            worker.sending(settings, database, worker_id, metrics) as (dispatcher, _),
        ):
            gate = Gate()
            relay_settings = RelaySettings(settings.task_queue, settings.batch_events, 0.2, 2)
            relay = Relay(database, client, gate, relay_settings, metrics)
            running = asyncio.create_task(relay.run()) if relaying else None
            async with worker.make_worker(client, DeliveryActivities(database, dispatcher, gate), settings):
                yield Pipeline(database, client, settings, worker_id, dispatcher)
                relay.stop()
                if running is not None:
                    await running
    finally:
        await database.close()
