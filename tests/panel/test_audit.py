"""Settings → Audit: every line is there, found by who, what and when; markup in it is text."""

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from storage.access.audit import record
from tests.api.installation import Installation, Shop
from tests.panel.conftest import Visit
from tests.panel.logged import add_delivery
from tests.panel.queries import statements

MARKUP = "<script>alert(1)</script>"


async def noted(
    shop: Shop, action: str, actor: str = "administrator:anna", times: int = 1, of: tuple[str, object] | None = None
) -> None:
    """Lines of the audit; `of`: type and id of the object."""
    object_type, object_id = of or ("subscription", uuid4())
    async with shop.installation.database.transaction() as connection:
        for number in range(times):
            changes = {
                "status": {"before": "active", "after": f"paused-{number}"},
                "url": {"before": None, "after": "https://receiver.example.com/"},
                "reason": MARKUP,
            }
            await record(
                connection,
                actor=actor,
                action=action,
                object_type=object_type,
                object_id=str(object_id),
                store_code=shop.store,
                changes=changes,
            )


async def test_a_store_without_changes_says_what_will_be_here(visit: Visit, shop: Shop) -> None:
    response = await (await visit("admin")).get(f"/admin/{shop.store}/audit")
    assert response.status_code == 200
    assert "Nothing has been changed yet" in response.text


async def test_changes_show_with_their_values_before_and_after_and_markup_is_text(visit: Visit, shop: Shop) -> None:
    await noted(shop, "pause", actor=MARKUP, of=("subscription", MARKUP))
    text = (await (await visit("admin")).get(f"/admin/{shop.store}/audit")).text
    assert "<del>active</del>" in text
    assert "<ins>paused-0</ins>" in text
    assert re.search(r"<dt>URL</dt><dd [^>]*>https://receiver.example.com/</dd>", text)
    assert MARKUP not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4


async def test_of_a_new_webhook_only_what_differs_from_the_default_is_listed(visit: Visit, shop: Shop) -> None:
    await shop.created(rateLimitPerSecond=7, legacy=False, ordered=False, hmacEnabled=True, retrySchedule=[600])
    text = (await (await visit("admin")).get(f"/admin/{shop.store}/audit")).text
    found = dict(re.findall(r"<dt>([^<]+)</dt><dd [^>]*>([^<]+)</dd>", text))
    assert set(found) == {"Event", "URL", "Rate limit", "Sign requests", "Retry schedule"}
    assert (found["Rate limit"], found["Sign requests"], found["Retry schedule"]) == ("7 per second", "Yes", "10m")


async def test_the_test_of_a_draft_has_the_labels_of_a_webhook(visit: Visit, shop: Shop) -> None:
    await noted(shop, "draft-test", of=("draft_test", uuid4()))
    assert "<dt>URL</dt>" in (await (await visit("admin")).get(f"/admin/{shop.store}/audit")).text


async def test_what_has_a_page_is_linked_and_what_has_none_any_more_is_not(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    kept, deleted = await shop.created(), await shop.created(url="https://receiver.example.com/other")
    other = await installed.shop()
    await shop.client.delete(shop.path(deleted))
    of_deleted, foreign = await add_delivery(shop, deleted), await other.created()
    for one in (("delivery", of_deleted), ("delivery", uuid4()), ("subscription", foreign), ("draft_test", uuid4())):
        await noted(shop, "draft-test", of=one)
    somebody = await visit("admin")
    text = (await somebody.get(f"/admin/{shop.store}/audit")).text
    links = set(re.findall(rf'href="(/admin/{shop.store}/(?:webhooks|deliveries|recover)/[^"]+)"', text))
    here = f"/admin/{shop.store}"
    assert links == {f"{here}/webhooks/{kept}", f"{here}/deliveries/{of_deleted}"}
    for link in links:
        assert (await somebody.get(link)).status_code == 200, link


async def test_who_what_and_when_find_their_lines(visit: Visit, shop: Shop) -> None:
    object_id = uuid4()
    await noted(shop, "pause", actor="administrator:anna", of=("subscription", object_id))
    await noted(shop, "delete", actor="api_key:shop")
    somebody = await visit("admin")
    today, tomorrow = datetime.now(UTC).date(), datetime.now(UTC).date() + timedelta(days=1)

    async def found(query: str) -> list[str]:
        text = (await somebody.get(f"/admin/{shop.store}/audit?{query}")).text
        return re.findall(r"<td>(pause|delete)</td>", text)

    assert await found("") == ["delete", "pause"]
    assert await found("actor[like]=ANNA") == ["pause"]
    assert await found("action[like]=del") == ["delete"]
    assert await found(f"objectId[like]={object_id}") == ["pause"]
    assert await found(f"at[from]={today}&at[to]={tomorrow}") == ["delete", "pause"]
    assert await found(f"at[from]={tomorrow}") == []
    assert "No entry matches" in (await somebody.get(f"/admin/{shop.store}/audit?action[like]=nothing")).text


async def test_pages_follow_one_another_without_a_gap_and_cost_the_same(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    somebody = await visit("admin")
    await noted(shop, "pause")
    with statements(installed) as few:
        await somebody.get(f"/admin/{shop.store}/audit")
    await noted(shop, "pause", times=60)
    seen: list[str] = []
    address: str | None = f"/admin/{shop.store}/audit"
    while address is not None:
        with statements(installed) as many:
            text = (await somebody.get(address)).text
        assert len(many) == len(few) <= 4
        seen += re.findall(r"paused-(\d+)</ins>", text)
        older = re.search(r'href="([^"]*_cursor=\d+)">Older', text)
        address = older[1] if older else None
    assert seen == [*(str(number) for number in reversed(range(60))), "0"]


async def test_a_cursor_that_is_none_is_said(visit: Visit, shop: Shop) -> None:
    somebody = await visit("admin")
    for cursor in ("x", "-1", "9" * 30, "²"):
        response = await somebody.get(f"/admin/{shop.store}/audit?_cursor={cursor}")
        assert response.status_code == 200
        assert "The address contains no valid cursor" in response.text


async def test_what_belongs_to_no_store_is_not_among_a_stores_lines_and_the_other_way_round(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    await noted(shop, "pause")
    async with installed.database.transaction() as connection:
        await record(connection, actor="operator:x", action="revoke", object_type="api_key", object_id=shop.store)
    everywhere, here = await visit("admin", ("*",)), await visit("admin")
    of_store = (await everywhere.get(f"/admin/{shop.store}/audit")).text
    assert ("<td>pause</td>" in of_store, "<td>revoke</td>" in of_store) == (True, False)
    of_all = (await everywhere.get(f"/admin/{shop.store}/audit/installation?objectId[like]={shop.store}")).text
    assert ("<td>pause</td>" in of_all, "<td>revoke</td>" in of_all) == (False, True)
    assert "audit/installation" not in (await here.get(f"/admin/{shop.store}/audit")).text
