"""Store, keys, administrators, audit, expiring, recover and migrate in a browser, as people use them."""

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.expiry import transfer
from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import People
from tests.panel.visitor import PASSWORD
from tests.receiver import Receiver, status

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

NAME = "Till <b>one</b>"
LATER = {"retrySchedule": [600]}
AT_ONCE = {"retrySchedule": [1]}


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def answer_dialog(page: Page, name: str, question: str) -> None:
    """Press a button that asks first, and say yes by the keyboard."""
    await press(page, name)
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(question)
    await dialog.get_by_role("button", name=name).press("Enter")


async def said(page: Page, text: str) -> None:
    await expect(page.get_by_role("status").first).to_contain_text(text)


async def test_a_store_is_set_up_and_its_audit_tells(people: People, shop: LiveShop) -> None:
    page = await people.visit("admin", "/audit")
    await expect(page.get_by_text("create")).to_be_visible()
    page = await people.visit("admin", "/settings")
    await page.get_by_label("Time zone").fill("Europe/Nowhere")
    await press(page, "Save")
    await expect(page.get_by_text("is not an IANA time zone")).to_be_visible()
    await people.check(page)
    await page.get_by_label("Time zone").fill("Europe/Warsaw")
    await page.get_by_label("Points: days ahead").fill("30")
    await page.get_by_label("levels", exact=True).check()
    await press(page, "Save")
    await said(page, "The settings are saved")
    settings = (await shop.get("settings"))["settings"]
    assert (settings["timezone"], settings["expirePointsNotificationDays"]) == ("Europe/Warsaw", 30)
    assert settings["expiryKindsFromEvents"] == ["levels"]
    await page.get_by_label("Operator URL").fill("https://operator.example.com/webhooks")
    await press(page, "Save")
    await expect(page.get_by_role("heading", name="Key of operational webhooks")).to_be_visible()
    await people.check(page)
    page = await people.visit("admin", "/audit?action[like]=change")
    await expect(page.get_by_text("America/New_York")).to_be_visible()
    await people.check(page)
    page = await people.visit("viewer", "/settings")
    await expect(page.get_by_role("button", name="Save")).to_have_count(0)
    await people.check(page)
    await people.visit("viewer", "/audit", status=403)
    page = await people.visit("admin", "/audit/installation", everywhere=True)
    await people.check(page)


async def test_a_key_is_made_copied_used_and_revoked(people: People, shop: LiveShop) -> None:
    page = await people.visit("admin", "/keys/new", everywhere=True)
    await people.check(page)
    await press(page, "Create the key")
    await page.get_by_label("Name").fill(NAME)
    await press(page, "Create the key")
    await expect(page.get_by_role("alert")).to_contain_text("Nothing was saved")
    await people.check(page)
    await page.get_by_label("event:emit: send events").check()
    await page.get_by_label(shop.code, exact=True).check()
    await press(page, "Create the key")
    key = await page.get_by_label("The API key").input_value()
    await people.check(page)
    await press(page, "Copy")
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    async with httpx.AsyncClient(
        base_url=shop.api.base_url, headers={"X-AUTH-TOKEN": key}, trust_env=False, timeout=30
    ) as program:
        event = {"event": {"eventName": "CustomerUpdated", "data": {}}}
        assert (await program.post(f"/api/{shop.code}/event", json=event)).status_code == 202
    await page.get_by_role("link", name="Done, I have it").click()
    line = page.get_by_role("row").filter(has_text=NAME)
    await people.check(page)
    await line.get_by_role("button", name="Revoke").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(f"Revoke the key {NAME}?")
    await people.check(page)
    await dialog.get_by_role("button", name="Revoke").click()
    await said(page, "is revoked")
    assert key not in await page.content()


async def test_an_administrator_comes_changes_the_password_and_goes(people: People, shop: LiveShop) -> None:
    page = await people.visit("admin", "/administrators/new", everywhere=True)
    await people.check(page)
    name = f"anna {shop.code}"
    await page.get_by_label("User name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_label("Role").select_option("viewer")
    await page.get_by_label(shop.code, exact=True).check()
    await press(page, "Create the administrator")
    await said(page, f"{name} may log in now.")
    await people.check(page)

    anna = await people.stranger()
    await people.log_in(anna, name)
    account = anna.get_by_role("button", name=f"{name}: account")
    await expect(account).to_be_visible()
    await anna.wait_for_load_state()  # the menu is opened by a script
    await account.click()
    await anna.get_by_role("link", name="Change my password").click()
    await anna.get_by_label("Current password").fill(PASSWORD)
    await anna.get_by_label("New password", exact=True).fill("another horse, another staple")
    await anna.get_by_label("Repeat the new password").fill("another horse")
    await press(anna, "Change the password")
    await expect(anna.get_by_text("is not the same as above")).to_be_visible()
    await people.check(anna)
    await anna.get_by_label("Current password").fill(PASSWORD)
    await anna.get_by_label("New password", exact=True).fill("another horse, another staple")
    await anna.get_by_label("Repeat the new password").fill("another horse, another staple")
    await press(anna, "Change the password")
    await said(anna, "Your password is changed")

    await page.get_by_role("row").filter(has_text=name).get_by_role("button", name="Deactivate").click()
    await expect(page.get_by_role("dialog")).to_contain_text(f"Deactivate {name}?")
    await page.get_by_role("dialog").get_by_role("button", name="Deactivate").click()
    await said(page, "may not log in")
    await anna.goto(people.address("/webhooks"))
    await expect(anna).to_have_url(re.compile("/admin/login"))


async def test_what_expires_is_previewed_scanned_and_paused(people: People, shop: LiveShop) -> None:
    noon = (datetime.now(UTC) + timedelta(days=20)).replace(hour=17, minute=0, second=0, microsecond=0)
    await shop.post("expiry/points/batch", [transfer(expiresAt=noon.isoformat()) for _ in range(3)])
    await shop.post("schedule/sync")
    page = await people.visit("editor", "/expiring")
    await expect(page.get_by_text("Runs every day at 6:00, 10 days ahead.")).to_have_count(3)
    await people.check(page)
    await page.get_by_role("link", name="Preview points").click()
    await page.get_by_label("Day of expiry", exact=True).fill(noon.date().isoformat())
    await press(page, "Show")
    await expect(page.get_by_text("3 expire on")).to_be_visible()
    await page.get_by_text("Modern", exact=True).first.click()
    await expect(page.get_by_text('"PointsWillExpire"').first).to_be_visible()
    await people.check(page)
    await page.get_by_role("link", name="Expiring points").click()
    await expect(page.get_by_text("Nothing has been scanned yet")).to_be_visible()
    await page.get_by_label("Day of expiry", exact=True).fill(noon.date().isoformat())
    await press(page, "Scan now")
    await said(page, "is being scanned")
    await expect(page.get_by_role("cell", name="manual")).to_be_visible(timeout=60_000)
    await people.check(page)
    await answer_dialog(page, "Pause", "Pause the schedule of points?")
    await said(page, "The schedule of points is paused.")
    await press(page, "Resume")
    await said(page, "catches up on the missed days")


async def test_an_outage_is_counted_recovered_and_followed(people: People, shop: LiveShop, receiver: Receiver) -> None:
    receiver.otherwise = status(500)
    webhook = await shop.subscribe(receiver.url("/hook"), name=NAME, **AT_ONCE)
    for event in [await shop.emit() for _ in range(3)]:
        await shop.until(event, "exhausted")
    receiver.otherwise = status(200)
    page = await people.visit("editor", "/recover")
    await expect(page.get_by_text("None yet")).to_be_visible()
    await people.check(page)
    await page.get_by_label("Webhook", exact=True).select_option(webhook)
    await expect(page.get_by_text(f"{NAME}: CustomerUpdated → {receiver.url('/hook')}, active")).to_be_visible()
    await page.get_by_label("Rate per second").fill("100")
    await press(page, "Count first")
    await expect(page.get_by_role("heading", name="Recover 3 deliveries?")).to_be_visible()
    await people.check(page)
    await press(page, "Recover them")
    await expect(page.get_by_text("It has ended.")).to_be_visible(timeout=60_000)
    await expect(page.get_by_text("3 of 3 opened")).to_be_visible()
    await people.check(page)
    page = await people.visit("viewer", "/recover")
    await expect(page.get_by_role("link", name=NAME)).to_be_visible()
    await people.check(page)
    page = await people.visit("editor", "/recover/backfill")
    await people.check(page)
    await page.get_by_label("Webhook", exact=True).select_option(webhook)
    await press(page, "Count first")
    await page.wait_for_url("**/recover/count")
    await people.check(page)


async def test_a_legacy_webhook_becomes_modern(people: People, shop: LiveShop, receiver: Receiver) -> None:
    page = await people.visit("editor", "/migrate")
    await expect(page.get_by_text("No legacy webhooks")).to_be_visible()
    await people.check(page)
    receiver.script(status(200), status(503))
    await shop.subscribe(receiver.url("/hook"), name=NAME, legacy=True, **LATER)
    page = await people.visit("editor", "/migrate")
    await page.get_by_role("link", name=f"Compare {NAME}").click()
    await expect(page.get_by_text("made from a sample")).to_be_visible()
    await press(page, "Create the modern webhook")
    await said(page, f"{NAME} (modern) is created and paused.")
    sent = await shop.emit(customer={"customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70"})
    await shop.shared(sent, "delivered", "held")
    waiting = await shop.emit()
    await shop.shared(waiting, "pending", "held")
    await receiver.wait_for(2)
    await page.reload()
    await expect(page.get_by_text("The bodies are those of its last event")).to_be_visible()
    await people.check(page)
    await page.get_by_role("link", name="Switch over").click()
    await expect(page.get_by_text("events still open at the legacy webhook")).to_be_visible()
    await people.check(page)
    await press(page, "Switch over now")
    await said(page, f"{NAME} (modern) is active.")
    await people.check(page)
    await shop.shared(sent, "delivered", "cancelled")
    await shop.shared(waiting, "cancelled", "delivered")
    later = await shop.emit()
    await shop.shared(later, "exhausted", "delivered")
