"""Logging in and out of the panel, and what ends a session."""

import asyncio
import re
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from api.login.credentials import CREDENTIAL_MOST
from storage.access.passwords import Passwords
from storage.access.queries import set_password
from storage.access.sessions import IDLE_TIME, LONGEST_TIME
from tests.api.installation import Installation, Shop, installation
from tests.api.serving import serving
from tests.panel.conftest import Visit
from tests.panel.visitor import PASSWORD, SESSION, Visitor, stranger, visitor


def page_of(shop: Shop) -> str:
    return f"/admin/{shop.store}/webhooks"


async def is_in(somebody: Visitor, shop: Shop) -> bool:
    response = await somebody.get(page_of(shop))
    assert response.status_code == 200 or response.headers["location"].startswith("/admin/login?next=")
    return response.status_code == 200


async def test_whoever_is_not_logged_in_comes_back_to_the_page_wished_for(installed: Installation, shop: Shop) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    await somebody.post("/admin/logout")
    sent = await somebody.get(f"{page_of(shop)}?legacy=true")
    assert sent.status_code == 303
    form = await somebody.get(sent.headers["location"])
    wished = re.search(r'name="next" value="([^"]*)"', form.text)
    assert wished is not None
    assert wished[1] == f"{page_of(shop)}?legacy=true"
    assert (await somebody.log_in(wished=wished[1])).headers["location"] == f"{page_of(shop)}?legacy=true"
    assert await is_in(somebody, shop)


@pytest.mark.parametrize(
    "wished",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/admin/\\evil",
        "/api/",
        "javascript:alert(1)",
        "",
    ],
)
async def test_the_log_in_leads_nowhere_but_into_the_panel(installed: Installation, shop: Shop, wished: str) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    await somebody.post("/admin/logout")
    assert (await somebody.log_in(wished=wished)).headers["location"] == "/admin/"


async def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(
    installed: Installation, shop: Shop
) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    await somebody.post("/admin/logout")
    cookie = (await somebody.log_in()).headers["set-cookie"].lower()
    assert {"httponly", "samesite=lax", "path=/admin"} <= {part.strip() for part in cookie.split(";")}
    assert "secure" not in cookie
    another = await stranger(installed, somebody.username)
    another.client.headers["Origin"] = "https://api"  # a proxy that is not trusted speaks TLS, and HTTP with us
    assert "secure" in (await another.log_in()).headers["set-cookie"].lower()
    somebody.client.base_url = "https://api"
    somebody.client.headers["Origin"] = "https://api"
    somebody.client.cookies.clear()
    assert "secure" in (await somebody.log_in()).headers["set-cookie"].lower()


@pytest.mark.parametrize("origin", ["http://[", "null", "", "http://evil.example"])
async def test_an_origin_that_is_not_ours_is_refused_whatever_it_is(
    installed: Installation, shop: Shop, origin: str
) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    assert (await somebody.post("/admin/logout", Origin=origin)).status_code == 403
    assert (await (await stranger(installed)).post("/admin/login", Origin=origin)).status_code == 403
    assert await is_in(somebody, shop)


async def test_logging_in_gives_a_token_nobody_knew_before(installed: Installation, shop: Shop) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    await somebody.post("/admin/logout")
    await somebody.get("/admin/login")
    planted = somebody.client.cookies[SESSION]
    await somebody.log_in()
    assert somebody.client.cookies[SESSION] != planted


async def test_a_wrong_password_is_refused_and_throttled(installed: Installation, shop: Shop) -> None:
    owner = await visitor(installed, "viewer", (shop.store,))
    guesser = await stranger(installed, owner.username, address="192.0.2.7")
    refused = await guesser.log_in("wrong")
    assert (refused.status_code, refused.headers.get("location")) == (401, None)
    assert "User name or password is wrong" in refused.text
    statuses = [(await guesser.log_in("wrong")).status_code for _ in range(6)]
    assert statuses[-1] == 429
    assert not await is_in(guesser, shop)
    assert await is_in(owner, shop)


async def test_logging_out_ends_the_session_for_whoever_kept_its_cookie(installed: Installation, shop: Shop) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    kept = somebody.client.cookies[SESSION]
    assert (await somebody.post("/admin/logout")).headers["location"] == "/admin/login?out=1"
    assert "You are logged out" in (await somebody.get("/admin/login?out=1")).text
    somebody.client.cookies.set(SESSION, kept, path="/admin")
    assert not await is_in(somebody, shop)


async def test_a_page_learns_who_is_logged_in_and_the_token_to_send_its_forms_with(
    installed: Installation, shop: Shop
) -> None:
    somebody, script = await visitor(installed, "viewer", (shop.store,)), {"X-Requested-With": "fetch"}
    await somebody.get(page_of(shop))
    answer = await somebody.client.get("/admin/session", headers=script)
    assert answer.json() == {"name": somebody.username, "csrf": somebody.csrf}
    assert answer.headers["cache-control"] == "no-store"
    await somebody.post("/admin/logout")
    assert (await somebody.client.get("/admin/session", headers=script)).status_code == 401


async def test_a_new_password_ends_every_session(installed: Installation, shop: Shop) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    async with installed.database.transaction() as connection:
        await set_password(connection, somebody.username, await Passwords().hash("another one"))
    assert not await is_in(somebody, shop)


async def test_a_deactivated_administrator_is_out_at_once(installed: Installation, shop: Shop) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    await installed.execute("UPDATE administrator SET active = false WHERE username = :name", name=somebody.username)
    assert not await is_in(somebody, shop)
    assert (await somebody.log_in(PASSWORD)).status_code == 401


async def test_a_page_repeats_no_more_of_a_user_name_than_one_may_have(installed: Installation) -> None:
    page = (await (await stranger(installed, '"' * (CREDENTIAL_MOST + 1))).log_in()).text
    assert f'value="{"&#34;" * CREDENTIAL_MOST}"' in page


@pytest.mark.parametrize(
    ("column", "age"),
    [("used_at", IDLE_TIME), ("expires_at", LONGEST_TIME)],
    ids=["nobody was there for two hours", "half a day has passed"],
)
async def test_a_session_ends_by_itself(installed: Installation, shop: Shop, column: str, age: timedelta) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    move = f"UPDATE panel_session SET {column} = {column} - cast(:age AS interval) WHERE administrator_id = "
    move += "(SELECT id FROM administrator WHERE username = :name)"
    await installed.execute(move, age=age - timedelta(minutes=1), name=somebody.username)
    assert await is_in(somebody, shop)
    await installed.execute(move, age=age, name=somebody.username)
    assert not await is_in(somebody, shop)


async def test_a_session_outlives_the_api_and_counts_in_each_of_its_processes(
    installed: Installation, shop: Shop, shared_database: str
) -> None:
    somebody = await visitor(installed, "viewer", (shop.store,))
    async with installation(shared_database) as another:
        guest = await stranger(another, somebody.username)
        guest.client.cookies = somebody.client.cookies
        assert await is_in(guest, shop)


async def test_changed_rights_count_at_the_next_click(installed: Installation, shop: Shop, visit: Visit) -> None:
    somebody = await visit("viewer")
    await installed.execute(
        "UPDATE administrator SET scopes = :scopes WHERE username = :name",
        scopes=["event:emit"],
        name=somebody.username,
    )
    assert (await somebody.get(page_of(shop))).status_code == 403


async def test_a_log_in_that_is_broken_off_leaves_no_traceback(
    installed: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n"
    async with serving(installed.app) as root, httpx.AsyncClient(base_url=root, timeout=30) as other:
        address = urlsplit(root)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST /admin/login HTTP/1.1\r\nHost: panel\r\n" + form + b"\r\nusername=")
        await writer.drain()
        await other.get("/healthz")
        writer.close()
        await writer.wait_closed()
        for _ in range(20):  # the server has read the end of the connection before the last of these
            await other.get("/healthz")
    assert [
        record.getMessage() for record in caplog.records if record.exc_info and record.name == "uvicorn.error"
    ] == []
