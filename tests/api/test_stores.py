"""Stores and their settings through the API."""

from typing import Any
from uuid import uuid4

import pytest

from domain.access import Scope
from tests.api.installation import Installation, Shop

DEFAULTS = {
    "expirePointsNotificationDays": 10,
    "expireLevelsNotificationDays": 10,
    "expireCouponsNotificationDays": 10,
    "timezone": "UTC",
    "operatorUrl": None,
    "expiryKindsFromEvents": [],
    "retentionDays": None,
    "retentionExhaustedDays": None,
}


def new_code() -> str:
    return f"n-{uuid4().hex}"


async def change(shop: Shop, settings: Any) -> Any:
    return await shop.client.patch(f"/api/{shop.store}/settings", json={"settings": settings})


async def test_a_new_store_is_there_at_once(shop: Shop) -> None:
    code = new_code()
    assert (await shop.client.get(f"/api/{code}/settings")).status_code == 404
    body = {"store": {"storeCode": code, "name": "Łódź", "timezone": "Europe/Warsaw"}}
    response = await shop.client.post("/api/admin/store", json=body)
    assert (response.status_code, response.json()) == (200, {"storeCode": code})
    settings = await shop.client.get(f"/api/{code}/settings")
    assert settings.json() == {"settings": {**DEFAULTS, "timezone": "Europe/Warsaw"}}
    listed = (await shop.client.get("/api/admin/store")).json()["items"]
    assert {"storeCode": code, "name": "Łódź", "timezone": "Europe/Warsaw"} in listed
    assert [item["storeCode"] for item in listed] == sorted(item["storeCode"] for item in listed)


async def test_a_code_that_is_taken_is_a_409(shop: Shop) -> None:
    response = await shop.client.post("/api/admin/store", json={"store": {"storeCode": shop.store}})
    assert (response.status_code, response.json()["code"]) == (409, 409)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "storeCode"),
        ({"storeCode": ""}, "storeCode"),
        ({"storeCode": "a/b"}, "storeCode"),
        ({"storeCode": "-a"}, "storeCode"),
        ({"storeCode": "ä"}, "storeCode"),
        ({"storeCode": "a\n"}, "storeCode"),
        ({"storeCode": "a" * 64}, "storeCode"),
        ({"storeCode": "admin"}, "storeCode"),
        ({"storeCode": "Token"}, "storeCode"),
        ({"storeCode": "ok", "timezone": "Mars/Olympus"}, "timezone"),
        ({"storeCode": "ok", "name": ""}, "name"),
        ({"storeCode": "ok", "more": 1}, "more"),
    ],
)
async def test_a_refused_store_says_where(shop: Shop, fields: dict[str, Any], path: str) -> None:
    response = await shop.client.post("/api/admin/store", json={"store": fields})
    assert response.status_code == 400
    assert [error["path"] for error in response.json()["errors"]] == [path]


async def test_one_sees_the_stores_one_may_enter(installed: Installation, shop: Shop) -> None:
    caller = await installed.with_key(Scope.ADMIN, stores=[shop.store])
    assert [item["storeCode"] for item in (await caller.get("/api/admin/store")).json()["items"]] == [shop.store]


async def test_settings_change_where_given_and_stay_where_not(shop: Shop) -> None:
    response = await change(shop, {"expireLevelsNotificationDays": 0, "timezone": "Asia/Kolkata"})
    expected = {"settings": {**DEFAULTS, "expireLevelsNotificationDays": 0, "timezone": "Asia/Kolkata"}}
    assert (response.status_code, response.json()) == (200, expected)
    assert (await change(shop, {})).json() == expected
    assert (await shop.client.get(f"/api/{shop.store}/settings")).json() == expected
    changes = [line["changes"] for line in await shop.audit()]
    assert changes == [
        {
            "expire_levels_notification_days": {"before": 10, "after": 0},
            "timezone": {"before": "UTC", "after": "Asia/Kolkata"},
        },
        {},
    ]


async def test_kinds_are_taken_from_events_only_when_asked_for(shop: Shop) -> None:
    async def after(**settings: Any) -> Any:
        return (await change(shop, settings)).json()["settings"]["expiryKindsFromEvents"]

    assert await after(expiryKindsFromEvents=["points", "coupons"]) == ["points", "coupons"]
    assert await after(timezone="UTC") == ["points", "coupons"]
    assert await after(expiryKindsFromEvents=[]) == []


async def test_a_store_may_have_days_of_its_own_for_its_log_and_give_them_up(shop: Shop) -> None:
    own = {"retentionDays": 7, "retentionExhaustedDays": 14}
    assert (await change(shop, own)).json() == {"settings": {**DEFAULTS, **own}}
    assert (await change(shop, {"retentionDays": None})).json()["settings"]["retentionDays"] is None


async def test_a_whole_number_is_whole_however_it_is_written(shop: Shop) -> None:
    raw = b'{"settings": {"expireLevelsNotificationDays": 7.0, "expirePointsNotificationDays": 3E+1}}'
    response = await shop.client.patch(f"/api/{shop.store}/settings", content=raw)
    assert response.json()["settings"]["expireLevelsNotificationDays"] == 7
    assert response.json()["settings"]["expirePointsNotificationDays"] == 30


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"expirePointsNotificationDays": -1}, "expirePointsNotificationDays"),
        ({"expirePointsNotificationDays": 366}, "expirePointsNotificationDays"),
        ({"expireCouponsNotificationDays": 1.5}, "expireCouponsNotificationDays"),
        ({"expireCouponsNotificationDays": "10"}, "expireCouponsNotificationDays"),
        ({"expireLevelsNotificationDays": None}, "expireLevelsNotificationDays"),
        ({"expireLevelsNotificationDays": True}, "expireLevelsNotificationDays"),
        ({"expiryKindsFromEvents": ["points", "points"]}, "expiryKindsFromEvents"),
        ({"expiryKindsFromEvents": ["money"]}, "expiryKindsFromEvents.0"),
        ({"expiryKindsFromEvents": None}, "expiryKindsFromEvents"),
        ({"retentionDays": 0}, "retentionDays"),
        ({"retentionExhaustedDays": 3651}, "retentionExhaustedDays"),
        ({"timezone": "utc "}, "timezone"),
        ({"timezone": ""}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"name": "n"}, "name"),
        ({"operatorUrl": ""}, "operatorUrl"),
        ({"operatorUrl": "http://operator.example.com/"}, "operatorUrl"),
        ({"operatorUrl": "https://10.0.0.1/hook"}, "operatorUrl"),
        ({"operatorUrl": "https://user:pass@operator.example.com/"}, "operatorUrl"),
        ([], ""),
    ],
)
async def test_a_refused_setting_says_where(shop: Shop, settings: Any, path: str) -> None:
    response = await change(shop, settings)
    assert response.status_code == 400
    assert [error["path"] for error in response.json()["errors"]] == [path]
    assert (await shop.client.get(f"/api/{shop.store}/settings")).json() == {"settings": DEFAULTS}


OPERATOR = "https://operator.example.com/hook"


async def test_an_operators_key_is_shown_once_and_again_only_after_a_rotation(shop: Shop) -> None:
    rotate = f"/api/{shop.store}/settings/rotate-operator-secret"
    assert (await shop.client.post(rotate)).status_code == 409
    first = (await change(shop, {"operatorUrl": OPERATOR})).json()
    assert first["settings"]["operatorUrl"] == OPERATOR
    assert first["operatorSecret"].startswith("whsec_")
    again = (await change(shop, {"operatorUrl": f"{OPERATOR}/2", "timezone": "UTC"})).json()
    assert again == {"settings": {**DEFAULTS, "operatorUrl": f"{OPERATOR}/2"}}
    assert (await shop.client.get(f"/api/{shop.store}/settings")).json() == again
    rotated = await shop.client.post(rotate)
    assert rotated.status_code == 200
    assert rotated.json()["operatorSecret"] not in (first["operatorSecret"], None)
    [row] = await shop.installation.execute("SELECT * FROM store_operator WHERE store_code = :s", s=shop.store)
    sealer = shop.installation.app.state.resources.sealer
    assert sealer.open(row["sealed_secret"]) == rotated.json()["operatorSecret"]
    assert sealer.open(row["sealed_previous_secret"]) == first["operatorSecret"]
    audit = await shop.audit()
    assert [line["action"] for line in audit] == ["change_settings", "change_settings", "rotate_operator_secret"]
    assert audit[0]["changes"] == {"operator_url": {"before": None, "after": OPERATOR}}
    assert "whsec_" not in str(audit)


async def test_without_operator_url_its_key_is_forgotten(shop: Shop) -> None:
    first = (await change(shop, {"operatorUrl": OPERATOR})).json()["operatorSecret"]
    assert (await change(shop, {"operatorUrl": None})).json() == {"settings": DEFAULTS}
    assert (await change(shop, {"operatorUrl": OPERATOR})).json()["operatorSecret"] != first
