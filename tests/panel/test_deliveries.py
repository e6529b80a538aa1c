"""The log of deliveries in the panel: what it shows to whom, and that it costs the same however much it shows."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from markupsafe import escape

from domain.delivery.failure_kinds import EXPLANATIONS, FailureKind
from storage.deliveries import log as delivery_log
from tests.api.installation import Installation, Shop
from tests.panel.conftest import Visit
from tests.panel.logged import CUSTOMER, add_attempt, add_delivery, add_event, fail
from tests.panel.queries import statements
from tests.panel.visitor import Visitor

SCRIPT = "<script>alert(1)</script>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


@pytest.fixture
async def webhook(shop: Shop) -> str:
    """A subscription to CustomerUpdated."""
    return await shop.created(eventName="CustomerUpdated", name="CRM")


@pytest.fixture
async def viewer(visit: Visit) -> Visitor:
    return await visit("viewer")


def log(shop: Shop, query: str = "") -> str:
    return f"/admin/{shop.store}/deliveries{query}"


def ids(text: str) -> list[str]:
    """Message ids of the rows, in their order."""
    return re.findall(r'id="row-([0-9a-f-]{36})"', text)


async def shown(somebody: Visitor, path: str) -> str:
    response = await somebody.get(path)
    assert response.status_code == 200, response.text
    return response.text


class TestList:
    async def test_an_empty_log_says_what_will_be_in_it(self, viewer: Visitor, shop: Shop) -> None:
        assert "No deliveries yet" in await shown(viewer, log(shop))
        assert "No delivery matches these filters" in await shown(viewer, log(shop, "?status=held"))

    async def test_a_stretch_without_a_match_says_how_to_look_further(
        self, viewer: Visitor, shop: Shop, webhook: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = [str(await add_delivery(shop, webhook)) for _ in range(7)]
        monkeypatch.setattr(delivery_log, "LOOKED_AT", 3)

        async def older(than: str) -> str:
            link = re.search(r'href="([^"]*_cursor=[^"]*)"[^>]*>Older', than)
            assert link is not None
            return await shown(viewer, link[1].replace("&amp;", "&"))

        first = await shown(viewer, log(shop, f"?messageId[like]={made[3][9:]}"))
        assert "None of the deliveries scanned so far matches these filters" in first
        second = await older(first)
        assert ids(second) == made[3:4]
        assert "“Older” continues the scan" in second
        last = await older(second)
        assert "No older delivery matches these filters" in last
        for text in (first, second, last):
            assert "No delivery matches these filters" not in text

    async def test_pages_follow_one_another_newest_first(self, viewer: Visitor, shop: Shop, webhook: str) -> None:
        made = [str(await add_delivery(shop, webhook)) for _ in range(5)]
        first = await shown(viewer, log(shop, "?_itemsOnPage=3"))
        older = re.search(r'href="([^"]*_cursor=[^"]*)"', first)
        assert older is not None
        second = await shown(viewer, older[1].replace("&amp;", "&"))
        assert ids(first) + ids(second) == made[::-1]
        assert "_cursor=" not in re.sub(r'class="page-link" href="[^"]*"', "", second)

    async def test_each_filter_finds_what_it_names(self, viewer: Visitor, shop: Shop, webhook: str) -> None:
        other = await shop.created(eventName="CustomerRegistered", url="https://receiver.example.com/other")
        event_id = await add_event(shop)
        failed = {"last_failure": "http_5xx", "last_status_code": 503}
        wanted = await add_delivery(shop, webhook, event_id, status="exhausted", **failed)
        name = "CustomerRegistered"
        elsewhere = {"event_name": name, "url": "https://receiver.example.com/other"}
        await add_delivery(shop, other, created_at=datetime.now(UTC) - timedelta(days=3), **elsewhere)
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        for query in (
            "status=exhausted",
            "eventName=CustomerUpdated",
            f"webhookSubscriptionId={webhook}",
            f"messageId={wanted}",
            f"eventId={event_id}",
            "url[like]=receiver.example.com/hook",
            "lastFailure=http_5xx",
            "lastStatusCode=503",
            f"webhookSubscriptionId={webhook}&lastStatusCode[like]=50",
            f"createdAt[from]={today}T00:00",
            f"createdAt[from]={today}&createdAt[to]={today}",
        ):
            assert ids(await shown(viewer, log(shop, f"?{query}"))) == [str(wanted)], query

    async def test_a_filter_by_a_webhook_that_is_gone_stays_chosen(
        self, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        made = await add_delivery(shop, webhook)
        await shop.client.delete(shop.path(webhook))
        text = await shown(viewer, log(shop, f"?webhookSubscriptionId={webhook}"))
        assert ids(text) == [str(made)]
        assert f'<option value="{webhook}" selected>' in text

    async def test_the_answer_and_the_next_attempt_come_before_what_is_wide(
        self, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        await add_delivery(shop, webhook)
        heads = [head.strip() for head in re.findall(r'<th scope="col"[^>]*>([^<]+)', await shown(viewer, log(shop)))]
        assert heads.index("Next attempt") < heads.index("Event name")
        assert heads.index("Last response") < heads.index("Event name")

    async def test_a_paused_webhook_has_no_next_attempt_before_it_is_resumed(
        self, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        event, due = await add_event(shop), datetime(2126, 1, 1, tzinfo=UTC)
        await add_delivery(shop, webhook, event, status="pending", ended_at=None, next_attempt_at=due)
        pages = [log(shop), f"/admin/{shop.store}/webhooks/{webhook}", f"/admin/{shop.store}/events/{event}"]
        for action, expected in (("pause", (True, False)), ("resume", (False, True))):
            await shop.client.post(shop.path(webhook, action))
            for page in pages:
                text = await shown(viewer, page)
                assert ("not before its webhook is resumed" in text, "2126-01-01" in text) == expected, (action, page)

    async def test_a_cursor_that_is_none_is_said(self, viewer: Visitor, shop: Shop, webhook: str) -> None:
        await add_delivery(shop, webhook)
        text = await shown(viewer, log(shop, "?_cursor=nonsense"))
        assert "is not a cursor of this list" in text
        assert len(ids(text)) == 1

    async def test_nothing_of_a_delivery_becomes_markup(self, viewer: Visitor, shop: Shop) -> None:
        webhook = await shop.created(eventName="CustomerUpdated", name=SCRIPT)
        await add_delivery(shop, webhook, url=f"https://receiver.example.com/{SCRIPT}", reason=f'"{SCRIPT}')
        text = await shown(viewer, log(shop))
        assert SCRIPT not in text
        assert ESCAPED in text

    async def test_deliveries_of_other_stores_are_not_in_it(
        self, installed: Installation, viewer: Visitor, shop: Shop
    ) -> None:
        other = await installed.shop()
        foreign = await add_delivery(other, await other.created(eventName="CustomerUpdated"))
        assert ids(await shown(viewer, log(shop))) == []
        for path in (log(shop, f"/{foreign}"), log(other)):
            assert (await viewer.get(path)).status_code == 404

    async def test_a_list_costs_the_same_however_many_rows_it_has(
        self, installed: Installation, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        counts = []
        for _ in range(2):
            with statements(installed) as asked:
                await shown(viewer, log(shop))
            counts.append(len(asked))
            for number in range(12):
                one = await shop.created(eventName="CustomerUpdated", url=f"https://receiver.example.com/{number}")
                await add_delivery(shop, one)
        assert counts[0] == counts[1] <= 8, asked


class TestFresh:
    async def ask(self, somebody: Visitor, listed: str, open_ids: str = "") -> str:
        address = re.search(r'data-live="([^"]+)"', listed)
        assert address is not None
        joined = "&" if "?" in address[1] else "?"
        return await shown(somebody, address[1].replace("&amp;", "&") + f"{joined}open={open_ids}")

    async def test_says_how_many_are_new_and_shows_none_of_them(
        self, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        empty = await shown(viewer, log(shop))
        assert 'data-count="0"' in await self.ask(viewer, empty)
        await add_delivery(shop, webhook)
        assert "1 new delivery" in await self.ask(viewer, empty)
        listed = await shown(viewer, log(shop, "?status=delivered"))
        for status in ("delivered", "held", "delivered"):
            await add_delivery(shop, webhook, status=status)
        answer = await self.ask(viewer, listed)
        assert "2 new deliveries" in answer
        assert f'href="/admin/{shop.store}/deliveries?status=delivered"' in answer
        assert ids(answer) == []

    async def test_says_how_open_ones_are_now(self, viewer: Visitor, shop: Shop, webhook: str) -> None:
        made = await add_delivery(shop, webhook, status="pending", ended_at=None)
        listed = await shown(viewer, log(shop))
        assert f'data-open="{made}"' in listed
        await shop.installation.execute(
            "UPDATE delivery SET status = 'exhausted' WHERE message_id = :id", id=UUID(str(made))
        )
        answer = await self.ask(viewer, listed, f"{made},{uuid4()},nonsense")
        assert ids(answer) == [str(made)]
        assert "status-exhausted" in answer
        assert "data-open" not in answer

    async def test_keeps_no_session_alive(self, viewer: Visitor, shop: Shop, installed: Installation) -> None:
        listed = await shown(viewer, log(shop))
        by_name = "administrator_id = (SELECT id FROM administrator WHERE username = :name)"
        age = f"UPDATE panel_session SET used_at = used_at - interval '1 hour' WHERE {by_name}"
        await installed.execute(age, name=viewer.username)
        viewer.client.headers["X-Requested-With"] = "fetch"
        await self.ask(viewer, listed)
        [found] = await installed.execute(
            f"SELECT used_at < now() - interval '30 minutes' AS old FROM panel_session WHERE {by_name}",
            name=viewer.username,
        )
        assert found["old"]


class TestOne:
    async def test_shows_attempts_request_and_answer(self, viewer: Visitor, shop: Shop) -> None:
        headers = [{"headerName": "Authorization", "headerValue": "very-secret"}]
        webhook = await shop.created(eventName="CustomerUpdated", headers=headers, hmacEnabled=True)
        made = await add_delivery(shop, webhook, attempts=2)
        failed = {"status_code": 503, "failure": "http_5xx", "response_excerpt": SCRIPT, "detail": "busy"}
        await add_attempt(shop, made, 1, **failed)
        await add_attempt(shop, made, 2)
        text = await shown(viewer, log(shop, f"/{made}"))
        for words in (EXPLANATIONS[FailureKind.http_5xx].meaning, EXPLANATIONS[FailureKind.http_5xx].remedy):
            assert text.count(str(escape(words))) == 1
        assert SCRIPT not in text
        assert ESCAPED in text
        for part in (
            "Attempt 1",
            '503 server error</span> <span class="code">http_5xx',
            "busy",
            "after 120 ms",
            "59.9 s later",
            "Delivered at",
            "thanks",
        ):
            assert part in text, part
        assert "<dt>Authorization</dt>" in text
        assert "very-secret" not in text
        assert "-H &#39;Authorization: &lt;AUTHORIZATION&gt;&#39;" in text
        assert "Request of attempt 2" in text
        assert "Request of attempt 1" in await shown(viewer, log(shop, f"/{made}?attempt=1"))

    @pytest.mark.parametrize("attempts", [0, 1])
    async def test_of_an_event_without_a_body_shows_what_is_left(
        self, viewer: Visitor, shop: Shop, webhook: str, attempts: int
    ) -> None:
        made = await add_delivery(shop, webhook, await add_event(shop, None), attempts=attempts)
        for number in range(attempts):
            await add_attempt(shop, made, number + 1)
        text = await shown(viewer, log(shop, f"/{made}"))
        assert ("no longer stored" in text) == bool(attempts)
        assert ("Nothing has been sent yet" in text) == (not attempts)

    async def test_of_which_event_and_webhook_are_gone_still_shows(self, viewer: Visitor, shop: Shop) -> None:
        made = await add_delivery(shop, str(uuid4()), uuid4(), status="exhausted", reason="never heard of")
        await add_attempt(shop, made, outcome_at=None, duration_ms=None, status_code=None, body_sha256=None)
        text = await shown(viewer, log(shop, f"/{made}"))
        assert "The log no longer has the event" in text
        assert "In progress" in text

    async def test_says_why_in_the_stores_time_and_names_of_the_api_as_code(
        self, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        zone = "UPDATE store SET timezone = 'Asia/Kathmandu' WHERE code = :code"
        await shop.installation.execute(zone, code=shop.store)
        ended = datetime(2026, 1, 2, 20, 0, tzinfo=UTC)
        made = await add_delivery(shop, webhook, ended_at=ended)
        assert "Delivered at 2026-01-03 01:45:00: the receiver" in await shown(viewer, log(shop, f"/{made}"))
        failed = {"status": "exhausted", "reason": f"`{SCRIPT}`", "ended_at": ended}
        text = await shown(viewer, log(shop, f"/{await add_delivery(shop, webhook, **failed)}"))
        assert f"Ended at 2026-01-03 01:45:00 without success: <code>{ESCAPED}</code>." in text
        assert "Redeliver, or recover the time." in text
        assert SCRIPT not in text

    async def test_a_held_one_leads_to_the_last_answer_and_to_a_next_attempt_to_come(
        self, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        event, past = await add_event(shop), datetime(2026, 1, 1, tzinfo=UTC)
        failed = {"status": "held", "last_failure": "http_5xx", "last_status_code": 503, "ended_at": None}
        answered = await add_delivery(shop, webhook, next_attempt_at=past, **failed)
        never_sent = {"attempts": 0, "last_status_code": None, "status": "held", "ended_at": None}
        waiting = await add_delivery(shop, webhook, event, **never_sent)
        await fail(shop, webhook, answered)
        text = await shown(viewer, log(shop, f"/{waiting}"))
        assert "The last failure (503 server error, http_5xx)" in text
        assert f'href="{log(shop, f"/{answered}")}"' in text
        for path in (f"/{answered}", f"/{waiting}"):
            assert "Next attempt" in await shown(viewer, log(shop, path)), "the probe"
        await shop.installation.execute(
            "UPDATE subscription_health SET probe_at = now() - interval '1 minute' WHERE subscription_id = :id",
            id=UUID(webhook),
        )
        text = await shown(viewer, log(shop, f"/{answered}"))
        assert "Next attempt" not in text
        assert "The next probe is due now." in text
        path = f"/api/{shop.store}/webhook/delivery"
        logged = [(await shop.client.get(path)).json()["items"], [(await shop.client.get(f"{path}/{answered}")).json()]]
        assert [one["nextAttemptAt"] for items in logged for one in items] == [None] * 3

    async def test_only_those_who_may_act_get_buttons_and_only_those_that_can(
        self, visit: Visit, shop: Shop, webhook: str
    ) -> None:
        editor, viewer = await visit("editor"), await visit("viewer")
        expected = {"delivered": {"redeliver"}, "exhausted": {"redeliver"}, "pending": {"send_now", "cancel"}}
        for status, acts in expected.items():
            made = await add_delivery(shop, webhook, status=status)
            text = await shown(editor, log(shop, f"/{made}"))
            assert set(re.findall(r'name="act" value="(\w+)"', text)) == acts
            assert 'name="act"' not in await shown(viewer, log(shop, f"/{made}"))
        await shop.client.post(shop.path(webhook, "pause"))
        text = await shown(editor, log(shop, f"/{made}"))
        assert re.findall(r'name="act" value="(\w+)"', text) == ["cancel"]

    async def test_a_line_that_waits_for_a_person_is_let_go_on_from_what_holds_it(
        self, visit: Visit, shop: Shop
    ) -> None:
        editor = await visit("editor")
        webhook = await shop.created(eventName="CustomerUpdated", ordered=True, afterExhausted="hold")
        line = {"ordering_key": 0, "last_status_code": 503}
        first = await add_delivery(shop, webhook, status="exhausted", event_sequence=1, holds_group=True, **line)
        behind = await add_delivery(shop, webhook, status="held", event_sequence=2, ended_at=None, **line)
        waiting = await shown(editor, log(shop, f"/{behind}"))
        assert f'href="{log(shop, f"/{first}")}"' in waiting
        text = await shown(editor, log(shop, f"/{first}"))
        assert set(re.findall(r'name="act" value="(\w+)"', text)) == {"redeliver", "cancel"}
        assert "Release the group" in text
        await editor.post(f"{log(shop, f'/{first}')}/act", {"act": "cancel"})
        text = await shown(editor, log(shop, f"/{first}"))
        assert "Release the group" not in text
        assert f'href="{log(shop, f"/{first}")}"' not in await shown(editor, log(shop, f"/{behind}"))

    async def test_an_act_that_does_not_fit_any_more_is_said(self, visit: Visit, shop: Shop, webhook: str) -> None:
        editor = await visit("editor")
        made = await add_delivery(shop, webhook, status="pending")
        path = log(shop, f"/{made}")
        await shown(editor, path)
        assert (await editor.post(f"{path}/act", {"act": "cancel"})).headers["location"] == path
        assert "The delivery is cancelled" in await shown(editor, path)
        await editor.post(f"{path}/act", {"act": "send_now"})
        assert "The delivery is cancelled; redeliver tries it once more." in (await shown(editor, path)).replace(
            "once more, recover restarts its schedule", "once more"
        )
        assert (await editor.post(f"{path}/act", {"act": "explode"})).status_code == 404

    async def test_costs_the_same_however_many_attempts_it_has(
        self, installed: Installation, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        made = await add_delivery(shop, webhook)
        counts = []
        for number in range(3):
            with statements(installed) as asked:
                await shown(viewer, log(shop, f"/{made}"))
            counts.append(len(asked))
            await add_attempt(shop, made, 2 * number + 1)
            await add_attempt(shop, made, 2 * number + 2)
        assert counts[0] == counts[1] == counts[2] <= 12, asked


class TestEvent:
    async def test_shows_data_deliveries_and_reasons(self, viewer: Visitor, shop: Shop, webhook: str) -> None:
        other = await shop.created(eventName="CustomerRegistered", name="Mail")
        event_id = await add_event(shop, CUSTOMER.replace("3f2b8c1e", SCRIPT))
        made = await add_delivery(shop, webhook, event_id)
        text = await shown(viewer, f"/admin/{shop.store}/events/{event_id}")
        assert SCRIPT not in text
        assert ESCAPED in text
        assert f"/deliveries/{made}" in text
        assert "It subscribes to CustomerRegistered; this event is CustomerUpdated." in text
        assert "Webhooks of other events: 1" in text
        assert other in text

    async def test_happened_at_a_time_of_the_store(self, viewer: Visitor, shop: Shop) -> None:
        await shop.installation.execute(
            "UPDATE store SET timezone = 'America/New_York' WHERE code = :store", store=shop.store
        )
        event_id = await add_event(shop)
        await shop.installation.execute(
            "UPDATE event SET created_at = '2026-01-02T13:05:10Z' WHERE event_id = :id", id=event_id
        )
        text = await shown(viewer, f"/admin/{shop.store}/events/{event_id}")
        assert 'title="2026-01-02 13:05:10 UTC">2026-01-02 08:05:10</time>' in text

    async def test_without_body_and_without_webhooks_it_says_so(self, viewer: Visitor, shop: Shop) -> None:
        text = await shown(viewer, f"/admin/{shop.store}/events/{await add_event(shop, None)}")
        for part in ("no longer stored", "No delivery", "No webhooks yet"):
            assert part in text

    async def test_an_unknown_one_is_explained(self, viewer: Visitor, shop: Shop) -> None:
        response = await viewer.get(f"/admin/{shop.store}/events/{uuid4()}")
        assert response.status_code == 404
        assert "No event of this id was accepted in this store." in response.text

    @pytest.mark.parametrize("around", ["{}", '  "{}",', "{}\n"])
    async def test_is_found_by_its_id_as_is_a_delivery(
        self, viewer: Visitor, shop: Shop, webhook: str, around: str
    ) -> None:
        event_id = await add_event(shop)
        made = await add_delivery(shop, webhook, event_id)
        events, deliveries = f"/admin/{shop.store}/events", f"/admin/{shop.store}/deliveries"
        assert await self.found(viewer, shop, around.format(event_id)) == f"{events}/{event_id}"
        assert await self.found(viewer, shop, around.format(made)) == f"{deliveries}/{made}"

    async def found(self, viewer: Visitor, shop: Shop, wished: str) -> str:
        response = await viewer.client.get(f"/admin/{shop.store}/events", params={"id": wished})
        assert response.status_code == 303
        return response.headers["location"]

    async def test_what_is_no_id_is_said(self, viewer: Visitor, shop: Shop) -> None:
        response = await viewer.client.get(f"/admin/{shop.store}/events", params={"id": SCRIPT})
        assert response.status_code == 404
        assert "is not an id" in response.text
        assert SCRIPT not in response.text

    async def test_costs_the_same_however_many_webhooks_there_are(
        self, installed: Installation, viewer: Visitor, shop: Shop, webhook: str
    ) -> None:
        event_id = await add_event(shop)
        counts = []
        for _ in range(2):
            with statements(installed) as asked:
                await shown(viewer, f"/admin/{shop.store}/events/{event_id}")
            counts.append(len(asked))
            for number in range(8):
                one = await shop.created(eventName="CustomerUpdated", url=f"https://receiver.example.com/{number}")
                await add_delivery(shop, one, event_id)
        assert counts[0] == counts[1] <= 12, asked


class TestLinksToTheWebhook:
    async def test_stand_where_a_delivery_or_an_event_does(self, viewer: Visitor, shop: Shop, webhook: str) -> None:
        event_id = await add_event(shop)
        made = await add_delivery(shop, webhook, event_id, status="exhausted")
        places = (log(shop), log(shop, f"/{made}"), f"/admin/{shop.store}/events/{event_id}")
        link = f'<a href="/admin/{shop.store}/webhooks/{webhook}">CRM</a>'
        for place in places:
            assert link in await shown(viewer, place), place
        await shop.client.delete(shop.path(webhook))
        for place in places:
            assert f"/webhooks/{webhook}" not in await shown(viewer, place), place
