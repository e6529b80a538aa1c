"""An API as its callers see it. Tests share one and have a store each: a database for each would cost a second."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from uuid import UUID, uuid4

import httpx
from cryptography.fernet import Fernet
from fastapi import FastAPI
from sqlalchemy import text

from api.app import create_app
from api.subscriptions.url_check import Lookup
from domain.access import Scope
from settings import Settings
from storage.access.queries import create_key, new_key
from storage.access.stores import create_store
from storage.database import Database
from storage.subscriptions.queries import open_headers

RECEIVER = "https://receiver.example.com/hook"
ENCRYPTION_KEY = Fernet.generate_key().decode()
JWT_SECRET = "a-secret-of-the-tests-0123456789-abcdef"


def header(name: str, value: str) -> dict[str, str]:
    """One of a subscription's own headers."""
    return {"headerName": name, "headerValue": value}


def paths(response: httpx.Response) -> list[str]:
    """Where the problems are, of a refusal in the contract's form."""
    assert response.status_code == 400, response.text
    body = response.json()
    assert (body["code"], body["message"]) == (400, "Validation failed")
    for error in body["errors"]:
        assert set(error) == {"message", "parameters", "plural", "code", "path"}
    return [error["path"] for error in body["errors"]]


class Names:
    """Name service of the tests: what is not listed does not resolve."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {"receiver.example.com": ["93.184.216.34"]}

    async def __call__(self, hostname: str) -> Sequence[IPv4Address | IPv6Address]:
        if hostname not in self.addresses:
            raise OSError(f"{hostname} does not resolve")
        return [ip_address(address) for address in self.addresses[hostname]]


def settings_for(database_url: str, **changes: Any) -> Settings:
    """Settings of a test; nothing of the environment's `.env`."""
    values = {
        "database_url": database_url,
        "encryption_keys": ENCRYPTION_KEY,
        "jwt_secrets": JWT_SECRET,
        "database_pool_size": 5,
        **changes,
    }
    return Settings(_env_file=None, **values)


class Installation:
    """The application and its database; every caller is an httpx client of its own."""

    def __init__(self, app: FastAPI, database: Database, names: Names, closing: AsyncExitStack) -> None:
        self.app = app
        self.database = database
        self.names = names
        self.admin_key = ""
        self._closing = closing

    async def caller(self, headers: dict[str, str] | None = None, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client with these headers, at this address."""
        transport = httpx.ASGITransport(self.app, client=(address, 40000), raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)
        return await self._closing.enter_async_context(client)

    async def key(self, *scopes: Scope, stores: Iterable[str] = ("*",)) -> str:
        """A new API key with these rights, by default all."""
        key = new_key()
        async with self.database.transaction() as connection:
            await create_key(connection, "test", key, scopes or (Scope.ADMIN,), stores)
        return key

    async def with_key(self, *scopes: Scope, stores: Iterable[str] = ("*",)) -> httpx.AsyncClient:
        """A client with a new API key."""
        return await self.caller({"X-AUTH-TOKEN": await self.key(*scopes, stores=stores)})

    async def execute(self, statement: str, **parameters: Any) -> list[Any]:
        """Rows of a statement of the test's own."""
        async with self.database.transaction() as connection:
            result = await connection.execute(text(statement), parameters)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []

    async def shop(self) -> "Shop":
        """A store of its own for a test, and a caller who may do everything in it."""
        code = f"s-{uuid4().hex}"
        async with self.database.transaction() as connection:
            await create_store(connection, code, code)
        return Shop(self, code, await self.caller({"X-AUTH-TOKEN": self.admin_key}))


@dataclass
class Shop:
    """One store as its administrator sees it."""

    installation: Installation
    store: str
    client: httpx.AsyncClient

    def path(self, *steps: object) -> str:
        """Path of the store's subscriptions, or of one, or of what is below it."""
        return "/".join([f"/api/{self.store}/webhook/subscription", *map(str, steps)])

    async def create(self, client: httpx.AsyncClient | None = None, **fields: Any) -> httpx.Response:
        """Create a subscription, to one event at one URL unless the fields say otherwise."""
        body = {"eventName": "CustomerRegistered", "url": RECEIVER, **fields}
        return await (client or self.client).post(self.path(), json={"webhookSubscription": body})

    async def created(self, **fields: Any) -> str:
        """The id of a new subscription."""
        response = await self.create(**fields)
        assert response.status_code == 200, response.text
        return str(response.json()["webhookSubscriptionId"])

    async def details(self, subscription_id: str) -> dict[str, Any]:
        """Details of a subscription that exists."""
        response = await self.client.get(self.path(subscription_id))
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def update(self, subscription_id: str, **fields: Any) -> httpx.Response:
        """Update a subscription; its URL is the one it has unless given."""
        body = {"url": RECEIVER, **fields}
        return await self.client.put(self.path(subscription_id), json={"webhookSubscription": body})

    async def list(self, query: str = "") -> dict[str, Any]:
        """A list that is answered."""
        response = await self.client.get(f"{self.path()}?{query}" if query else self.path())
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def row(self, subscription_id: str) -> dict[str, Any]:
        """The subscription's row in the table."""
        rows = await self.installation.execute("SELECT * FROM subscription WHERE id = :id", id=UUID(subscription_id))
        return dict(rows[0])

    async def stored_headers(self, subscription_id: str) -> Sequence[tuple[str, str]]:
        """The headers as they will be sent."""
        sealed = (await self.row(subscription_id))["sealed_headers"]
        sealer = self.installation.app.state.resources.sealer
        return [(header.name, header.value) for header in open_headers(sealed, sealer)]

    async def audit(self) -> Sequence[dict[str, Any]]:
        """The store's audit, oldest first."""
        return await self.installation.execute(
            "SELECT * FROM audit WHERE store_code = :store ORDER BY id", store=self.store
        )


@asynccontextmanager
async def installation(database_url: str, lookup: Lookup | None = None, **changes: Any) -> AsyncIterator[Installation]:
    """The API over this database, started with these settings; stopped on leaving."""
    names = Names()
    database = Database(database_url, pool_size=2)
    app = create_app(settings_for(database_url, **changes), lookup or names)
    try:
        async with app.router.lifespan_context(app), AsyncExitStack() as closing:
            started = Installation(app, database, names, closing)
            with suppress(OSError):  # of a database that is not there
                started.admin_key = await started.key()
            yield started
    finally:
        await database.close()
