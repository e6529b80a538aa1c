"""Settings → Webhooks as a person uses it: from the first webhook to its end, and what the list can do."""

import re
from dataclasses import dataclass

import pytest
from playwright.async_api import Dialog, Page, expect

from domain.wire.signing import secret_keys, standard_signature
from tests.deadlines import eventually
from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import NARROW, WIDE, People
from tests.panel.visitor import PASSWORD
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
        await page.get_by_role("combobox", name="Events").fill("CustomerUpdatd")
        await expect(page.get_by_text("No event matches.")).to_be_visible()
        await page.get_by_label("URL").fill("http://169.254.169.254/latest")
        await expect(page.get_by_text("is a cloud metadata address")).to_be_visible()
        await self.press("Add header")
        await page.get_by_label("Header name").fill("Host")
        await page.get_by_label("Header value").fill(SECRET)
        await self.press("Save")
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was saved")
        await expect(page.locator("#error-eventName")).to_have_text("is required")
        await expect(page.get_by_role("combobox", name="Events")).to_be_focused()
        await expect(page.get_by_text("is set by the sender and cannot be replaced")).to_be_visible()
        await expect(page.get_by_label("Header value")).to_have_value(SECRET)
        await self.check()

    async def a_chosen_event_shows_both_bodies_and_a_name_is_suggested(self) -> None:
        page = self.page
        events = page.get_by_role("combobox", name="Events")
        await events.fill("members data were")
        await expect(page.get_by_role("listbox", name="Events").get_by_role("option")).to_have_count(1)
        await self.check()
        await events.press("Enter")
        await expect(page.get_by_role("button", name="Remove CustomerUpdated")).to_be_visible()
        await page.get_by_text("Modern and legacy body").click()
        await expect(page.get_by_role("heading", name="Legacy body")).to_be_visible()
        await expect(page.get_by_text('"eventName": "CustomerUpdated"')).to_be_visible()
        await page.get_by_label("URL").fill(self.receiver.url("/hook"))
        await expect(page.get_by_text("This address may be used.")).to_be_visible()
        await expect(page.get_by_label("Webhook name")).to_have_value("CustomerUpdated to 127.0.0.1")
        await page.get_by_label("Header name").fill("Authorization")
        await page.get_by_label("Webhook name").fill(NAME)

    async def tried_before_it_is_saved_it_shows_request_and_response_as_text(self) -> None:
        page = self.page
        await self.press("Generate key")
        self.key = await page.get_by_label("Signing key", exact=True).input_value()
        self.receiver.script(status(418, body=b"<img src=x onerror=alert(1)><script>alert(2)</script>"))
        await self.press("Send test")
        await expect(page.get_by_role("heading", name="This would have been a failed attempt")).to_be_visible()
        await expect(page.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()
        await expect(page.get_by_text("Authorization: •••")).to_be_visible()
        await self.check()
        await self.press("Send another")
        await expect(page.get_by_role("heading", name="Delivered")).to_be_visible()
        assert [one.header("X-Webhook-Test") for one in self.receiver.requests] == ["true", "true"]
        last = self.receiver.requests[-1]
        assert last.header("Authorization") == SECRET
        signed = str(last.header("webhook-id")), int(str(last.header("webhook-timestamp"))), last.body
        assert last.header("webhook-signature") == standard_signature(secret_keys(self.key)[1], *signed)

    async def saved_it_has_the_key_that_signed_the_test(self) -> None:
        page = self.page
        await self.press("Save")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Signing key")
        assert await page.get_by_label("Signing key", exact=True).input_value() == self.key
        await self.check()
        await page.get_by_role("link", name="I have saved it").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"{NAME} · CustomerUpdated")
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
        await page.get_by_label("Retry schedule").fill("1s, 2m")
        await page.get_by_label("Legacy body").check()
        await self.press("Save")
        await self.said("is saved")
        await expect(page.get_by_text("1s, 2m")).to_be_visible()

    async def sent_a_test_it_stays_and_shows_the_result_beside_send_another(self) -> None:
        page, before = self.page, len(self.receiver.requests)
        self.receiver.script(status(503))
        await self.press("Send test")
        await self.said("503 server error")
        await self.check()
        await self.press("Send another")
        await self.said("delivered 200")
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"{NAME} · CustomerUpdated")
        await expect(page.get_by_role("link", name="Delivery of this test")).to_be_visible()
        assert len(self.receiver.requests) == before + 2

    async def its_key_is_shown_again_to_an_admin_who_confirms_the_password(self) -> None:
        page = await self.people.visit("admin", "/webhooks")
        await page.get_by_role("link", name=NAME).click()
        for password, said in (("wrong", "The password is wrong."), (PASSWORD, "This is the signing key of")):
            await page.get_by_role("button", name="Show key").click()
            dialog = page.get_by_role("dialog")
            await dialog.get_by_label("Password").fill(password)
            await self.people.check(page)
            await dialog.get_by_role("button", name="Show key").click()
            await expect(page.get_by_role("status")).to_contain_text(said)
        assert await page.get_by_label("Signing key", exact=True).input_value() == self.key
        await page.close()

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

    async def an_authentication_takes_the_place_of_its_header(self) -> None:
        page = self.page
        await page.get_by_role("link", name="Edit").click()
        await expect(page.get_by_label("User name")).to_be_hidden()
        await page.get_by_label("Authentication").select_option("basic")
        await page.get_by_label("User name").fill("till")
        await page.get_by_label("Password").fill(SECRET)
        await self.press("Save")
        await expect(page.get_by_text("remove it from the headers")).to_be_visible()
        await expect(page.get_by_label("Password")).to_have_value("")
        await self.check()
        await page.get_by_label("Password").fill(SECRET)
        await self.press("Remove header")
        await self.press("Save")
        await self.said("is saved")
        await expect(page.get_by_text("username: till")).to_be_visible()
        await self.check()
        await self.shop.until(await self.shop.emit(), "delivered")
        assert self.receiver.requests[-1].header("Authorization") == "Basic dGlsbDphIHNlY3JldCB2YWx1ZQ=="

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
        await self.answer_dialog("Disable", f"It sends to {self.receiver.url('/hook')}.")
        await self.said("Nothing is sent any more.")
        await self.press("Enable")
        await self.said("active again")
        await self.press("Pause")
        await self.said("none is lost")
        await self.shop.until(await self.shop.emit(), "held")
        await self.page.reload()
        await self.answer_dialog(
            "Delete", f"{self.receiver.url('/hook')}. Its waiting and held deliveries (1) are cancelled."
        )
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
    await story.saved_it_has_the_key_that_signed_the_test()
    await story.the_next_matching_event_is_delivered()
    await story.edited_it_keeps_the_value_whose_mask_is_left()
    await story.sent_a_test_it_stays_and_shows_the_result_beside_send_another()
    await story.its_key_is_shown_again_to_an_admin_who_confirms_the_password()
    await story.paused_nothing_goes_out_and_resumed_all_of_it_does()
    await story.an_authentication_takes_the_place_of_its_header()
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


async def test_several_events_to_one_url_are_chosen_by_mouse_touch_and_keyboard_and_made_together(
    people: People, shop: LiveShop, receiver: Receiver
) -> None:
    page = await people.visit("editor", "/event-types")
    await expect(page.locator("[data-event]")).to_have_count(28)
    await people.check(page)
    await page.get_by_role("link", name="Add webhook CampaignCreated").click()
    await expect(page.get_by_text("It has no legacy body.")).to_be_visible()
    await expect(page.get_by_label("Legacy body")).to_be_disabled()
    events = page.get_by_role("combobox", name="Events")
    await events.click()
    await page.get_by_role("option", name="CustomerRegistered A member joined").click()
    await events.tap()
    await page.get_by_role("option", name="CustomerUpdated").tap()
    for key in ("ArrowDown", "ArrowDown", "Enter", "Backspace", "ArrowUp", "ArrowDown", "Escape"):
        await events.press(key)
    await page.get_by_role("button", name="Remove CampaignCreated").click()
    chosen = page.get_by_role("list").filter(has=page.get_by_role("button", name=re.compile("^Remove")))
    await expect(chosen.get_by_role("listitem")).to_have_text(["AchievementUpdated", "CustomerRegistered"])
    await events.fill("customerupdated")
    await events.press("Tab")
    await page.get_by_role("button", name="Remove AchievementUpdated").click()
    await page.get_by_label("URL").fill(receiver.url("/both"))
    await expect(page.get_by_text("This address may be used.")).to_be_visible()
    await expect(page.get_by_label("Webhook name")).to_have_value("")
    for width, height in (WIDE, (390, 844)):
        await page.set_viewport_size({"width": width, "height": height})
        await page.evaluate("window.scrollTo(0, 0)")
        await expect(page.get_by_role("button", name="Save")).to_be_in_viewport(ratio=1)
    await people.check(page)

    await page.get_by_role("button", name="Send test").click()
    for name in ("CustomerRegistered", "CustomerUpdated"):
        await expect(page.get_by_role("heading", name=f"{name}: Delivered")).to_be_visible()
    await people.check(page)

    asked: list[str] = []

    async def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.dismiss()

    page.once("dialog", stay)
    await page.get_by_role("link", name="Dashboard").click(no_wait_after=True)

    async def has_asked() -> bool:
        return asked == ["beforeunload"]

    await eventually(has_asked, 15, "the question before a filled form is left")
    await expect(page.get_by_role("button", name="Remove CustomerUpdated")).to_be_visible()
    await page.get_by_role("button", name="Save").click()
    target = receiver.url("/both").removeprefix("http://")
    await expect(page.get_by_role("status")).to_contain_text(f"2 webhooks to {target} are saved.")
    await page.get_by_role("link", name="I have saved it").click()
    assert asked == ["beforeunload"]
    names = page.locator("tbody .name a")
    await expect(names).to_have_text([target] * 2)
    for name in ("CustomerUpdated", "CustomerRegistered"):
        await shop.until(await shop.emit(name), "delivered")


async def test_chosen_webhooks_are_paused_resumed_tested_duplicated_and_deleted(
    people: People, shop: LiveShop, receiver: Receiver
) -> None:
    for number in range(3):
        await shop.subscribe(receiver.url(f"/{number}"), headers=[{"headerName": f"X-{number}", "headerValue": "1"}])
    page = await people.visit("editor", "/webhooks")
    await page.get_by_label("Choose all of this page").check()
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status")).to_have_text("3 paused")
    await page.get_by_label("Filter by Header name").fill("x-1")
    await page.keyboard.press("Enter")
    await expect(page.locator(".status-paused")).to_have_count(1)
    await people.check(page)
    await page.get_by_label(re.compile("Choose 127.0.0.1")).check()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("status")).to_have_text("1 resumed")
    await page.get_by_label("Choose all of this page").check()
    await page.get_by_role("button", name="Send test").click()
    await expect(page.get_by_role("status")).to_have_text("1 tested: delivered")
    assert [one.target for one in receiver.requests] == ["/1"]
    await page.locator("tbody .name a").click()
    await page.get_by_role("link", name="Duplicate").click()
    await expect(page.get_by_label("Header value")).to_have_value("•••")
    await people.check(page)
    await page.get_by_label("URL").fill(receiver.url("/copy"))
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("is saved")).to_be_visible()
    await page.goto(people.address("/webhooks"))
    await page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    await page.get_by_label("Choose all of this page").check()
    await page.get_by_role("button", name="Delete …").click()
    await expect(page.get_by_role("heading", name="Delete 4 webhooks?")).to_be_visible()
    await expect(page.get_by_text(receiver.url("/copy"))).to_be_visible()
    await people.check(page)
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("status")).to_have_text("4 deleted")
    await expect(page.get_by_text("No webhooks yet")).to_be_visible()
