"""Recover and backfill in the panel: counted first, begun once, followed to the end."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from storage.deliveries.bulk_actions import BulkActionKind, NewBulkAction, TimeWindow, begin_bulk_action
from tests.api.acting import EVENT, ActionStarts
from tests.api.conftest import acting, acting_installed
from tests.api.installation import Installation, Names, Shop
from tests.deadlines import eventually
from tests.panel.conftest import Visit
from tests.panel.queries import statements
from tests.panel.visitor import Visitor, visitor
from tests.receiver import Receiver

__all__ = ["acting", "acting_installed"]

PATIENCE_SECONDS = 20.0
YEAR = {"since": "2020-01-01T00:00", "until": "", "statuses": ["exhausted"]}
NOBODY = "00000000-0000-4000-8000-000000000000"
MARKUP = "<img src=x>"


@pytest.fixture
async def editor(acting: ActionStarts) -> AsyncIterator[Visitor]:
    """An editor at the panel of an installation with a worker."""
    async with AsyncExitStack() as closing:
        installed = Installation(acting.api.app, acting.api.database, Names(), closing)
        yield await visitor(installed, "editor", (acting.api.store,))


async def carried_on(editor: Visitor, place: str, fields: dict[str, object]) -> tuple[str, dict[str, object]]:
    """Count; the page, and what its button would send."""
    text = (await editor.post(f"{place}/count", fields)).text
    form = text[text.index(f'action="{place}/begin"') :]
    sent: dict[str, object] = {}
    for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[: form.index("</form>")]):
        sent[name] = [*sent.get(name, []), value] if name == "statuses" else value
    return text, sent


async def test_what_failed_is_counted_then_delivered_again_and_the_page_keeps_up(
    acting: ActionStarts, editor: Visitor, receiver: Receiver
) -> None:
    subscription = await acting.subscribe(receiver.url("/ok"))
    event = await acting.emit()
    await acting.until(event, "delivered", 1)
    await acting.fail_before(subscription, event, 3)
    place = f"/admin/{acting.api.store}/recover"
    fields = {**YEAR, "kind": "recover", "webhookSubscriptionId": subscription, "ratePerSecond": "100"}
    text, sent = await carried_on(editor, place, fields)
    assert "Recover 3 deliveries?" in text
    assert "at most 100 per second, so at least 0:00:01" in text
    begun = await editor.post(f"{place}/begin", sent)
    assert begun.status_code == 303
    progress = begun.headers["location"]
    assert progress.startswith(place)

    async def over() -> bool:
        return 'data-poll=""' in (await editor.get(f"{progress}/figures")).text

    await eventually(over, PATIENCE_SECONDS, "the end of the recovery")
    figures = re.findall(r'class="figure">(\d+)<', (await editor.get(progress)).text)
    assert figures == ["3", "0", "0"]
    listed = (await editor.get(place)).text
    assert f'href="{progress}"' in listed
    assert "status-finished" in listed
    await editor.post(f"{progress}/cancel")
    assert "The recovery is finished already." in (await editor.get(progress)).text


async def test_what_came_before_the_webhook_is_backfilled(
    acting: ActionStarts, editor: Visitor, receiver: Receiver
) -> None:
    event = await acting.emit()

    async def matched() -> bool:
        rows = await acting.api.execute("SELECT matched_at FROM event WHERE event_id = :id", id=UUID(event))
        return rows[0].matched_at is not None

    await eventually(matched, PATIENCE_SECONDS, "the event to be matched")
    subscription = await acting.subscribe(receiver.url("/ok"))
    place = f"/admin/{acting.api.store}/recover"
    fields = {"kind": "backfill", "webhookSubscriptionId": subscription, "since": "2020-01-01T00:00"}
    text, sent = await carried_on(editor, place, fields)
    assert "Create 1 delivery?" in text
    begun = await editor.post(f"{place}/begin", sent)
    await acting.until(event, "delivered", 1)
    assert "Backfill for" in (await editor.get(begun.headers["location"])).text


async def test_nothing_to_do_is_said_and_has_no_button(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    place = f"/admin/{shop.store}/recover"
    empty = (await somebody.get(place)).text
    assert "None yet" in empty
    subscription = await shop.created()
    for kind, said in (("recover", "Nothing to recover"), ("backfill", "Nothing to backfill")):
        fields = {**YEAR, "kind": kind, "webhookSubscriptionId": subscription}
        text = (await somebody.post(f"{place}/count", fields)).text
        assert said in text
        assert f"{place}/begin" not in text


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"webhookSubscriptionId": ""}, "webhookSubscriptionId"),
        ({"webhookSubscriptionId": NOBODY}, "webhookSubscriptionId"),
        ({"since": ""}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2019-01-01T00:00"}, "until"),
        ({"statuses": []}, "statuses"),
        ({"ratePerSecond": "0"}, "ratePerSecond"),
        ({"ratePerSecond": "9" * 5000}, "ratePerSecond"),
        ({"ratePerSecond": "fast"}, "ratePerSecond"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else value,
)
async def test_what_is_wrong_is_said_beside_its_field(
    visit: Visit, shop: Shop, wrong: dict[str, object], field: str
) -> None:
    somebody = await visit("editor")
    fields = {**YEAR, "kind": "recover", "webhookSubscriptionId": await shop.created(), **wrong}
    refused = await somebody.post(f"/admin/{shop.store}/recover/count", fields)
    assert refused.status_code == 400
    assert f'id="error-{field}"' in refused.text


async def test_a_webhook_of_another_store_is_none(installed: Installation, visit: Visit, shop: Shop) -> None:
    other = await installed.shop()
    somebody = await visit("editor")
    fields = {**YEAR, "kind": "recover", "webhookSubscriptionId": await other.created()}
    assert (await somebody.post(f"/admin/{shop.store}/recover/count", fields)).status_code == 400


async def test_a_webhook_that_is_disabled_is_refused_with_its_reason(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    subscription = await shop.created()
    await somebody.post(f"/admin/{shop.store}/webhooks/{subscription}/status", {"act": "disable"})
    fields = {**YEAR, "kind": "recover", "webhookSubscriptionId": subscription}
    for step in ("count", "begin"):
        refused = await somebody.post(f"/admin/{shop.store}/recover/{step}", fields)
        assert (refused.status_code, "enable it first" in refused.text) == (409, True), step
        assert 'value="2020-01-01T00:00:00"' in refused.text


async def test_an_ordered_webhook_has_no_pace_but_its_own_and_that_is_said_before_anything_is_counted(
    visit: Visit, shop: Shop
) -> None:
    somebody = await visit("editor")
    fields = {**YEAR, "webhookSubscriptionId": await shop.created(ordered=True), "ratePerSecond": "5"}
    for kind in ("recover", "backfill"):
        refused = await somebody.post(f"/admin/{shop.store}/recover/count", {**fields, "kind": kind})
        assert (refused.status_code, "rateLimitPerSecond applies" in refused.text) == (409, True), kind


async def test_a_running_act_is_cancelled_by_its_button(installed: Installation, visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    action_id = await running(shop, name=MARKUP)
    place = f"/admin/{shop.store}/recover/{action_id}"
    text = (await somebody.get(place)).text
    assert 'data-poll-seconds="2"' in text
    assert MARKUP not in text
    assert f"{place}/cancel" not in (await (await visit("viewer")).get(place)).text
    assert (await somebody.post(f"{place}/cancel")).status_code == 303
    assert "The recovery is cancelled." in (await somebody.get(place)).text
    other = await installed.shop()
    stranger = await visit("editor", (other.store,))
    assert (await stranger.get(f"/admin/{other.store}/recover/{action_id}")).status_code == 404


async def test_pages_cost_the_same_however_many_acts_and_webhooks_there_are(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    somebody = await visit("editor")
    action_id = await running(shop)
    pages = (f"/admin/{shop.store}/recover", f"/admin/{shop.store}/recover/{action_id}")
    costs = []
    for _ in range(2):
        for page in pages:
            with statements(installed) as asked:
                assert (await somebody.get(page)).status_code == 200
            costs.append(len(asked))
        await running(shop)
        await running(shop)
    assert costs[:2] == costs[2:]
    assert max(costs) <= 4


async def running(shop: Shop, name: str = "a webhook") -> UUID:
    """An act of a new subscription that nobody carries out."""
    subscription = UUID(await shop.created(name=name, eventName=EVENT))
    now = datetime.now(UTC)
    window = TimeWindow(now - timedelta(days=1), now, ("exhausted",))
    act = NewBulkAction(uuid4(), BulkActionKind.RECOVER, shop.store, subscription, window, 10, 5)
    async with shop.installation.database.transaction() as connection:
        assert await begin_bulk_action(connection, act)
    return act.id
