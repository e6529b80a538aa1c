"""A session that ends while a form is filled in: it is said, and after another log-in what was typed is sent."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import People
from tests.receiver import Receiver, status

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

ENDED = "Your session has ended"
SECRET = "a secret value"


async def logged_in(people: People, username: str) -> Page:
    page = await people.stranger()
    await people.log_in(page, username)
    await page.wait_for_url(lambda url: not url.endswith("/login"))
    return page


async def fill_in(page: Page, url: str) -> None:
    """The form of a new webhook, with something in each kind of field."""
    await page.get_by_role("combobox", name="Events").fill("CustomerUpdated")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Modern and legacy body")).to_be_visible()
    await page.get_by_label("URL").fill(url)
    await expect(page.get_by_text("This address may be used.")).to_be_visible()
    await page.get_by_label("Webhook name").fill("Till one")
    await page.get_by_role("button", name="Add header").click()
    await page.get_by_label("Header name").fill("Authorization")
    await page.get_by_label("Header value").fill(SECRET)
    await page.get_by_label("Legacy body").check()


async def log_in_beside(people: People, page: Page, username: str) -> None:
    """As the dialog proposes: in another tab, which is closed again."""
    async with page.context.expect_page() as opened:
        await page.get_by_role("dialog").get_by_role("link", name="Log in in another tab").click()
    other = await opened.value
    await people.log_in(other, username)
    await other.wait_for_url(lambda url: not url.endswith("/login"))
    await other.close()


async def test_a_webhook_is_saved_as_it_was_typed_although_the_session_ended(
    people: People, shop: LiveShop, receiver: Receiver
) -> None:
    username = await people.administrator("editor")
    page = await logged_in(people, username)
    await page.goto(people.address("/webhooks/new"))
    await fill_in(page, receiver.url("/hook"))
    await people.end_sessions(username)
    await page.get_by_role("button", name="Save").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(ENDED)
    await people.check(page)
    await dialog.get_by_role("button", name="Send it again").click()
    await expect(dialog.get_by_role("status")).to_have_text("Nobody is logged in now.")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_label("Header value")).to_have_value(SECRET)
    await page.get_by_role("button", name="Save").click()
    await log_in_beside(people, page, username)
    await dialog.get_by_role("button", name="Send it again").press("Enter")
    await expect(page.get_by_role("heading", name="Signing key", level=1)).to_be_visible()
    assert people.expected(f"POST {people.address('/webhooks/check')}: 401") == 2
    assert people.expected(f"GET {people.entrance('/session')}: 401") == 3
    [row] = (await shop.get("webhook/subscription"))["items"]
    assert (row["name"], row["url"], row["legacy"]) == ("Till one", receiver.url("/hook"), True)
    await shop.until(await shop.emit(), "delivered")
    assert receiver.requests[-1].header("Authorization") == SECRET


async def test_who_logged_in_anew_elsewhere_sends_every_form_with_the_new_token(
    people: People, shop: LiveShop, receiver: Receiver
) -> None:
    """The page's own token is of the session before: neither form is lost to it, nor the second asked about."""
    receiver.otherwise = status(500)
    webhook = await shop.subscribe(receiver.url("/hook"), name="CRM", retrySchedule=[600])
    username = await people.administrator("editor")
    page = await logged_in(people, username)
    await page.goto(people.address("/webhooks/new"))
    await fill_in(page, receiver.url("/other"))
    acting = await page.context.new_page()
    await acting.goto(people.address(f"/webhooks/{webhook}"))
    elsewhere = await page.context.new_page()
    await elsewhere.goto(people.address("/webhooks"))
    await elsewhere.get_by_role("button", name=re.compile(username)).click()
    await elsewhere.get_by_role("button", name="Log out").click()
    await expect(elsewhere.get_by_role("status")).to_have_text("You are logged out.")
    await people.log_in(elsewhere, username)
    await elsewhere.wait_for_url(lambda url: "/login" not in url)
    await acting.get_by_role("button", name="Pause").click()
    await expect(acting.get_by_role("status").first).to_contain_text("CRM is paused.")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", name="Signing key", level=1)).to_be_visible()
    assert people.expected(f"POST {people.address('/webhooks/check')}: 403") == 1


async def test_a_form_is_not_sent_in_another_name_without_a_word(
    people: People, shop: LiveShop, receiver: Receiver
) -> None:
    webhook = await shop.subscribe(receiver.url("/hook"), name="CRM")
    first, second = await people.administrator("editor"), await people.administrator("editor")
    page = await logged_in(people, first)
    await page.goto(people.address(f"/webhooks/{webhook}"))
    await people.end_sessions(first)
    await page.get_by_role("button", name="Pause").click()
    await log_in_beside(people, page, second)
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Send it again").click()
    await expect(dialog.get_by_role("status")).to_contain_text(f"Now {second} is logged in")
    await dialog.get_by_role("button", name="Send it again").click()
    await expect(page.get_by_role("status").first).to_contain_text("CRM is paused.")
    assert people.expected(f"GET {people.entrance('/session')}: 401") == 1
