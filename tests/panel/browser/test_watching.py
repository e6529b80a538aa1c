"""Watching deliveries in a browser: what is new, one that fails until it does not, an event, many at once, figures."""

import re

import pytest
from playwright.async_api import expect

from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import NARROW, People
from tests.receiver import Receiver, status

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

MARKUP = "<script>document.title = 'taken over'</script><b>busy</b>"
HEADERS = [{"headerName": "Authorization", "headerValue": "Bearer very-secret"}]
COPIED = """id => {
    let copied;
    document.addEventListener("copy", event => { copied = event.clipboardData.getData("text/plain"); });
    getSelection().selectAllChildren(id);
    document.execCommand("copy");
    return copied;
}"""
"""What somebody gets who copies an id that is shown short."""
DRAWN = """([id, colour]) => {
    const canvas = document.querySelector(`#${id} canvas`);
    const dots = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const legend = canvas.height / 6;
    for (let at = 4 * canvas.width * Math.floor(legend); at < dots.length; at += 4)
        if (colour.every((part, one) => Math.abs(dots[at + one] - part) < 3)) return true;
    return false;
}"""
"""True if a chart has a dot of this colour below its legend."""

LATER = {"retrySchedule": [600]}
AT_ONCE = {"retrySchedule": [1]}


async def test_a_delivery_that_fails_until_it_does_not(people: People, shop: LiveShop, receiver: Receiver) -> None:
    page = await people.visit("editor", "/deliveries")
    await expect(page.get_by_text("No deliveries yet")).to_be_visible()
    await people.check(page)

    receiver.script(status(503, body=MARKUP.encode()))
    await shop.subscribe(receiver.url("/hook?x=1"), name="CRM", headers=HEADERS, hmacEnabled=True, **LATER)
    event = await shop.emit(customer={"email": "o'neil@example.com"})
    await expect(page.get_by_role("link", name="1 new delivery – show")).to_be_visible()
    await expect(page.locator("tr[data-row]")).to_have_count(0)
    await page.get_by_role("link", name="1 new delivery – show").click()
    row = page.locator("tr[data-row]")
    await expect(row).to_contain_text("503 server error http_5xx")
    await expect(row).to_contain_text(receiver.url("/hook?x=1"))
    await expect(row).to_contain_text("s ago")
    await expect(page.get_by_role("columnheader", name="Created America/New_York")).to_be_visible()
    await people.check(page)
    short = row.locator(".id")
    whole = await short.get_attribute("title")
    assert await short.evaluate(COPIED) == whole
    await short.click()

    await expect(page.get_by_text("Attempt 1 failed (503 server error, http_5xx)")).to_be_visible()
    await page.get_by_text("Response of the receiver").click()
    await expect(page.get_by_text(MARKUP)).to_be_visible()
    await expect(page).to_have_title(re.compile("^Delivery "))
    assert "very-secret" not in await page.content()
    curl = page.get_by_label("Repeat it with curl")
    await expect(curl).to_have_value(re.compile(r"-H 'Authorization: <AUTHORIZATION>'[\s\S]*o'\"'\"'neil@example.com"))
    await expect(page.get_by_role("link", name="Open in Temporal")).to_have_attribute(
        "href", re.compile(r"/namespaces/default/activities/")
    )
    await people.check(page)

    await page.get_by_role("button", name="Send now").click()
    await expect(page.get_by_role("status")).to_have_text("An attempt starts now.")
    [message_id] = await shop.until(event, "delivered")
    await expect(page.get_by_text("Attempt 2", exact=True)).to_be_visible()
    await expect(page.get_by_role("button", name="Redeliver")).to_be_visible()
    await page.get_by_role("link", name="Request of attempt 1").click()
    await expect(page.get_by_role("heading", name="Request of attempt 1")).to_be_visible()
    timestamp = str(receiver.requests[0].header("webhook-timestamp"))
    await expect(page.get_by_text(timestamp, exact=True)).to_have_count(2)
    await page.get_by_role("button", name="Redeliver").click()
    await expect(page.get_by_role("status")).to_contain_text("One more attempt starts now")
    await receiver.wait_for(3)
    assert {one.header("webhook-id") for one in receiver.requests} == {message_id}
    await people.check(page)


async def test_open_rows_change_where_they_stand(people: People, shop: LiveShop, receiver: Receiver) -> None:
    receiver.script(status(503))
    await shop.subscribe(receiver.url("/hook"), **LATER)
    event = await shop.emit()
    [message_id] = await shop.until(event, "pending")
    page = await people.visit("viewer", "/deliveries")
    await expect(page.locator("tr[data-row] .status-pending")).to_be_visible()
    await shop.post(f"webhook/delivery/{message_id}/send-now")
    await expect(page.locator("tr[data-row] .status-delivered")).to_be_visible()
    await expect(page.get_by_role("link", name=re.compile("new deliver"))).to_have_count(0)


async def test_an_event_is_found_and_says_why(people: People, shop: LiveShop, receiver: Receiver) -> None:
    await shop.subscribe(receiver.url("/hook"), name="CRM")
    await shop.subscribe(receiver.url("/other"), "CustomerRegistered", name="Mail")
    event = await shop.emit()
    [message_id] = await shop.until(event, "delivered")
    page = await people.visit("viewer", "/deliveries")
    await page.get_by_role("textbox", name="Find a delivery").fill(f" {message_id}\n")
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name=re.compile("^CustomerUpdated")).click()
    await expect(page.get_by_text("Delivered at")).to_be_visible()
    await page.get_by_text("Webhooks of other events: 1").click()
    await expect(page.get_by_text("It subscribes to CustomerRegistered")).to_be_visible()
    await people.check(page)
    page = await people.visit("viewer", "/events/00000000-0000-4000-8000-000000000000", status=404)
    await expect(page.get_by_text("No event of this id was accepted in this store.")).to_be_visible()
    await people.check(page)
    page = await people.visit("viewer", "/events?id=what", status=404)
    await people.check(page)


async def test_many_are_redelivered_after_their_number_is_said(
    people: People, shop: LiveShop, receiver: Receiver
) -> None:
    receiver.otherwise = status(500)
    webhook = await shop.subscribe(receiver.url("/hook"), name="CRM", **AT_ONCE)
    events = [await shop.emit() for _ in range(3)]
    made = [(await shop.until(event, "exhausted"))[0] for event in events]
    receiver.otherwise = status(200)
    page = await people.visit("editor", f"/deliveries?webhookSubscriptionId={webhook}")
    await page.get_by_label("Choose all of this page").check()
    await page.get_by_label(f"Choose delivery {made[2][:8]}").uncheck()
    await page.get_by_role("button", name="Redeliver the chosen").click()
    await expect(page.get_by_text("Send 2 deliveries once more?")).to_be_visible()
    await expect(page.get_by_text("CRM: 2")).to_be_visible()
    await people.check(page)
    await page.get_by_role("button", name="Redeliver 2 deliveries").click()
    await expect(page.get_by_text("2 deliveries are redelivered.")).to_be_visible()
    for event in events[:2]:
        await shop.until(event, "delivered")

    page = await people.visit("editor", f"/deliveries/recover?webhookSubscriptionId={webhook}&status=held")
    await expect(page.get_by_text("Waiting and held deliveries are sent automatically.")).to_be_visible()
    await people.check(page)
    await page.get_by_role("link", name="Back to the list").click()
    await page.get_by_label("Filter by Status", exact=True).select_option("exhausted")
    await page.get_by_role("link", name="Redeliver all of this filter").click()
    await expect(page.get_by_role("heading", name="Recover 1 delivery?")).to_be_visible()
    await expect(page.get_by_text("CRM")).to_be_visible()
    await people.check(page)
    await page.get_by_role("button", name="Recover them").click()
    await expect(page.get_by_role("heading", name="Recovery for CRM")).to_be_visible()
    await shop.until(events[2], "delivered")
    page = await people.visit("viewer", f"/deliveries?webhookSubscriptionId={webhook}")
    await expect(page.get_by_role("button", name="Redeliver the chosen")).to_have_count(0)


async def test_in_a_narrow_window_a_list_is_ordered_and_all_of_it_is_chosen(
    people: People, shop: LiveShop, receiver: Receiver
) -> None:
    for number in range(2):
        await shop.subscribe(receiver.url(f"/{'long' * 100}{number}"), name=f"Till {number}")
    await shop.until(await shop.emit(), "delivered", 2)
    page = await people.visit("editor", "/webhooks")
    await page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    await page.get_by_role("button", name="Filters").click()
    for name in ("Till 0", "Till 1"):
        await page.get_by_role("link", name="Webhook name").click()
        await expect(page.locator("tbody tr").first).to_contain_text(name)
        if name == "Till 0":
            await page.get_by_role("button", name="Filters").click()
    line, whole = page.locator(".long-url").first, receiver.url(f"/{'long' * 100}1")
    assert await line.evaluate("line => line.scrollHeight > line.clientHeight")
    await expect(line).to_have_attribute("title", whole)
    await people.check(page)
    await page.goto(people.address("/deliveries"))
    await page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    await page.get_by_label("Choose all of this page").check()
    await expect(page.locator("[name=messageId]:checked")).to_have_count(2)
    await people.check(page)


async def test_filters_of_a_narrow_window_are_folded_until_they_are_wanted(people: People) -> None:
    for path, field, value in (
        ("/deliveries", "Filter by Message id", "3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b"),
        ("/webhooks", "Filter by URL", "nowhere"),
        ("/audit", "Filter by Actor", "nobody"),
    ):
        page = await people.visit("admin", path)
        fold, filter_ = page.get_by_role("button", name="Filters"), page.get_by_label(field)
        await expect(fold).to_be_hidden()
        await expect(filter_).to_be_visible()
        await page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
        await expect(filter_).to_be_hidden()
        await fold.press("Enter")
        await filter_.fill(value)
        await filter_.press("Enter")
        await page.wait_for_url(f"**{path}?*")
        await expect(filter_).to_have_value(value)
        await expect(filter_).to_be_visible()
        await fold.press("Enter")
        await expect(filter_).to_be_hidden()
        await fold.press("Enter")
        await expect(filter_).to_be_visible()
        await people.check(page)


async def test_the_dashboard_draws_what_came_of_attempts(people: People, shop: LiveShop, receiver: Receiver) -> None:
    page = await people.visit("viewer", "/dashboard")
    await expect(page.get_by_text("No attempts in the last hour")).to_be_visible()
    await expect(page.get_by_text("Temporal: healthy")).to_be_visible()
    await expect(page.get_by_text("Workers: healthy")).to_be_visible()
    await people.check(page)

    receiver.script(status(503))
    await shop.subscribe(receiver.url("/hook"), name="CRM", **LATER)
    await shop.until(await shop.emit(), "pending")
    for query in ("", "?span=day"):
        page = await people.visit("viewer", f"/dashboard{query}")
        await expect(page.get_by_role("img", name="Attempts per minute")).to_be_visible()
        assert await page.evaluate(DRAWN, ["rates", [245, 159, 0]])
        assert await page.evaluate(DRAWN, ["durations", [28, 126, 214]])
        await expect(page.locator("#failing").get_by_role("link", name="CRM")).to_be_visible()
        await page.get_by_text("The charts as a table").click()
        await expect(page.get_by_role("region", name="The charts as a table").get_by_role("row")).to_have_count(2)
        await people.check(page)
