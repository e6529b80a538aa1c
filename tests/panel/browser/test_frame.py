"""Logging in, finding one's way, and logging out, in a browser."""

import re
from uuid import uuid4

import pytest
from playwright.async_api import expect

from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import People

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


async def test_somebody_logs_in_goes_where_they_wished_and_out_again(people: People, shop: LiveShop) -> None:
    username = await people.administrator("viewer")
    page = await people.stranger()
    await people.check(page)
    await page.goto(people.address("/webhooks?legacy=true"))
    await people.log_in(page, username)
    await expect(page).to_have_url(people.address("/webhooks?legacy=true"))
    await people.check(page)
    await page.get_by_role("button", name=re.compile(username)).click()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("status")).to_have_text("You are logged out.")
    await page.goto(people.address("/webhooks"))
    await expect(page).to_have_url(re.compile("/admin/login"))


async def test_the_store_is_switched_on_the_page_one_is_at(people: People, shop: LiveShop) -> None:
    await shop.subscribe("https://receiver.example.com/hook", name="The first store's")
    other, foreign = f"other{uuid4().hex[:8]}", f"foreign{uuid4().hex[:8]}"
    for code in (other, foreign):
        answer = await shop.api.post("/api/admin/store", json={"store": {"storeCode": code}})
        assert answer.status_code == 200, answer.text
    username = await people.administrator("viewer", shop.code, other)
    page = await people.stranger()
    await page.goto(people.address("/webhooks"))
    await people.log_in(page, username)
    await expect(page.get_by_role("link", name="The first store's")).to_be_visible()
    await page.get_by_role("button", name=shop.code).click()
    await people.check(page)
    await expect(page.get_by_role("link", name=foreign)).to_have_count(0)
    await page.get_by_role("link", name=other).click()
    await expect(page).to_have_url(people.entrance(f"/{other}/webhooks"))
    await expect(page.get_by_text("No webhooks yet")).to_be_visible()
    await expect(page.get_by_role("link", name="The first store's")).to_have_count(0)


async def test_a_page_that_is_not_there_says_so_accessibly(people: People) -> None:
    page = await people.visit("viewer", "/nothing", status=404)
    await people.check(page)


async def test_what_goes_wrong_on_a_page_is_seen(people: People) -> None:
    page = await people.visit("viewer", "/webhooks")
    async with page.expect_response("**/nothing.png"):
        await page.evaluate("""async () => {
        const image = document.createElement("img");
        image.src = "/nothing.png";
        image.setAttribute("style", "display: block");
        image.style.minWidth = "3000px";
        const choice = document.createElement("select");
        choice.name = "choice";
        choice.style.width = "5rem";
        choice.append(new Option("what does not fit into it"));
        document.querySelector("main").append(image, choice);
        await fetch("https://elsewhere.example/").catch(() => null);
        }""")
    checked_before = set(people.checked)
    with pytest.raises(
        AssertionError, match=r"px wider than the window[\s\S]*\['choice'\] are cut off[\s\S]*image-alt \(critical\)"
    ):
        await people.check(page)
    assert people.checked == checked_before
    seen = "\n".join(people.faults)
    for fault in ("GET .*/nothing.png: 404", "Content Security Policy directive .style-src", "elsewhere.example"):
        assert re.search(fault, seen), seen
    people.faults.clear()


REACHED = """() => {
    const here = document.activeElement, style = getComputedStyle(here);
    if (here === document.body) return null;
    here.dataset.reached = "";
    return parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== "none" ? "" : here.outerHTML.slice(0, 200);
}"""
NOT_REACHED = """() => [...document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"
)].filter(one => one.checkVisibility({visibilityProperty: true}) && !one.disabled && !("reached" in one.dataset))
  .map(one => one.outerHTML.slice(0, 200))"""
MOST_STEPS = 400


async def test_all_of_a_page_is_reached_by_the_tab_key_and_shows_that_it_is(people: People, shop: LiveShop) -> None:
    await shop.subscribe("https://receiver.example.com/hook", name="CRM", hmacEnabled=True, legacy=True)
    [webhook] = (await shop.get("webhook/subscription"))["items"]
    one = webhook["webhookSubscriptionId"]
    for path in (
        "/webhooks",
        "/webhooks/new",
        f"/webhooks/{one}",
        f"/migrate/{one}",
        "/deliveries",
        "/dashboard",
        "/recover",
    ):
        page = await people.visit("editor", path)
        unseen = []
        for _ in range(MOST_STEPS):
            await page.keyboard.press("Tab")
            said = await page.evaluate(REACHED)
            if said is None:
                break
            unseen += [said] if said else []
        assert (unseen, await page.evaluate(NOT_REACHED)) == ([], []), path
        await page.close()
