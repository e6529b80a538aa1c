"""Every page there is, by the panel's own routes: none is left unchecked, not one that is added tomorrow either.

The last file of the folder: what the stories before it checked, in the states that matter, is not checked once more.
"""

import re

import pytest
from playwright.async_api import expect

from api.panel.app import named_routes
from api.panel.frame.routes import PanelRoute
from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import People
from tests.receiver import Receiver

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]  # alone, it checks every page

LOOKED_AT = [route for route in named_routes().values() if route.method == "GET"]
FRAGMENTS = {
    "dashboard.components",
    "deliveries.fresh",
    "event_types.sample",
    "expiring.scans",
    "recover.figures",
}
"""What scripts put into pages, which are checked with it."""


async def objects(people: People, shop: LiveShop, receiver: Receiver) -> dict[str, str]:
    """One of each that a page can be about, by the parameter of its address."""
    webhook = await shop.subscribe(receiver.url("/hook"), name="CRM", legacy=True)
    event = await shop.emit()
    [message] = await shop.until(event, "delivered")
    wanted = {"since": "2020-01-01T00:00:00Z", "statuses": ["delivered"]}
    page = await people.visit("admin", f"/migrate/{webhook}", everywhere=True)
    await page.get_by_role("button", name="Create the modern webhook").click()
    await expect(page.get_by_role("status").first).to_contain_text("is created and paused")
    act = await shop.post(f"webhook/subscription/{webhook}/recover", {"recover": wanted})
    return {
        "webhookSubscriptionId": webhook,
        "eventId": event,
        "messageId": message,
        "bulkActionId": act["recoverId"],
        "expiryKind": "points",
        "eventName": "CustomerUpdated",
    }


def address(route: PanelRoute, ids: dict[str, str]) -> str:
    """The page's address below its store; fails for a parameter that `objects` does not know."""
    path = route.path.removeprefix("/{storeCode}")
    return re.sub(r"{(\w+)}", lambda name: ids[name[1]], path)


async def test_every_page_of_the_panel_is_checked(people: People, shop: LiveShop, receiver: Receiver) -> None:
    ids = await objects(people, shop, receiver)
    pages = [route for route in LOOKED_AT if route.name not in FRAGMENTS]
    for route in pages:
        if route.name not in people.checked:
            page = await people.visit("admin", address(route, ids), everywhere=True)
            await people.check(page)
            await page.close()
    assert {route.name for route in pages} - people.checked == set()
    assert {name for name in FRAGMENTS if name not in named_routes()} == set()


async def test_what_is_called_a_fragment_is_no_page(people: People, shop: LiveShop, receiver: Receiver) -> None:
    ids = await objects(people, shop, receiver)
    for route in LOOKED_AT:
        if route.name in FRAGMENTS:
            page = await people.visit("admin", address(route, ids), everywhere=True)
            assert await page.locator("main").count() == 0, route.name
            await page.close()
