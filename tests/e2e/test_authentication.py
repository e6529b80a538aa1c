"""Deliveries to receivers that demand to know who sends, and through a forward proxy: configured by the API or in the
panel's form, up to the receiver's answer."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from pydantic import SecretStr
from temporalio.testing import WorkflowEnvironment

from tests.api.acting import EVENT, ActionStarts, acting_installation, in_a_new_store
from tests.api.serving import serving
from tests.authorization_server import AuthorizationServer
from tests.browser import CHROMIUM_OPTIONS
from tests.databases import cloned_database
from tests.forward_proxy import tinyproxy
from tests.node_packages import node_modules
from tests.panel.browser.people import People
from tests.receiver import Authority, Exchange, Receiver, client_of, status


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
async def installed(
    database_template: str, temporal: WorkflowEnvironment, authority: Authority
) -> AsyncIterator[ActionStarts]:
    """API and worker, which trust the test's authority."""
    async with (
        cloned_database(database_template) as url,
        acting_installation(url, temporal, ca_bundle=authority.ca_bundle) as started,
    ):
        yield started


@pytest.fixture
async def acting(installed: ActionStarts) -> ActionStarts:
    return await in_a_new_store(installed)


async def update(acting: ActionStarts, subscription_id: str, url: str, authentication: dict[str, Any]) -> None:
    """Replace the authentication of a subscription."""
    path = acting.api.url(f"webhook/subscription/{subscription_id}")
    body = {"webhookSubscription": {"url": url, "authentication": authentication}}
    answer = await acting.api.client.put(path, json=body)
    assert answer.status_code == 204, answer.text


def checked(accepts: Callable[[Exchange], bool]) -> Callable[[Exchange], Any]:
    async def reply(exchange: Exchange) -> None:
        await status(200 if accepts(exchange) else 403)(exchange)

    return reply


async def test_a_client_certificate_is_rotated_without_losing_a_delivery(
    acting: ActionStarts, authority: Authority
) -> None:
    first, second = (authority.client_pems(name) for name in ("first.example.com", "second.example.com"))
    accepted = "first.example.com"
    seen: list[str] = []

    def known(exchange: Exchange) -> bool:
        seen.append(client_of(exchange))
        return seen[-1] == accepted

    async with Receiver(tls=authority.server_context("127.0.0.1", require_client=True)) as receiver:
        receiver.otherwise = checked(known)
        mtls = {"type": "mtls", "certificate": first[0], "privateKey": first[1]}
        url = receiver.url("/hook")
        subscription = await acting.subscribe(url, authentication=mtls, retrySchedule=[5] * 10)
        await acting.until(await acting.emit(), "delivered", 1)
        accepted = "second.example.com"
        event = await acting.emit()
        await acting.until(event, "pending", 1)
        renewed = {"type": "mtls", "certificate": second[0], "privateKey": second[1]}
        await update(acting, subscription, url, renewed)
        [delivery] = await acting.deliveries(event)
        assert (await acting.ended(delivery["messageId"], 60))["status"] == "delivered"
    assert (seen[0], seen[-1]) == ("first.example.com", "second.example.com")
    assert seen == sorted(seen)  # no request of the old one after the first of the new one


async def test_a_client_secret_is_rotated_without_losing_a_delivery(acting: ActionStarts, receiver: Receiver) -> None:
    async with Receiver() as socket:
        server = AuthorizationServer(socket, clients={"shop": "first"}, scopes={"deliveries"})
        socket.otherwise = server.token
        receiver.otherwise = server.protects(status(200))
        url = receiver.url("/hook")
        oauth2 = {"type": "oauth2", "tokenUrl": server.token_url, "clientId": "shop", "scope": "deliveries"}
        subscription = await acting.subscribe(
            url, authentication={**oauth2, "clientSecret": "first"}, retrySchedule=[5] * 20
        )
        await acting.until(await acting.emit(), "delivered", 1)
        server.clients["shop"] = "second"
        server.revoke_all()
        event = await acting.emit()
        await acting.until(event, "pending", 1)
        [delivery] = await acting.deliveries(event)
        assert (delivery["lastStatusCode"], delivery["lastFailure"]) == (401, "http_4xx")
        [attempt] = (await acting.look(f"delivery/{delivery['messageId']}"))["attemptList"][:1]
        assert "no new access token after the 401" in attempt["detail"]
        assert "invalid_client" in attempt["detail"]
        [explained] = (await acting.explain(event, subscription))["items"]
        assert "401 rejected" in explained["text"]
        await update(acting, subscription, url, {**oauth2, "clientSecret": "second"})
        assert (await acting.ended(delivery["messageId"], 60))["status"] == "delivered"
    details = await acting.look(f"subscription/{subscription}")
    assert details["authentication"] == {**oauth2, "clientSecret": "•••"}


@pytest.fixture(scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Chromium without a window."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield started
        await started.close()


@asynccontextmanager
async def people_of(acting: ActionStarts, browser: Browser) -> AsyncIterator[People]:
    """Visitors of the store's panel."""
    axe = (node_modules() / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    async with serving(acting.api.app) as root:
        people = People(browser, f"{root}/admin", acting.api.database, acting.api.store, axe, set())
        yield people
        await people.aclose()


@pytest.fixture
async def people(acting: ActionStarts, browser: Browser) -> AsyncIterator[People]:
    async with people_of(acting, browser) as everybody:
        yield everybody


async def configure(people: People, url: str, kind: str, fields: dict[str, str]) -> Page:
    """Create a webhook with this authentication in the form; its page."""
    page = await people.visit("editor", f"/webhooks/new?eventName={EVENT}")
    await page.get_by_label("URL").fill(url)
    await page.get_by_label("Authentication").select_option(kind)
    for label, value in fields.items():
        await page.get_by_label(label, exact=True).fill(value)
    await people.check(page)
    await save(page)
    await page.get_by_role("link", name="I have saved it").click()
    return page


async def save(page: Page) -> None:
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status")).to_contain_text("is saved")


async def see_delivered(people: People, message_id: str, means: str | None = None) -> None:
    """The delivery's page tells of one attempt that was delivered, and by which means."""
    page = await people.visit("viewer", f"/deliveries/{message_id}")
    await expect(page.get_by_text("Attempt 1", exact=True)).to_be_visible()
    await expect(page.locator(".status-delivered").first).to_be_visible()
    if means is not None:
        await expect(page.get_by_text(means, exact=True)).to_be_visible()


async def test_oauth2_is_configured_in_the_panel_and_its_delivery_seen(
    acting: ActionStarts, people: People, receiver: Receiver
) -> None:
    async with Receiver() as socket:
        server = AuthorizationServer(socket, clients={"shop": "s3cret"}, scopes={"deliveries"})
        socket.otherwise = server.token
        receiver.otherwise = server.protects(status(200))
        client = {"Token endpoint": server.token_url, "Client id": "shop", "Client secret": "s3cret"}
        page = await configure(people, receiver.url("/hook"), "oauth2", {**client, "Scope": "deliveries"})
        await expect(page.get_by_text("clientId: shop")).to_be_visible()
        assert "s3cret" not in await page.content()
        event = await acting.emit()
        await see_delivered(people, await acting.until(event, "delivered", 1), "sent with an OAuth 2 access token")
        assert [granted["scope"] for granted in server.granted] == ["deliveries"]
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("URL").fill(receiver.url("/hook", host="localhost"))
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("enter it again, since the destination changed")).to_be_visible()
        await page.get_by_label("Client secret").fill("s3cret")
        await save(page)
        await acting.until(await acting.emit(), "delivered", 1)
        assert [request.header("Host") for request in receiver.requests] == [
            f"{host}:{receiver.port}" for host in ("127.0.0.1", "localhost")
        ]


async def test_a_client_certificate_is_configured_and_renewed_in_the_panel_and_its_deliveries_seen(
    acting: ActionStarts, people: People, authority: Authority
) -> None:
    first = authority.client_pems("first.example.com", not_after=datetime(2030, 1, 31, tzinfo=UTC))
    second = authority.client_pems("second.example.com")
    labels = ("Certificate with its chain, in PEM", "Private key in PEM, without a passphrase")
    seen: list[str] = []
    async with Receiver(tls=authority.server_context("127.0.0.1", require_client=True)) as receiver:
        receiver.otherwise = checked(lambda exchange: bool(seen.append(client_of(exchange)) or seen))
        page = await configure(people, receiver.url("/hook"), "mtls", dict(zip(labels, first, strict=True)))
        await expect(page.get_by_text("certificate: •••")).to_be_visible()
        message_id = await acting.until(await acting.emit(), "delivered", 1)
        await see_delivered(people, message_id, "sent with the client certificate valid until 2030-01-31")
        await page.get_by_role("link", name="Edit").click()
        for label, value in zip(labels, second, strict=True):
            await expect(page.get_by_label(label)).to_have_value("•••")
            await page.get_by_label(label).fill(value)
        await save(page)
        await see_delivered(people, await acting.until(await acting.emit(), "delivered", 1))
    assert seen == ["first.example.com", "second.example.com"]


async def test_a_delivery_through_a_forward_proxy_and_a_refused_one_are_seen_in_the_panel(
    database_template: str, temporal: WorkflowEnvironment, browser: Browser, receiver: Receiver, tmp_path: Path
) -> None:
    refused = tmp_path / "filter"
    refused.write_text("127.0.0.9\n")
    lines = ("BasicAuth worker some.thing", f'Filter "{refused}"', "FilterType fnmatch")
    with tinyproxy(tmp_path, *lines) as proxy:
        address = SecretStr(f"http://worker:some%2Ething@127.0.0.1:{proxy.port}")
        async with (
            cloned_database(database_template) as url,
            acting_installation(url, temporal, egress_proxy_url=address) as acting,
            people_of(acting, browser) as people,
        ):
            await configure(people, receiver.url("/hook"), "bearer", {"Token": "s3cret"})
            message_id = await acting.until(await acting.emit(), "delivered", 1)
            await see_delivered(people, message_id, "sent through the egress proxy")
            assert receiver.requests[0].header("Authorization") == "Bearer s3cret"
            await acting.subscribe(receiver.url("/hook"), eventName="CustomerRegistered")
            await see_delivered(people, await acting.until(await acting.emit("CustomerRegistered"), "delivered", 1))
            assert set(proxy.asked) == {f"127.0.0.1:{receiver.port}"}
            await acting.subscribe(receiver.url("/hook", host="127.0.0.9"), eventName="CustomerDeactivated")
            await acting.until(await acting.emit("CustomerDeactivated"), "pending", 1)
            page = await people.visit("viewer", "/deliveries")
            await expect(page.get_by_text("refused by the egress proxy", exact=True)).to_be_visible()
            await people.check(page)
