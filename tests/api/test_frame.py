"""The frame: what answers where no route does, and when the database does not."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from storage.database import Database
from tests.api.installation import Installation, Shop, installation
from tests.deadlines import eventually


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/default", "/nonsense", "/docs/", "/api/default/webhook"])
async def test_where_nothing_is_it_is_a_404(installed: Installation, path: str) -> None:
    response = await (await installed.caller()).get(path)
    assert (response.status_code, response.json()) == (404, {"code": 404, "message": "Not Found"})


async def test_another_method_is_a_405_that_names_the_right_ones(shop: Shop) -> None:
    response = await shop.client.patch(shop.path())
    assert (response.status_code, response.json()) == (405, {"code": 405, "message": "Method Not Allowed"})
    assert response.headers["Allow"] == "GET, POST"


async def test_another_method_on_a_static_file_is_a_405(installed: Installation) -> None:
    response = await (await installed.caller()).post("/docs/assets/docs.js")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")


async def test_no_other_site_may_read_an_answer(shop: Shop) -> None:
    response = await shop.client.get(shop.path(), headers={"Origin": "https://elsewhere.example.com"})
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.fixture
async def without_database() -> AsyncIterator[Installation]:
    """An API whose database is not there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening, so that nobody else can be there either
        address = f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/nowhere"
        async with installation(address) as started:
            yield started


async def test_without_a_database_it_is_a_503_that_says_so(without_database: Installation) -> None:
    client = await without_database.caller({"X-AUTH-TOKEN": "any"})
    login = {"username": "a", "password": "b"}
    answers = [
        await client.get("/api/default/webhook/subscription"),
        await client.post("/api/default/event", json={"event": {"eventName": "CustomerUpdated", "data": {}}}),
        await client.post("/api/admin/login_check", json=login),
        await client.post("/api/token/refresh", json={"refresh_token": "x"}),
    ]
    for response in answers:
        assert response.status_code == 503, response.text
        assert response.json()["code"] == 503
        assert "database" in response.json()["message"]
        assert int(response.headers["Retry-After"]) >= 1
    assert (await client.get("/healthz")).status_code == 200


async def test_it_recovers_when_the_database_drops_its_connections(database_url: str) -> None:
    async with installation(database_url) as installed:
        shop = await installed.shop()
        await asyncio.gather(*(shop.list() for _ in range(10)))
        other = Database(database_url, pool_size=2)
        async with other.transaction() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'loyalty-webhooks api' AND datname = current_database()"
                )
            )
        await other.close()
        statuses: list[int] = []

        async def answered() -> bool:
            statuses.append((await shop.client.get(shop.path())).status_code)
            return statuses[-1] == 200

        await eventually(answered, 30, "the API answers again")
        assert set(statuses) <= {200, 503}
        assert len(statuses) <= 6


async def test_what_cannot_be_decrypted_is_a_503_that_names_the_setting(shared_database: str, shop: Shop) -> None:
    await shop.created(headers=[{"headerName": "A", "headerValue": "1"}])
    async with installation(shared_database, encryption_keys=Fernet.generate_key().decode()) as stranger:
        client = await stranger.caller({"X-AUTH-TOKEN": stranger.admin_key})
        response = await client.get(shop.path())
    assert response.status_code == 503
    assert "ENCRYPTION_KEYS" in response.json()["message"]
