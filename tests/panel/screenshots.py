"""Takes the screenshots of docs/panel.md: `make screenshots`. The real stack, a day of made-up traffic, Chromium."""

import asyncio
import math
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from playwright.async_api import Browser, Page, async_playwright
from sqlalchemy import text

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from local.stack_file import Stack
from storage.database import Database
from tests.authorization_server import AuthorizationServer
from tests.browser import CHROMIUM_OPTIONS, NO_CHROMIUM, installed_chromium
from tests.forward_proxy import tinyproxy
from tests.house import ROOT
from tests.panel.browser.conftest import SETTINGS
from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import WIDE
from tests.receiver import Authority, Exchange, Receiver, client_of, status
from tests.stack import running_stack

FOLDER = ROOT / "docs" / "panel"
NARROW = (390, 844)
VARIANTS = [(theme, size) for theme in ("light", "dark") for size in (WIDE, NARROW)]
TALLEST = 1600  # pixels; what is longer is cut off, so that docs/panel/ stays below 7 MB
ZONE = "Europe/Berlin"  # so that a time that is not the store's own shows
Variants: TypeAlias = Sequence[tuple[str, tuple[int, int]]]
OUTSIDE = "127.0.0.2"
"""Where receivers are reached through the egress proxy."""
SETTLED_MS = 600  # charts have been drawn by then; nothing depends on it but a picture

WEBHOOKS: list[dict[str, Any]] = [
    {"eventName": "CustomerUpdated", "name": "Till: members", "path": "/till/members"},
    {"eventName": "CustomerUpdated", "name": "Old shop: members", "path": "/old-shop", "legacy": True},
    {"eventName": "AvailablePointsAmountChanged", "name": "App: points", "path": "/app/points", "ordered": True},
    {"eventName": "TransactionRegistered", "name": "Warehouse: sales", "path": "/warehouse", "retrySchedule": [600]},
    {"eventName": "CustomerLevelChanged", "name": "Letters: levels", "path": "/letters", "rateLimitPerSecond": 5},
    {"eventName": "CouponWillExpire", "name": "Reminders: coupons", "path": "/reminders"},
]
FAILING, PAUSED = "Warehouse: sales", "Letters: levels"
EMITTED = ("CustomerUpdated", "AvailablePointsAmountChanged", "TransactionRegistered", "CustomerLevelChanged")
ROUNDS = 6

_ZONE = text("UPDATE store SET timezone = :zone WHERE code = :store")
_MINUTES = text("""
INSERT INTO attempts_of_minute (store_code, minute, outcome, step, writer_id, count)
VALUES (:store, date_trunc('minute', now()) - make_interval(mins => :ago), :outcome, :step, gen_random_uuid(), :count)
""")
_HOURS = text("""
INSERT INTO attempts_of_hour (subscription_id, hour, outcome, writer_id, count)
VALUES (:id, date_trunc('hour', now()) - interval '2 hours', :outcome, gen_random_uuid(), :count)
""")


async def answer(exchange: Exchange) -> None:
    """A receiver for each webhook; one is down."""
    if exchange.request.target == "/warehouse":
        await status(503, body=b"<h1>Back at 14:00</h1>")(exchange)
    else:
        await status(200, body=b'{"received":true}')(exchange)


async def emit(shop: LiveShop, name: str) -> str:
    """The id of a new event, with the data of its sample."""
    body = f'{{"event":{{"eventName":"{name}","data":{dump(CATALOGUE[name].sample)}}}}}'
    sent = await shop.api.post(f"/api/{shop.code}/event", content=body)
    return str(sent.json()["eventId"])


async def a_day(shop: LiveShop, receiver: Receiver, database: Database) -> dict[str, str]:
    """Webhooks, and what happened to them; ids by what they are of."""
    ids = {}
    for webhook in WEBHOOKS:
        fields = {name: value for name, value in webhook.items() if name not in ("path", "eventName")}
        headers = [{"headerName": "Authorization", "headerValue": "Bearer of-the-till"}]
        url = receiver.url(webhook["path"])
        ids[webhook["name"]] = await shop.subscribe(
            url, webhook["eventName"], headers=headers, hmacEnabled=True, **fields
        )
    await shop.post(f"webhook/subscription/{ids[PAUSED]}/pause")
    events = [(name, await emit(shop, name)) for _ in range(ROUNDS) for name in EMITTED]
    await shop.until(next(event for name, event in reversed(events) if name == "CustomerUpdated"), "delivered", 2)
    failing = next(event for name, event in events if name == "TransactionRegistered")
    [item] = await shop.deliveries(failing)
    async with database.transaction() as connection:
        await connection.execute(_ZONE, {"store": shop.code, "zone": ZONE})
        for ago in range(1, 60):
            wave = 40 + round(25 * math.sin(ago / 6)) + ago % 7
            for outcome, step, count in (("delivered", 6 + ago % 3, wave), ("failed", 12, ago % 5)):
                values = {"store": shop.code, "ago": ago, "outcome": outcome, "step": step, "count": count}
                await connection.execute(_MINUTES, values)
        for place, (name, webhook_id) in enumerate(ids.items()):
            good = 0 if name == FAILING else 240 * (place + 1) + 17
            for outcome, count in (("delivered", good), ("failed", 31 if name == FAILING else place)):
                await connection.execute(_HOURS, {"id": webhook_id, "outcome": outcome, "count": count})
    await shop.post("schedule/sync")
    return {**ids, "event": failing, "delivery": item["messageId"]}


class Photographer:
    """Somebody who is logged in, with a camera."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self._address = address

    async def show(self, path: str) -> None:
        """Open a page of the store."""
        await self.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        await self.page.goto(self._address + path)

    async def take(self, name: str, *, all_variants: bool = False, tallest: int = TALLEST) -> None:
        """A picture of what is open now; wide in light and narrow in dark, or in each theme and width."""
        for theme, (width, height) in VARIANTS if all_variants else (VARIANTS[0], VARIANTS[-1]):
            await self.page.set_viewport_size({"width": width, "height": height})
            await self.page.wait_for_timeout(SETTLED_MS)
            await self.page.evaluate("theme => document.documentElement.setAttribute('data-bs-theme', theme)", theme)
            await self.page.wait_for_timeout(SETTLED_MS)
            tall = await self.page.evaluate("() => document.documentElement.scrollHeight")
            await self.page.set_viewport_size({"width": width, "height": max(height, min(tall, tallest))})
            await self.page.evaluate("() => window.scrollTo(0, 0)")
            await self.page.screenshot(path=FOLDER / f"{name}-{theme}-{width}.png")
            print(f"{name}-{theme}-{width}.png", flush=True)

    async def take_part(self, name: str, part: str, variants: Variants = (VARIANTS[0], VARIANTS[-1])) -> None:
        """Pictures of one section of the page alone, wide in light and narrow in dark unless told otherwise."""
        for theme, (width, _) in variants:
            await self.page.set_viewport_size({"width": width, "height": TALLEST})
            await self.page.evaluate("theme => document.documentElement.setAttribute('data-bs-theme', theme)", theme)
            await self.page.wait_for_timeout(SETTLED_MS)
            section, bar = self.page.get_by_role("region", name=part), self.page.locator(".save-bar")
            await bar.evaluate("bar => bar.style.visibility = 'hidden'")  # it would cover a part
            await section.screenshot(path=FOLDER / f"{name}-{theme}-{width}.png")
            await bar.evaluate("bar => bar.style.visibility = ''")
            print(f"{name}-{theme}-{width}.png", flush=True)

    async def fill_in_a_webhook(self, url: str) -> None:
        """The form of a new webhook, with a test that has been answered."""
        page = self.page
        await self.show("/webhooks/new")
        for event in ("CustomerLevelChanged", "CustomerRegistered"):
            await page.get_by_role("combobox", name="Events").fill(event)
            await page.get_by_role("combobox", name="Events").press("Enter")
            await page.get_by_text(f"Modern and legacy body {event}").wait_for()
        await page.get_by_label("URL").fill(url)
        await page.get_by_text("This address may be used.").wait_for()
        await page.get_by_role("button", name="Add header").click()
        await page.get_by_label("Header name").fill("X-Till")
        await page.get_by_label("Header value").fill("7")
        await page.get_by_label("Authentication").select_option("basic")
        await page.get_by_label("User name").fill("till")
        await page.get_by_label("Password").fill("a password")
        await page.get_by_role("button", name="Generate key").click()
        await page.get_by_role("button", name="Send test").click()
        await page.get_by_role("heading", name="CustomerRegistered: Delivered").wait_for()
        await page.get_by_text("Request and response").first.click()

    async def fill_in_an_authentication(self, event: str, url: str, kind: str, fields: dict[str, str]) -> None:
        """The form of a new webhook, with an authentication of this type."""
        page = self.page
        await self.show(f"/webhooks/new?eventName={event}")
        await page.get_by_label("URL").fill(url)
        await page.get_by_text("This address may be used.").wait_for()
        await page.get_by_label("Authentication").select_option(kind)
        for label, value in fields.items():
            await page.get_by_label(label, exact=True).fill(value)
        await page.evaluate("() => document.activeElement.blur()")
        await page.evaluate("() => document.querySelectorAll('textarea').forEach(one => one.scrollTo(0, 0))")

    async def save(self) -> None:
        """Save the webhook of the form."""
        await self.page.get_by_role("button", name="Save").click()
        await self.page.get_by_role("status").filter(has_text="is saved").wait_for()


async def take_authentications(camera: Photographer, shop: LiveShop, authority: Authority) -> None:
    """The pictures of docs/authentication.md: the form of each kind, and a delivery through the egress proxy."""
    ends_at = datetime.now(UTC) + timedelta(days=200)
    certificate, key = authority.client_pems("shop.example.com", not_after=ends_at)
    tls = authority.server_context(OUTSIDE, require_client=True)

    async def known(exchange: Exchange) -> None:
        await status(200, body=dump({"client": client_of(exchange)}).encode())(exchange)

    async with (
        Receiver(host=OUTSIDE) as tokens,
        Receiver(host=OUTSIDE) as protected,
        Receiver(host=OUTSIDE, tls=tls) as trusting,
    ):
        server = AuthorizationServer(tokens, clients={"loyalty": "s3cret"}, scopes={"deliveries"})
        tokens.otherwise = server.token
        protected.otherwise = server.protects(status(200, body=b'{"received":true}'))
        trusting.otherwise = known
        client = {"Token endpoint": server.token_url, "Client id": "loyalty", "Client secret": "s3cret"}
        key_label = "Private key in PEM, without a passphrase"
        shown_key = "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----"
        pems = {"Certificate with its chain, in PEM": certificate, key_label: shown_key}
        for kind, event, receiver, fields in (
            ("oauth2", "CustomerRegistered", protected, {**client, "Scope": "deliveries"}),
            ("mtls", "CustomerDeactivated", trusting, pems),
        ):
            await camera.fill_in_an_authentication(event, receiver.url("/members"), kind, fields)
            await camera.take_part(f"authentication-{kind}", "Receiver", VARIANTS[:2])
            if kind == "mtls":
                await camera.page.get_by_label(key_label, exact=True).fill(key)
            await camera.save()
            [message_id] = await shop.until(await emit(shop, event), "delivered")
            await camera.show(f"/deliveries/{message_id}")
            await camera.page.get_by_text("Response of the receiver").click()
            await camera.take(f"authentication-{kind}-delivery", tallest=WIDE[1])


async def take_all(camera: Photographer, ids: dict[str, str], receiver: Receiver) -> None:
    """Every picture."""
    await camera.show("/webhooks")
    await camera.take("webhooks", all_variants=True)
    await camera.fill_in_a_webhook(receiver.url("/letters/new"))
    await camera.take("webhook-form", all_variants=True)
    await camera.take_part("webhook-test", "Test")
    for name, path, all_variants in (
        ("webhook", f"/webhooks/{ids[FAILING]}", True),
        ("dashboard", "/dashboard", True),
        ("deliveries", "/deliveries", True),
        ("delivery", f"/deliveries/{ids['delivery']}", True),
        ("event", f"/events/{ids['event']}", False),
        ("event-types", "/event-types", False),
        ("expiring", "/expiring", False),
        ("recover", f"/recover?webhookSubscriptionId={ids[FAILING]}", False),
        ("migrate", "/migrate", False),
        ("migrate-one", f"/migrate/{ids['Old shop: members']}", False),
        ("settings", "/settings", False),
        ("keys", "/keys", False),
        ("administrators", "/administrators", False),
        ("audit", "/audit", False),
    ):
        await camera.show(path)
        await camera.take(name, all_variants=all_variants)


@asynccontextmanager
async def logged_in(browser: Browser, stack: Stack) -> AsyncIterator[Page]:
    """A tab of the stack's administrator; its first picture is the log-in."""
    context = await browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}, reduced_motion="reduce")
    page = await context.new_page()
    await page.goto(f"{stack.panel}/login")
    for width, height in (WIDE, NARROW):
        await page.set_viewport_size({"width": width, "height": height})
        await page.screenshot(path=FOLDER / f"login-light-{width}.png")
    await page.get_by_label("User name").fill(stack.admin.username)
    await page.get_by_label("Password").fill(stack.admin.password)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(lambda url: not url.endswith("/login"))
    yield page
    await context.close()


async def main(chromium: str) -> None:
    """Replace what stands in docs/panel/."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    authority = Authority()
    with (
        tempfile.TemporaryDirectory() as directory,
        tinyproxy(Path(directory)) as proxy,
        running_stack(
            Path(directory),
            environment={
                **SETTINGS,
                "CA_BUNDLE": authority.ca_bundle,
                "EGRESS_PROXY_URL": f"http://127.0.0.1:{proxy.port}",
                "EGRESS_NO_PROXY": "127.0.0.1/32",
            },
        ) as stack,
    ):
        database = Database(stack.database, pool_size=2)
        headers = {"X-AUTH-TOKEN": stack.api_key, "Content-Type": "application/json"}
        async with (
            httpx.AsyncClient(base_url=stack.api, headers=headers, trust_env=False, timeout=30) as api,
            Receiver() as receiver,
            async_playwright() as playwright,
        ):
            receiver.otherwise = answer
            shop = LiveShop(stack.store, api)
            ids = await a_day(shop, receiver, database)
            browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
            async with logged_in(browser, stack) as page:
                camera = Photographer(page, f"{stack.panel}/{stack.store}")
                await take_all(camera, ids, receiver)
                await take_authentications(camera, shop, authority)
            await browser.close()
        await database.close()


if __name__ == "__main__":
    found = installed_chromium()
    if found is None:
        sys.exit(NO_CHROMIUM)
    asyncio.run(main(found))
