"""Redelivering many: the number and the webhook are named first, and what cannot be is said."""

import re
from datetime import UTC, datetime, timedelta
from html import escape
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest

from api.panel.deliveries import UnfitFilterError, window_of
from storage.listing import Condition, Operator
from storage.subscriptions.queries import SubscriptionRow, find_subscription
from tests.api.installation import Shop
from tests.panel.conftest import Visit
from tests.panel.logged import add_delivery

EVENT = "CustomerUpdated"


@pytest.fixture
async def webhook(shop: Shop) -> str:
    return await shop.created(eventName=EVENT, name="CRM")


async def subscription_of(shop: Shop, webhook: str) -> SubscriptionRow:
    async with shop.installation.database.transaction() as connection:
        found = await find_subscription(connection, shop.store, UUID(webhook))
    assert found is not None
    return found


class TestChosen:
    async def test_are_counted_by_webhook_before_anything_is_done(self, visit: Visit, shop: Shop, webhook: str) -> None:
        editor, other = await visit("editor"), await shop.created(eventName="CustomerRegistered", name="Mail")
        ids = [await add_delivery(shop, webhook) for _ in range(3)] + [await add_delivery(shop, other)]
        ids.append(await add_delivery(shop, webhook, status="pending"))
        query = "&".join(f"messageId={one}" for one in [*ids, uuid4(), "nonsense"])
        text = (await editor.get(f"/admin/{shop.store}/deliveries/redeliver?{query}")).text
        for part in ("Send 4 deliveries once more?", "CRM: 3", "Mail: 1", "1 cannot be redelivered now"):
            assert part in text, part
        assert len(re.findall(r'name="messageId"', text)) == 4
        assert await shop.audit() == [one for one in await shop.audit() if one["action"] != "redeliver"]

    async def test_and_what_becomes_of_them_leads_back_to_the_list_they_were_chosen_on(
        self, visit: Visit, shop: Shop, webhook: str
    ) -> None:
        editor, path = await visit("editor"), f"/admin/{shop.store}/deliveries"
        made, chosen_on = await add_delivery(shop, webhook), "status=delivered&createdAt%5Bfrom%5D=2020-01-01T00%3A00"
        listed = (await editor.get(f"{path}?{chosen_on}")).text
        assert f'name="from" value="{escape(chosen_on)}"' in listed
        asked = (await editor.get(f"{path}/redeliver?{urlencode({'messageId': made, 'from': chosen_on})}")).text
        assert f'href="{escape(f"{path}?{chosen_on}")}"' in asked
        done = await editor.post(f"{path}/redeliver", {"from": chosen_on})
        assert done.headers["location"] == f"{path}?{chosen_on}"
        done = await editor.post(f"{path}/redeliver", {"from": "//evil.example/?a=1"})
        assert done.headers["location"].startswith(f"{path}?")

    async def test_none_is_no_mistake(self, visit: Visit, shop: Shop) -> None:
        text = (await (await visit("editor")).get(f"/admin/{shop.store}/deliveries/redeliver")).text
        assert "Nothing to redeliver" in text

    async def test_of_another_store_are_left_out(self, visit: Visit, shop: Shop) -> None:
        other = await shop.installation.shop()
        foreign = await add_delivery(other, await other.created(eventName=EVENT))
        editor = await visit("editor")
        path = f"/admin/{shop.store}/deliveries/redeliver"
        assert "Nothing to redeliver" in (await editor.get(f"{path}?messageId={foreign}")).text
        await editor.get(f"/admin/{shop.store}/deliveries")
        done = await editor.post(path, {"messageId": [str(foreign)]})
        assert "0 deliveries are redelivered. 1 not: Not Found" in (await editor.get(done.headers["location"])).text


class TestFiltered:
    async def test_names_number_webhook_and_window(self, visit: Visit, shop: Shop, webhook: str) -> None:
        editor = await visit("editor")
        for made in ("exhausted", "exhausted", "cancelled", "delivered", "pending"):
            await add_delivery(shop, webhook, status=made)
        path = f"/admin/{shop.store}/deliveries/recover?webhookSubscriptionId={webhook}"
        assert "Recover 3 deliveries?" in (await editor.get(path)).text
        assert "Recover 1 delivery?" in (await editor.get(f"{path}&status=delivered")).text
        assert "Nothing to recover" in (await editor.get(f"{path}&createdAt[to]=2020-01-01")).text

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("", "all deliveries of a filter can be redelivered to one webhook"),
            ("webhookSubscriptionId={webhook}&status=held", "are sent automatically"),
            ("webhookSubscriptionId={webhook}&url[like]=x", "remove the filter url"),
            ("webhookSubscriptionId={webhook}&eventName=CustomerRegistered", "remove the filter eventName"),
            ("webhookSubscriptionId=00000000-0000-4000-8000-000000000000", "That webhook is deleted"),
        ],
    )
    async def test_says_what_a_filter_lacks(
        self, visit: Visit, shop: Shop, webhook: str, query: str, said: str
    ) -> None:
        path = f"/admin/{shop.store}/deliveries/recover?{query.format(webhook=webhook)}"
        response = await (await visit("editor")).get(path)
        assert response.status_code == 200
        assert said in response.text

    async def test_is_offered_where_it_can_be_and_elsewhere_the_list_says_what_is_in_its_way(
        self, visit: Visit, shop: Shop, webhook: str
    ) -> None:
        editor, made = await visit("editor"), await add_delivery(shop, webhook, status="exhausted")
        place = f"/admin/{shop.store}/deliveries"

        async def listed(query: str) -> tuple[bool, str]:
            text = (await editor.get(f"{place}?{query}")).text
            assert f"row-{made}" in text
            return f'href="{place}/recover?' in text, text

        of_webhook = f"webhookSubscriptionId={webhook}"
        for query in (of_webhook, f"{of_webhook}&status=exhausted&eventName={EVENT}"):
            assert (await listed(query))[0], query
        assert not (await listed(""))[0]
        for query, said in (("status=exhausted", "by one webhook"), (f"{of_webhook}&messageId={made}", "messageId")):
            offered, text = await listed(query)
            assert (offered, said in text) == (False, True), query
        await shop.client.post(shop.path(webhook, "disable"))
        offered, text = await listed(of_webhook)
        assert (offered, "enable it first" in text) == (False, True)

    async def test_the_window_is_the_filters(self, shop: Shop, webhook: str) -> None:
        subscription, now = await subscription_of(shop, webhook), datetime.now(UTC)
        found = window_of([], subscription, now)
        assert (found.since, found.until, found.statuses) == (subscription.created_at, now, ["cancelled", "exhausted"])
        since, until = now - timedelta(microseconds=1), now + timedelta(days=1)
        conditions = [
            Condition("createdAt", Operator.GTE, since),
            Condition("createdAt", Operator.LT, until),
            Condition("eventName", Operator.EQ, EVENT),
            Condition("status", Operator.IN, ("delivered", "exhausted")),
        ]
        found = window_of(conditions, subscription, now)
        assert (found.since, found.until) == (max(since, subscription.created_at), now)
        assert found.statuses == ["delivered", "exhausted"]
        with pytest.raises(UnfitFilterError):
            window_of([Condition("createdAt", Operator.HAS_VALUE, True)], subscription, now)
