"""API keys through the API: shown once, listed without, revoked."""

from typing import Any

import pytest

from tests.api.installation import Shop

PATH = "/api/admin/api-key"


async def create(shop: Shop, **fields: Any) -> Any:
    body = {"name": "emitter", "scopes": ["event:emit"], **fields}
    return await shop.client.post(PATH, json={"apiKey": body})


async def listed(shop: Shop, key_id: str) -> dict[str, Any]:
    items = (await shop.client.get(PATH)).json()["items"]
    return next(item for item in items if item["apiKeyId"] == key_id)


async def test_a_new_key_is_shown_once_and_works(shop: Shop) -> None:
    response = await create(shop, stores=[shop.store], scopes=["subscription:read"])
    assert response.status_code == 200
    key_id, key = response.json()["apiKeyId"], response.json()["apiKey"]
    caller = await shop.installation.caller({"X-AUTH-TOKEN": key})
    assert (await caller.get(shop.path())).status_code == 200
    assert key not in (await shop.client.get(PATH)).text
    assert (await listed(shop, key_id))["lastUsedAt"] is not None
    audit = await shop.installation.execute("SELECT * FROM audit WHERE object_id = :id", id=key_id)
    assert [line["action"] for line in audit] == ["create"]
    assert key not in str(audit)
    stored = await shop.installation.execute("SELECT * FROM api_key")
    assert key not in str(stored)


async def test_a_revoked_key_is_listed_as_such(shop: Shop) -> None:
    key_id = (await create(shop)).json()["apiKeyId"]
    assert (await listed(shop, key_id))["revokedAt"] is None
    response = await shop.client.delete(f"{PATH}/{key_id}")
    assert (response.status_code, response.content) == (204, b"")
    revoked_at = (await listed(shop, key_id))["revokedAt"]
    assert revoked_at is not None
    assert (await shop.client.delete(f"{PATH}/{key_id}")).status_code == 204
    assert (await listed(shop, key_id))["revokedAt"] == revoked_at


@pytest.mark.parametrize("key_id", ["6f9619ff-8b86-4011-b42d-00c04fc964ff", "nonsense", "%00"])
async def test_an_unknown_key_is_a_404(shop: Shop, key_id: str) -> None:
    assert (await shop.client.delete(f"{PATH}/{key_id}")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes.0"),
        ({"scopes": "admin"}, "scopes"),
        ({"stores": []}, "stores"),
        ({"stores": ["a/b"]}, "stores.0"),
        ({"expiresAt": "2030-01-01"}, "expiresAt"),
        ({"more": 1}, "more"),
    ],
)
async def test_a_refused_key_says_where(shop: Shop, fields: dict[str, Any], path: str) -> None:
    response = await create(shop, **fields)
    assert response.status_code == 400
    assert [error["path"] for error in response.json()["errors"]] == [path]


async def test_a_key_for_a_store_that_is_not_there_is_a_409(shop: Shop) -> None:
    response = await create(shop, stores=["*", "nowhere"])
    assert (response.status_code, response.json()["message"]) == (409, "There is no store nowhere.")
