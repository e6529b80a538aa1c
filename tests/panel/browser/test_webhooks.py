"""Settings → Webhooks as a person uses it: from the first webhook to its end, and what the list can do."""

import re
from dataclasses import dataclass

import pytest
from playwright.async_api import Page, expect

from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import People
from tests.receiver import Receiver, status

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]  # a story, on a machine that is busy with other tests

NAME = "Till <b>one</b>"
SECRET = "a secret value"


@dataclass
class Story:
    """One webhook's life, chapter by chapter."""

    people: People
    page: Page
    shop: LiveShop
    receiver: Receiver
    key: str = ""

    async def check(self) -> None:
        await self.people.check(self.page)

    async def said(self, text: str) -> None:
        await expect(self.page.get_by_role("status")).to_contain_text(text)

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name).click()

    async def answer_dialog(self, name: str, question: str) -> None:
        await self.press(name)
        dialog = self.page.get_by_role("dialog")
        await expect(dialog).to_contain_text(question)
        await dialog.get_by_role("button", name=name).click()

    async def what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost(self) -> None:
        page = self.page
        await page.get_by_role("combobox", name="Event").fill("CustomerUpdatd")
        await page.get_by_label("URL").fill("http://169.254.169.254/latest")
        await expect(page.get_by_text("is a cloud metadata address")).to_be_visible()
        await self.press("Add header")
        await page.get_by_label("Header name").fill("Host")
        await page.get_by_label("Header value").fill(SECRET)
        await self.press("Save")
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was saved")
        await expect(page.get_by_text("did you mean CustomerUpdated?")).to_be_visible()
        await expect(page.get_by_text("is set by the sender and cannot be replaced")).to_be_visible()
        await expect(page.get_by_label("Header value")).to_have_value(SECRET)
        await self.check()

    async def a_chosen_event_shows_both_bodies_and_a_name_is_suggested(self) -> None:
        page = self.page
        await page.get_by_role("combobox", name="Event").fill("CustomerUpdated")
        await expect(page.get_by_role("heading", name="Legacy body")).to_be_visible()
        await expect(page.get_by_text('"eventName": "CustomerUpdated"')).to_be_visible()
        await page.get_by_label("URL").fill(self.receiver.url("/hook"))
        await expect(page.get_by_text("This address may be used.")).to_be_visible()
        await expect(page.get_by_label("Webhook name")).to_have_value("CustomerUpdated to 127.0.0.1")
        await page.get_by_label("Header name").fill("Authorization")
        await page.get_by_label("Webhook name").fill(NAME)

    async def tried_before_it_is_saved_it_shows_request_and_response_as_text(self) -> None:
        page = self.page
        self.receiver.script(status(418, body=b"<img src=x onerror=alert(1)><script>alert(2)</script>"))
        await self.press("Send test")
        await expect(page.get_by_role("heading", name="This would have been a failed attempt")).to_be_visible()
        await expect(page.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()
        await expect(page.get_by_text("Authorization: •••")).to_be_visible()
        await self.check()
        await self.press("Send test")
        await expect(page.get_by_role("heading", name="Delivered")).to_be_visible()
        assert [one.header("X-Webhook-Test") for one in self.receiver.requests] == ["true", "true"]
        assert self.receiver.requests[-1].header("Authorization") == SECRET

    async def saved_it_shows_its_key_once(self) -> None:
        page = self.page
        await self.press("Save")
        self.key = await page.get_by_label("Signing key", exact=True).input_value()
        assert self.key.startswith("whsec_")
        await self.check()
        await page.get_by_role("link", name="I have saved it").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(NAME)
        for secret in (self.key, SECRET):
            assert secret not in await page.content()
        await self.check()

    async def the_next_matching_event_is_delivered(self) -> None:
        await self.shop.until(await self.shop.emit(), "delivered")
        assert self.receiver.requests[-1].header("Authorization") == SECRET
        await self.page.reload()
        await expect(self.page.get_by_role("img", name="1 delivered, 0 failed")).to_be_visible()

    async def edited_it_keeps_the_value_whose_mask_is_left(self) -> None:
        page = self.page
        await page.get_by_role("link", name="Edit").click()
        await expect(page.get_by_label("Header value")).to_have_value("•••")
        await self.check()
        await page.get_by_label("Delays between attempts").fill("1s, 2m")
        await page.get_by_label("Legacy body").check()
        await self.press("Save")
        await self.said("is saved")
        await expect(page.get_by_text("1s, 2m")).to_be_visible()

    async def sent_a_test_it_leads_to_its_delivery(self) -> None:
        page = self.page
        await self.press("Send test")
        await self.said("This is its delivery")
        await expect(page).to_have_url(re.compile("/deliveries/"))
        await page.go_back()

    async def paused_nothing_goes_out_and_resumed_all_of_it_does(self) -> None:
        await self.press("Pause")
        await self.said("none is lost")
        held = await self.shop.emit()
        await self.shop.until(held, "held")
        await self.page.reload()
        await expect(self.page.get_by_text("the oldest since")).to_be_visible()
        await self.press("Resume")
        await self.shop.until(held, "delivered")
        assert b'"type":' in self.receiver.requests[-1].body
        assert self.receiver.requests[-1].header("Authorization") == SECRET

    async def its_key_is_rotated_by_keyboard_alone(self) -> None:
        page = self.page
        rotate = page.get_by_role("button", name="Rotate key")
        await rotate.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_contain_text(NAME)
        await self.check()
        await page.keyboard.press("Escape")
        await expect(rotate).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.get_by_label("Signing key", exact=True).input_value() not in ("", self.key)
        await page.get_by_role("link", name="I have saved it").press("Enter")

    async def deleted_it_says_how_many_were_waiting(self) -> None:
        await self.answer_dialog("Disable", f"Disable {NAME}?")
        await self.said("Nothing is sent any more.")
        await self.press("Enable")
        await self.said("active again")
        await self.press("Pause")
        await self.said("none is lost")
        await self.shop.until(await self.shop.emit(), "held")
        await self.page.reload()
        await self.answer_dialog("Delete", "Its waiting deliveries (1) are cancelled.")
        await self.said(f"{NAME} is deleted.")
        await expect(self.page.get_by_text("No webhooks yet")).to_be_visible()


async def test_a_webhook_from_its_first_day_to_its_last(people: People, shop: LiveShop, receiver: Receiver) -> None:
    page = await people.visit("editor", "/webhooks")
    story = Story(people, page, shop, receiver)
    await expect(page.get_by_text("No webhooks yet")).to_be_visible()
    await story.check()
    await page.get_by_role("main").get_by_role("link", name="Add New Webhook").first.click()
    await story.check()
    await story.what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost()
    await story.a_chosen_event_shows_both_bodies_and_a_name_is_suggested()
    await story.tried_before_it_is_saved_it_shows_request_and_response_as_text()
    await story.saved_it_shows_its_key_once()
    await story.the_next_matching_event_is_delivered()
    await story.edited_it_keeps_the_value_whose_mask_is_left()
    await story.sent_a_test_it_leads_to_its_delivery()
    await story.paused_nothing_goes_out_and_resumed_all_of_it_does()
    await story.its_key_is_rotated_by_keyboard_alone()
    await story.deleted_it_says_how_many_were_waiting()


async def test_the_list_is_filtered_sorted_and_paged_by_its_address(
    people: People, shop: LiveShop, receiver: Receiver
) -> None:
    for number in range(12):
        await shop.subscribe(receiver.url(f"/{number}"), name=f"Till {number:02}", legacy=number % 3 == 0)
    page = await people.visit("viewer", "/webhooks")
    await expect(page.get_by_role("link", name="Add New Webhook")).to_have_count(0)
    await page.get_by_role("link", name="Next").click()
    await expect(page.get_by_text("11 to 12 of 12")).to_be_visible()
    await people.check(page)
    await page.get_by_label("Filter by Webhook name").fill("till 0")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("1 to 10 of 10")).to_be_visible()
    await page.get_by_label("Filter by Legacy").select_option("Yes")
    await expect(page.get_by_text("1 to 4 of 4")).to_be_visible()
    await page.get_by_label("Filter by Status").select_option("paused")
    await expect(page.get_by_text("No webhook matches these filters")).to_be_visible()
    await page.get_by_label("Filter by Status").select_option("active")
    await expect(page.get_by_text("1 to 4 of 4")).to_be_visible()
    await page.get_by_role("link", name="Webhook name").click()
    await page.get_by_role("link", name="Webhook name").click()
    await expect(page.get_by_role("row").nth(2)).to_contain_text("Till 09")
    await expect(page).to_have_url(
        re.compile(r"name%5Blike%5D=till\+0&legacy=true&status=active&.*_orderBy%5Bname%5D=desc")
    )
    await page.get_by_role("link", name="Till 09").click()
    await expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    await people.check(page)
