"""Take the screenshots of docs/operating.md: `make screenshots`. A real stack, a failing receiver, Chromium.

The Web UI shows the traceback of a failed attempt with the path of the checkout: take them in a folder whose name may
be seen, such as /opt/loyalty-webhooks.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.async_api import Page, async_playwright

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from local.stack_file import Stack
from temporal.retries import DELIVER_WEBHOOK
from tests.browser import CHROMIUM_OPTIONS, NO_CHROMIUM, installed_chromium
from tests.deadlines import eventually
from tests.house import ROOT
from tests.panel.browser.conftest import SETTINGS
from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import WIDE
from tests.receiver import Exchange, Receiver, status
from tests.stack import running_stack

FOLDER = ROOT / "docs" / "temporal"
BURST = 300
ALONE, SHARED, FAILING = "CustomerRegistered", "CustomerUpdated", "TransactionRegistered"
RETRY_SCHEDULE = [5, 900]
"""Seconds. The second retry fails too, so that the page shows a failure and a next attempt in the future."""

FAILED_ATTEMPTS = 2
HEIGHT = 860
SETTLED_MS = 1_500
"""Delay between the appearance of a page's content and its screenshot, for charts."""

LOADED_MS = 60_000
"""Maximum loading time of a page. The Web UI shows placeholders meanwhile."""


async def answer(exchange: Exchange) -> None:
    """Answer 503 at one address, 200 elsewhere."""
    await status(503 if exchange.request.target == "/warehouse" else 200)(exchange)


async def emit(shop: LiveShop, name: str) -> str:
    """Emit the sample of an event and return its id."""
    body = f'{{"event":{{"eventName":"{name}","data":{dump(CATALOGUE[name].sample)}}}}}'
    accepted = await shop.api.post(f"/api/{shop.code}/event", content=body)
    return str(accepted.raise_for_status().json()["eventId"])


async def emit_batch(shop: LiveShop, name: str, count: int) -> str:
    """Emit so many samples of an event in one request and return the id of the last."""
    line = f'{{"eventName":"{name}","data":{dump(CATALOGUE[name].sample)}}}\n'
    accepted = await shop.api.post(
        f"/api/{shop.code}/event/batch", content=line * count, headers={"Content-Type": "application/x-ndjson"}
    )
    return str(accepted.raise_for_status().json()["items"][-1]["eventId"])


async def pages(shop: LiveShop, receiver: Receiver) -> dict[str, str]:
    """Emit an event alone, a burst and one to the failing receiver; return the Web UI's pages by screenshot."""
    await shop.subscribe(receiver.url("/till/members"), ALONE)
    await shop.subscribe(receiver.url("/app/points"), SHARED)
    await shop.subscribe(receiver.url("/warehouse"), FAILING, retrySchedule=RETRY_SCHEDULE)
    alone = await emit(shop, ALONE)
    await shop.until(alone, "delivered")
    burst = await emit_batch(shop, SHARED, BURST)
    await shop.until(burst, "delivered")
    failing = await emit(shop, FAILING)

    async def backing_off() -> bool:
        return [item["attempts"] for item in await shop.deliveries(failing)] == [FAILED_ATTEMPTS]

    await eventually(backing_off, 60.0, f"{FAILED_ATTEMPTS} attempts of {failing}")
    return {
        "event-alone": await temporal_url(shop, alone),
        "batch": await temporal_url(shop, burst),
        "backing-off-list": await activity_list(shop, failing),
    }


async def temporal_url(shop: LiveShop, event_id: str) -> str:
    """Return the link to Temporal of the event's only delivery."""
    [delivery] = await shop.deliveries(event_id)
    return str((await shop.get(f"webhook/delivery/{delivery['messageId']}"))["temporalUrl"])


async def activity_list(shop: LiveShop, event_id: str) -> str:
    """Return the list that has only the activity of the event's only delivery."""
    [delivery] = await shop.deliveries(event_id)
    root, _, _ = (await temporal_url(shop, event_id)).partition("/activities")
    return f"{root}/activities?query=" + quote(f'ActivityId="{delivery["messageId"]}/1"', safe="")


async def take(page: Page, name: str, content: str) -> None:
    """Write a screenshot of the open page once it shows this text."""
    await page.get_by_text(content, exact=True).filter(visible=True).first.wait_for(timeout=LOADED_MS)
    await page.wait_for_timeout(SETTLED_MS)
    await page.screenshot(path=FOLDER / f"{name}.png")
    print(f"{name}.png  {page.url}", flush=True)


async def take_all(stack: Stack, chromium: str) -> None:
    """Write every screenshot to docs/temporal/."""
    headers = {"X-AUTH-TOKEN": stack.api_key, "Content-Type": "application/json"}
    async with (
        httpx.AsyncClient(base_url=stack.api, headers=headers, trust_env=False, timeout=30) as api,
        Receiver() as receiver,
        async_playwright() as playwright,
    ):
        receiver.otherwise = answer
        found = await pages(LiveShop(stack.store, api), receiver)
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        page = await browser.new_page(viewport={"width": WIDE[0], "height": HEIGHT}, reduced_motion="reduce")
        for name, content in (("event-alone", "Input"), ("batch", "Input"), ("backing-off-list", DELIVER_WEBHOOK)):
            await page.goto(found[name])
            await take(page, name, content)
        await page.get_by_role("cell").get_by_role("link").first.click()  # the activity's id
        await take(page, "backing-off", "Next Attempt Scheduled Time")
        await page.get_by_text("User Metadata").filter(visible=True).first.click()
        await take(page, "backing-off-receiver", "Summary")
        await browser.close()


def main(chromium: str) -> None:
    """Replace the screenshots in docs/temporal/."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, running_stack(Path(directory), environment=SETTINGS) as stack:
        asyncio.run(take_all(stack, chromium))


if __name__ == "__main__":
    installed = installed_chromium()
    if installed is None:
        sys.exit(NO_CHROMIUM)
    main(installed)
