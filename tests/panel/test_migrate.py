"""Migrate to modern: the comparison, the modern webhook of a pair, and a switch that sends each event once."""

import asyncio
import re
from typing import Any
from uuid import UUID, uuid4

from tests.api.acting import EVENT, ActionStarts
from tests.api.installation import RECEIVER, Installation, Shop, header
from tests.deadlines import eventually
from tests.panel.conftest import Visit
from tests.panel.queries import statements
from tests.panel.visitor import Visitor
from tests.receiver import Receiver, status

PATIENCE_SECONDS = 20.0
MARKUP = "<script>alert(1)</script>"


async def modern_of(shop: Shop, subscription_id: str) -> str:
    rows = await shop.installation.execute(
        "SELECT modern_id FROM format_migration WHERE subscription_id = :id", id=UUID(subscription_id)
    )
    return str(rows[0]["modern_id"])


async def test_a_store_without_legacy_webhooks_has_nothing_to_migrate(visit: Visit, shop: Shop) -> None:
    await shop.created()
    assert "No legacy webhooks" in (await (await visit("viewer")).get(f"/admin/{shop.store}/migrate")).text


async def test_a_webhook_without_events_is_compared_by_a_sample_and_its_name_is_text(visit: Visit, shop: Shop) -> None:
    subscription = await shop.created(legacy=True, name=MARKUP)
    somebody = await visit("viewer")
    for path in ("", f"/{subscription}"):
        text = (await somebody.get(f"/admin/{shop.store}/migrate{path}")).text
        assert MARKUP not in text
        assert "&lt;script&gt;" in text
    assert "made from a sample" in text
    assert re.search(r"<code>data.data.firstName</code>.*?moved.*?<code>data.customerData.firstName</code>", text, re.S)
    assert "Create the modern webhook" not in text


async def test_the_modern_webhook_is_a_paused_copy_made_once(visit: Visit, shop: Shop, installed: Installation) -> None:
    fields: dict[str, Any] = {
        "headers": [header("X-Own", "secret value")],
        "authentication": {"type": "bearer", "token": "s3cret"},
        "hmacEnabled": True,
        "rateLimitPerSecond": 7,
    }
    subscription = await shop.created(legacy=True, name="orders", **fields)
    somebody = await visit("editor")
    place = f"/admin/{shop.store}/migrate/{subscription}"
    assert (await somebody.post(f"{place}/copy")).status_code == 303
    assert "orders (modern) is created and paused." in (await somebody.get(place)).text
    modern = await modern_of(shop, subscription)
    await somebody.post(f"{place}/copy")
    assert await modern_of(shop, subscription) == modern
    assert (await shop.list("legacy=false"))["total"]["filtered"] == 1
    old, new = await shop.row(subscription), await shop.row(modern)
    assert (new["legacy"], new["status"], new["name"]) == (False, "paused", "orders (modern)")
    for column in (
        "url",
        "event_name",
        "sealed_headers",
        "sealed_authentication",
        "sealed_secret",
        "signature_version",
        "rate_limit_per_second",
    ):
        assert new[column] == old[column], column
    assert [row["action"] for row in await shop.audit()] == ["create", "create"]


async def test_concurrent_requests_create_one_modern_webhook_and_switch_once(visit: Visit, shop: Shop) -> None:
    subscription = await shop.created(legacy=True)
    somebody = await visit("editor")
    place = f"/admin/{shop.store}/migrate/{subscription}"
    await asyncio.gather(*(somebody.post(f"{place}/copy") for _ in range(4)))
    assert (await shop.list("legacy=false"))["total"]["filtered"] == 1
    await asyncio.gather(*(somebody.post(f"{place}/switch") for _ in range(4)))
    assert [row["action"] for row in await shop.audit()] == ["create", "create", "switch_over", "resume"]


async def test_a_deleted_modern_webhook_can_be_created_again(visit: Visit, shop: Shop) -> None:
    subscription = await shop.created(legacy=True)
    somebody = await visit("editor")
    place = f"/admin/{shop.store}/migrate/{subscription}"
    await somebody.post(f"{place}/copy")
    first = await modern_of(shop, subscription)
    await shop.client.delete(shop.path(first))
    assert "Create the modern webhook" in (await somebody.get(place)).text
    await somebody.post(f"{place}/copy")
    assert await modern_of(shop, subscription) != first


async def test_what_cannot_be_switched_over_is_refused_with_its_reason(visit: Visit, shop: Shop) -> None:
    subscription, modern = await shop.created(legacy=True), await shop.created()
    somebody = await visit("editor")
    place = f"/admin/{shop.store}/migrate/{subscription}"
    for path in (modern, str(uuid4())):
        assert (await somebody.get(f"/admin/{shop.store}/migrate/{path}")).status_code == 404
        assert (await somebody.post(f"/admin/{shop.store}/migrate/{path}/switch")).status_code == 404
    await somebody.post(f"{place}/switch")
    assert "It has no modern webhook yet" in (await somebody.get(place)).text
    await somebody.post(f"{place}/copy")
    modern = await modern_of(shop, subscription)
    for act, reason in (("disable", "is disabled"), ("enable", "is already active")):
        await somebody.post(f"/admin/{shop.store}/webhooks/{modern}/status", {"act": act})
        await somebody.post(f"{place}/switch")
        assert reason in (await somebody.get(place)).text
    assert (await shop.details(subscription))["active"] is True


async def test_pages_cost_the_same_however_many_webhooks_there_are(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    somebody = await visit("editor")
    first = await shop.created(legacy=True)
    pages = (f"/admin/{shop.store}/migrate", f"/admin/{shop.store}/migrate/{first}")
    costs = []
    for _ in range(2):
        await somebody.get(pages[0])  # says what was done
        for page in pages:
            with statements(installed) as asked:
                await somebody.get(page)
            costs.append(len(asked))
        for _ in range(3):
            other = await shop.created(legacy=True, url=RECEIVER)
            await somebody.post(f"/admin/{shop.store}/migrate/{other}/twin")
    assert costs[:2] == costs[2:]
    assert max(costs) <= 6


async def test_the_last_real_event_is_compared_for_those_who_see_deliveries(
    acting: ActionStarts, editor: Visitor, receiver: Receiver
) -> None:
    subscription = await acting.subscribe(receiver.url("/ok"), legacy=True)
    answer = await acting.api.emit(EVENT, {"customer": {"customerId": "11111111-2222-4333-8444-555555555555"}})
    await acting.until(str(answer.json()["eventId"]), "delivered", 1)
    await acting.acted(f"subscription/{subscription}/send-test")
    text = (await editor.get(f"/admin/{acting.api.store}/migrate/{subscription}")).text
    assert "The bodies are those of its last event" in text
    assert "11111111-2222-4333-8444-555555555555" in text
    await acting.api.execute(
        "UPDATE administrator SET scopes = '{subscription:read}' WHERE username = :name", name=editor.username
    )
    text = (await editor.get(f"/admin/{acting.api.store}/migrate/{subscription}")).text
    assert "made from a sample" in text
    assert "11111111-2222-4333-8444-555555555555" not in text


async def test_each_event_arrives_once_whatever_side_of_the_switch_it_came_on(
    acting: ActionStarts, editor: Visitor, receiver: Receiver
) -> None:
    receiver.script(status(503), status(200), status(503))
    subscription = await acting.subscribe(receiver.url("/hook"), legacy=True)
    before = await acting.emit()
    await reached(acting, before, {(subscription, "pending", 1)})
    place = f"/admin/{acting.api.store}/migrate/{subscription}"
    await editor.post(f"{place}/copy")
    sent = await acting.emit()
    await reached(acting, sent, {(subscription, "delivered", 1), ("modern", "held", 0)})
    waiting = await acting.emit()
    await reached(acting, waiting, {(subscription, "pending", 1), ("modern", "held", 0)})
    assert re.findall(r"<dt>(\d+)</dt>", (await editor.get(f"{place}/switch")).text) == ["1", "2"]
    assert (await editor.post(f"{place}/switch")).status_code == 303
    assert "switched over" in (await editor.get(f"/admin/{acting.api.store}/migrate")).text
    later = await acting.emit()
    await reached(acting, sent, {(subscription, "delivered", 1), ("modern", "cancelled", 0)})
    for event in (before, waiting):
        await reached(acting, event, {(subscription, "cancelled", 1), ("modern", "delivered", 1)})
    await reached(acting, later, {(subscription, "exhausted", 0), ("modern", "delivered", 1)})
    modern = ["messageId" in request.body.decode() for request in receiver.requests]
    assert modern == [False, False, False, True, True, True]
    codes = {item["code"] for item in (await acting.explain(waiting))["items"]}
    assert codes == {"switched_over", "delivered"}
    assert ("switch_over", "subscription", subscription) in await acting.audit()


async def reached(acting: ActionStarts, event_id: str, wanted: set[tuple[str, str, int]]) -> None:
    """Wait until the event's deliveries are so: (subscription or "modern", status, attempts)."""
    legacy = {subscription for subscription, _, _ in wanted}

    async def found() -> bool:
        there = {
            (
                one["webhookSubscriptionId"] if one["webhookSubscriptionId"] in legacy else "modern",
                one["status"],
                one["attempts"],
            )
            for one in await acting.deliveries(event_id)
        }
        return there == wanted

    await eventually(found, PATIENCE_SECONDS, str(wanted))
