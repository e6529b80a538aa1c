"""Settings → Store in the panel."""

import re
from typing import Any
from uuid import uuid4

from tests.api.installation import RECEIVER, Installation, Shop
from tests.panel.conftest import Visit
from tests.panel.queries import statements

FIELDS: dict[str, Any] = {
    "timezone": "Europe/Warsaw",
    "expirePointsNotificationDays": "30",
    "expireLevelsNotificationDays": "0",
    "expireCouponsNotificationDays": "7",
    "expiryKindsFromEvents": ["points", "coupons"],
    "operatorUrl": "",
    "retentionDays": "14",
    "retentionExhaustedDays": "",
}


async def settings(shop: Shop) -> dict[str, Any]:
    return dict((await shop.client.get(f"/api/{shop.store}/settings")).json()["settings"])


async def test_saved_settings_are_those_of_the_api_and_audited(visit: Visit, shop: Shop) -> None:
    somebody = await visit("admin")
    place = f"/admin/{shop.store}/settings"
    assert (await somebody.post(place, FIELDS)).status_code == 303
    assert "The settings are saved" in (await somebody.get(place)).text
    found = await settings(shop)
    assert found["timezone"] == "Europe/Warsaw"
    assert [found[name] for name in FIELDS if name.startswith("expire")] == [30, 0, 7]
    assert found["expiryKindsFromEvents"] == ["points", "coupons"]
    assert found["operatorUrl"] is None
    assert (found["retentionDays"], found["retentionExhaustedDays"]) == (14, None)
    assert [row["action"] for row in await shop.audit()] == ["change_settings"]


async def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_saved(visit: Visit, shop: Shop) -> None:
    somebody = await visit("admin")
    before = await settings(shop)
    wrong = {
        **FIELDS,
        "timezone": "Europe/Nowhere",
        "expirePointsNotificationDays": "366",
        "expireLevelsNotificationDays": "soon",
        "retentionDays": "0",
    }
    refused = await somebody.post(f"/admin/{shop.store}/settings", wrong)
    assert refused.status_code == 400
    for name in ("timezone", "expirePointsNotificationDays", "expireLevelsNotificationDays", "retentionDays"):
        assert f'id="error-{name}"' in refused.text, name
    assert 'value="Europe/Nowhere"' in refused.text
    refused = await somebody.post(f"/admin/{shop.store}/settings", {**FIELDS, "operatorUrl": "http://127.0.0.1/x"})
    assert 'id="error-operatorUrl"' in refused.text
    assert await settings(shop) == before


async def test_the_operators_key_is_shown_when_it_is_made_and_never_again(visit: Visit, shop: Shop) -> None:
    somebody = await visit("admin")
    place = f"/admin/{shop.store}/settings"
    key = re.compile(r'value="(whsec_[^"]+)"')
    first = key.search((await somebody.post(place, {**FIELDS, "operatorUrl": RECEIVER})).text)
    assert "whsec_" not in (await somebody.get(place)).text
    assert (await somebody.post(place, {**FIELDS, "operatorUrl": RECEIVER})).status_code == 303
    second = key.search((await somebody.post(f"{place}/operator-key")).text)
    assert first is not None
    assert second is not None
    assert first[1] != second[1]


async def test_a_key_of_the_operator_that_is_asked_for_twice_is_made_once(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    somebody = await visit("admin")
    place = f"/admin/{shop.store}/settings"
    await somebody.post(place, {**FIELDS, "operatorUrl": RECEIVER})
    await somebody.get(place)
    sealed = "SELECT sealed_secret, sealed_previous_secret FROM store_operator WHERE store_code = :code"
    await somebody.post(f"{place}/operator-key")
    once = await installed.execute(sealed, code=shop.store)
    assert (await somebody.post(f"{place}/operator-key")).status_code == 303
    assert "its key was created then" in (await somebody.get(place)).text
    assert await installed.execute(sealed, code=shop.store) == once


async def test_without_an_operator_there_is_no_key_to_rotate(visit: Visit, shop: Shop) -> None:
    somebody = await visit("admin")
    await somebody.post(f"/admin/{shop.store}/settings/operator-key", {"formId": str(uuid4())})
    page = await somebody.get(f"/admin/{shop.store}/settings")
    assert "so there is no key to rotate" in page.text


async def test_a_viewer_reads_and_has_no_form(installed: Installation, visit: Visit, shop: Shop) -> None:
    await installed.execute("UPDATE store SET name = '<i>Shop</i>' WHERE code = :code", code=shop.store)
    somebody = await visit("viewer")
    with statements(installed) as asked:
        text = (await somebody.get(f"/admin/{shop.store}/settings")).text
    assert len(asked) <= 4
    assert "UTC" in text
    assert f'action="/admin/{shop.store}/settings"' not in text
    assert "<i>Shop</i>" not in text
    assert "&lt;i&gt;Shop&lt;/i&gt;" in text
