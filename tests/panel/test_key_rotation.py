"""The rotation of a webhook's signing key by its button, also of a key that several webhooks share."""

import asyncio
import re
from uuid import UUID

from cryptography.fernet import Fernet

from api.panel.texts import TEXTS
from storage.sealing import Sealer
from storage.subscriptions.queries import delete_subscription
from tests.api.installation import Installation, Shop
from tests.deadlines import eventually
from tests.panel.conftest import Visit
from tests.panel.test_webhooks import FIELDS, new_form
from tests.panel.visitor import Visitor


async def test_a_rotation_that_is_asked_for_twice_keeps_the_key_the_receiver_has(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    webhook_id = await shop.created(hmacEnabled=True)
    somebody = await visit("editor")
    here = f"/admin/{shop.store}/webhooks/{webhook_id}"
    await somebody.get(here)
    sealed = "SELECT sealed_secret, sealed_previous_secret FROM subscription WHERE id = :id"
    [before] = await installed.execute(sealed, id=webhook_id)
    both = await asyncio.gather(*(somebody.post(f"{here}/rotate") for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [200, 303]
    [after] = await installed.execute(sealed, id=webhook_id)
    assert after["sealed_previous_secret"] == before["sealed_secret"]
    assert "its key was created then" in (await somebody.get(here)).text
    assert (await somebody.post(f"{here}/rotate")).status_code == 200


async def test_a_rotation_gives_the_new_key_to_all_that_share_the_old_one(visit: Visit, shop: Shop) -> None:
    somebody, here = await visit("editor"), f"/admin/{shop.store}/webhooks"
    together = ["CustomerUpdated", "CustomerRegistered"]
    fields = {**FIELDS, **await new_form(somebody, shop), "eventName": together, "name": "CRM"}
    [old] = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", (await somebody.post(f"{here}/new", fields)).text))
    ids = {one["eventName"]: one["webhookSubscriptionId"] for one in (await shop.list())["items"]}
    alone = await shop.created(eventName="CampaignCreated", hmacEnabled=True)
    asked = (await somebody.get(f"{here}/{ids['CustomerUpdated']}")).text
    assert TEXTS["webhooks.rotate_shared"] in asked
    assert re.findall(r"<li>([^<]+)</li>", asked) == ["CRM · CustomerRegistered"]
    rotated = (await somebody.post(f"{here}/{ids['CustomerUpdated']}/rotate")).text
    [new] = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", rotated))
    assert new != old
    assert "It is also the key of CRM · CustomerRegistered." in rotated
    sealer = shop.installation.app.state.resources.sealer
    for webhook_id in ids.values():
        row = await shop.row(webhook_id)
        assert [sealer.open(row[name]) for name in ("sealed_secret", "sealed_previous_secret")] == [new, old]
        assert row["signature_version"] == 2
    assert (await shop.row(alone))["signature_version"] == 1
    assert TEXTS["webhooks.rotate_shared"] not in (await somebody.get(f"{here}/{alone}")).text


async def test_a_key_that_cannot_be_decrypted_any_more_is_rotated(visit: Visit, shop: Shop) -> None:
    webhook_id = await shop.created(hmacEnabled=True)
    await shop.created(hmacEnabled=True, eventName="CustomerUpdated")
    lost = Sealer([Fernet.generate_key().decode()]).seal("whsec_lost")
    change = "UPDATE subscription SET sealed_secret = :lost WHERE id = CAST(:id AS uuid)"
    await shop.installation.execute(change, lost=lost, id=webhook_id)
    somebody, here = await visit("editor"), f"/admin/{shop.store}/webhooks/{webhook_id}"
    assert (await somebody.get(here)).status_code == 200
    assert "whsec_" in (await somebody.post(f"{here}/rotate")).text


async def added_together(somebody: Visitor, shop: Shop) -> dict[str, str]:
    """Add webhooks that share a key; return their ids by event."""
    fields = {**FIELDS, **await new_form(somebody, shop), "eventName": ["CustomerUpdated", "CustomerRegistered"]}
    await somebody.post(f"/admin/{shop.store}/webhooks/new", fields)
    return {one["eventName"]: one["webhookSubscriptionId"] for one in (await shop.list())["items"]}


async def test_a_rotation_by_the_api_gives_the_new_key_to_all_that_share_the_old_one(visit: Visit, shop: Shop) -> None:
    ids = await added_together(await visit("editor"), shop)
    rotated = (await shop.client.post(shop.path(ids["CustomerUpdated"], "rotate-hmac-secret"))).json()
    assert rotated["sharedWith"] == [ids["CustomerRegistered"]]
    sealer = shop.installation.app.state.resources.sealer
    keys = {sealer.open((await shop.row(one))["sealed_secret"]) for one in ids.values()}
    assert keys == {rotated["hmacSecret"]}


async def test_a_rotation_compares_the_keys_after_the_changes_that_it_has_waited_for(visit: Visit, shop: Shop) -> None:
    """One of those that shared the key is deleted meanwhile, and is no 404 of the other's rotation."""
    ids = await added_together(await visit("editor"), shop)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with shop.installation.database.transaction() as connection:
        await delete_subscription(connection, shop.store, UUID(ids["CustomerRegistered"]))
        rotating = asyncio.create_task(shop.client.post(shop.path(ids["CustomerUpdated"], "rotate-hmac-secret")))

        async def waits() -> bool:
            return (await shop.installation.execute(waiting))[0]["count"] == 1

        await eventually(waits, 30, "the rotation waits for the deletion")
    answer = await rotating
    assert (answer.status_code, answer.json()["sharedWith"]) == (200, [])
