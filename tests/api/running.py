"""The API in this process, over a real database, and a caller with a key.

async with running_api(database_url) as api:
    answer = await api.post("event", {"event": {…}})
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
from cryptography.fernet import Fernet
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from api.app import create_app
from api.resources import Resources
from domain.access import Scope
from settings import Settings
from storage.access.queries import create_key
from storage.access.stores import create_store
from storage.database import Database
from telemetry.tracing import NO_TRACES, Traces
from tests.ground import EVENT_WITH_BODY

STORE = "default"
ENCRYPTION_KEY = Fernet.generate_key().decode()
NDJSON = {"Content-Type": "application/x-ndjson"}


def settings_for(database_url: str, **overrides: Any) -> Settings:
    """Settings of the API under test."""
    values: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "encryption_keys": (SecretStr(ENCRYPTION_KEY),),
        "jwt_secrets": (SecretStr("j" * 40),),
        "allow_http": True,
        "allowed_ports": (),
        "allowed_networks": "127.0.0.0/8",
    }
    return Settings(_env_file=None, **(values | overrides))


@dataclass
class RunningApi:
    """The API and who calls it: paths are relative to the store's."""

    app: FastAPI
    resources: Resources
    client: httpx.AsyncClient
    database: Database
    store: str = STORE

    def url(self, path: str) -> str:
        """A path below the store, or an absolute one."""
        return path if path.startswith("/") else f"/api/{self.store}/{path}"

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return await self.client.get(self.url(path), **options)

    async def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """POST of a value, or of the very bytes or text given."""
        content = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return await self.client.post(self.url(path), content=content, **options)

    async def emit(self, event_name: str = "CustomerUpdated", data: Any = None, **fields: Any) -> httpx.Response:
        """Emit one event."""
        return await self.post("event", {"event": {"eventName": event_name, "data": data or {}, **fields}})

    async def execute(self, statement: str, **values: Any) -> list[Any]:
        """Run one statement in a transaction of its own; its rows, if any."""
        async with self.database.transaction() as connection:
            result = await connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    async def stored(self, event_id: str) -> Any:
        """The row of an event."""
        (row,) = await self.execute(
            f"SELECT * FROM {EVENT_WITH_BODY} WHERE event_id = :id",
            id=UUID(event_id),
        )
        return row

    async def count(self) -> int:
        """Events in the log."""
        return int((await self.execute("SELECT count(*) FROM event"))[0][0])


async def add_key(
    database: Database, *, scopes: tuple[str, ...] = tuple(Scope), stores: tuple[str, ...] = ("*",)
) -> str:
    """A new API key."""
    key = f"key-{uuid4()}"
    async with database.transaction() as connection:
        await create_key(connection, "test", key, scopes, stores)
    return key


@asynccontextmanager
async def running_api(database_url: str, *, traces: Traces = NO_TRACES, **overrides: Any) -> AsyncIterator[RunningApi]:
    """Start the application, with a store and a key that may do everything; stop it at the end."""
    database = Database(database_url, pool_size=3)
    try:
        async with database.transaction() as connection:
            await create_store(connection, STORE, "A store")
        key = await add_key(database)
        app = create_app(settings_for(database_url, **overrides), traces=traces)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"X-AUTH-TOKEN": key}
            async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers) as client:
                yield RunningApi(app, app.state.resources, client, database)
    finally:
        await database.close()
