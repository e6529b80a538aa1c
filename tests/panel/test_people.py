"""API keys, administrators and one's own password in the panel."""

import asyncio
import re
from uuid import UUID, uuid4

import pytest

from storage.access.queries import list_administrators, list_keys
from tests.api.installation import Installation, Shop
from tests.panel.conftest import Visit
from tests.panel.queries import statements
from tests.panel.visitor import PASSWORD, SESSION, Visitor, stranger, visitor

MARKUP = "<b>bold</b>"
OTHER_PASSWORD = "another horse, another staple"


@pytest.fixture
async def chief(visit: Visit, shop: Shop) -> Visitor:
    """Somebody who may do everything everywhere, before the form of a new key."""
    somebody = await visit("admin", ("*",))
    await somebody.get(f"/admin/{shop.store}/keys/new")
    return somebody


async def key_id(installed: Installation, name: str) -> UUID:
    async with installed.database.transaction() as connection:
        return next(key.id for key in await list_keys(connection) if key.name == name)


async def administrator_id(installed: Installation, username: str) -> UUID:
    async with installed.database.transaction() as connection:
        return next(row.id for row in await list_administrators(connection) if row.username == username)


async def test_a_new_key_is_shown_once_and_works(installed: Installation, chief: Visitor, shop: Shop) -> None:
    name = f"{MARKUP}{uuid4()}"
    fields = {"name": name, "scopes": ["subscription:read"], "stores": [shop.store]}
    made = await chief.post(f"/admin/{shop.store}/keys/new", fields)
    assert made.status_code == 200
    key = re.search(r'value="(lwk_[^"]+)"', made.text)
    assert key is not None
    client = await installed.caller({"X-AUTH-TOKEN": key[1]})
    assert (await client.get(shop.path())).status_code == 200
    listed = (await chief.get(f"/admin/{shop.store}/keys")).text
    assert key[1] not in listed
    assert MARKUP not in listed
    assert "&lt;b&gt;bold" in listed
    assert "lwk_" not in str(await installed.execute("SELECT changes FROM audit WHERE object_type = 'api_key'"))


async def test_a_key_without_name_rights_or_stores_is_refused_beside_its_fields(
    chief: Visitor, shop: Shop, installed: Installation
) -> None:
    before = len(await installed.execute("SELECT id FROM api_key"))
    refused = await chief.post(f"/admin/{shop.store}/keys/new", {"name": "", "expiresAt": "soon"})
    assert refused.status_code == 400
    assert 'id="error-expiresAt"' in refused.text
    refused = await chief.post(f"/admin/{shop.store}/keys/new", {"name": ""})
    for name in ("name", "scopes", "stores"):
        assert f'id="error-{name}">must not be empty<' in refused.text, name
    wrong = {"name": "kept", "scopes": ["everything"], "stores": ["nowhere"]}
    refused = await chief.post(f"/admin/{shop.store}/keys/new", wrong)
    assert 'value="kept"' in refused.text
    wrong = {"name": "kept", "scopes": ["admin"], "stores": ["nowhere"]}
    refused = await chief.post(f"/admin/{shop.store}/keys/new", wrong)
    assert (refused.status_code, "There is no store nowhere." in refused.text) == (409, True)
    assert len(await installed.execute("SELECT id FROM api_key")) == before


async def test_a_form_that_is_sent_twice_makes_one_key(installed: Installation, chief: Visitor, shop: Shop) -> None:
    place, name = f"/admin/{shop.store}/keys/new", str(uuid4())
    fields = {"name": name, "scopes": ["event:emit"], "stores": ["*"]}
    assert (await chief.post(place, fields)).status_code == 200
    again = await chief.post(place, fields)
    assert (again.status_code, "its key was created then" in again.text) == (409, True)
    assert "lwk_" not in again.text
    assert (await chief.post(place, {**fields, "formId": "none"})).status_code == 409
    assert len(await installed.execute("SELECT id FROM api_key WHERE name = :name", name=name)) == 1


async def test_a_key_ends_with_its_last_day_in_the_stores_zone(
    installed: Installation, chief: Visitor, shop: Shop
) -> None:
    await installed.execute("UPDATE store SET timezone = 'Asia/Kathmandu' WHERE code = :code", code=shop.store)
    name = str(uuid4())
    fields = {"name": name, "scopes": ["event:emit"], "stores": ["*"], "expiresAt": "2999-12-31"}
    assert (await chief.post(f"/admin/{shop.store}/keys/new", fields)).status_code == 200
    ends = await installed.execute("SELECT expires_at FROM api_key WHERE name = :name", name=name)
    assert ends[0]["expires_at"].isoformat() == "2999-12-31T18:15:00+00:00"


async def test_a_revoked_key_says_so_and_has_no_button(installed: Installation, chief: Visitor, shop: Shop) -> None:
    name = str(uuid4())
    fields = {"name": name, "scopes": ["event:emit"], "stores": ["*"]}
    await chief.post(f"/admin/{shop.store}/keys/new", fields)
    revoke = f"/admin/{shop.store}/keys/{await key_id(installed, name)}/revoke"
    assert f"Revoke the key {name}?" in (await chief.get(f"/admin/{shop.store}/keys")).text
    assert (await chief.post(revoke)).status_code == 303
    listed = (await chief.get(f"/admin/{shop.store}/keys")).text
    assert f"The key {name} is revoked" in listed
    assert revoke not in listed
    assert (await chief.post(f"/admin/{shop.store}/keys/{uuid4()}/revoke")).status_code == 404


async def test_lists_cost_the_same_however_long_they_are(installed: Installation, chief: Visitor, shop: Shop) -> None:
    for page in ("keys", "administrators"):
        with statements(installed) as few:
            await chief.get(f"/admin/{shop.store}/{page}")
        for _ in range(3):
            await installed.key()
            await visitor(installed, "viewer", (shop.store,))
        with statements(installed) as many:
            await chief.get(f"/admin/{shop.store}/{page}")
        assert len(many) == len(few) <= 3


async def test_a_new_administrator_logs_in_with_the_rights_of_the_role(
    installed: Installation, chief: Visitor, shop: Shop
) -> None:
    name = f"anna-{uuid4().hex[:6]}"
    fields = {"username": name, "password": PASSWORD, "scopes": "viewer", "stores": [shop.store]}
    assert (await chief.post(f"/admin/{shop.store}/administrators/new", fields)).status_code == 303
    assert f"{name} may log in now." in (await chief.get(f"/admin/{shop.store}/administrators")).text
    anna = await stranger(installed, name)
    assert (await anna.log_in()).status_code == 303
    assert (await anna.get(f"/admin/{shop.store}/webhooks")).status_code == 200
    assert (await anna.get(f"/admin/{shop.store}/audit")).status_code == 403


async def test_an_administrator_is_refused_beside_the_fields_and_no_password_comes_back(
    chief: Visitor, shop: Shop
) -> None:
    place = f"/admin/{shop.store}/administrators/new"
    wrong = {"username": " ", "password": "short", "scopes": "owner", "stores": []}
    refused = await chief.post(place, wrong)
    assert refused.status_code == 400
    for name in ("username", "password", "scopes", "stores"):
        assert f'id="error-{name}"' in refused.text, name
    taken = {"username": chief.username, "password": PASSWORD, "scopes": "viewer", "stores": ["*"]}
    refused = await chief.post(place, taken)
    assert "is the name of another administrator" in refused.text
    assert PASSWORD not in refused.text


async def test_a_deactivated_administrator_is_out_and_comes_back_when_activated(
    installed: Installation, chief: Visitor, shop: Shop
) -> None:
    other = await visitor(installed, "viewer", (shop.store,))
    place = f"/admin/{shop.store}/administrators/{await administrator_id(installed, other.username)}/active"
    assert (await chief.post(place)).status_code == 303
    assert (await other.get(f"/admin/{shop.store}/webhooks")).status_code == 303
    assert (await other.log_in()).status_code == 401
    assert (await chief.post(place, {"active": "true"})).status_code == 303
    assert (await other.log_in()).status_code == 303
    acts = await installed.execute("SELECT action FROM audit WHERE object_id = :id ORDER BY id", id=place.split("/")[4])
    assert [act["action"] for act in acts] == ["deactivate", "activate"]


async def test_nobody_locks_themselves_or_the_last_one_out(installed: Installation, chief: Visitor, shop: Shop) -> None:
    mine = await administrator_id(installed, chief.username)
    await chief.post(f"/admin/{shop.store}/administrators/{mine}/active")
    assert "This is your own account" in (await chief.get(f"/admin/{shop.store}/administrators")).text
    others = await installed.execute(
        "UPDATE administrator SET active = false WHERE active AND id <> :id RETURNING id", id=mine
    )
    limited = await visitor(installed, "admin", (shop.store,))
    await installed.execute("UPDATE administrator SET stores = '{*}' WHERE username = :name", name=limited.username)
    await installed.execute("UPDATE administrator SET scopes = '{admin,event:emit}' WHERE id = :id", id=mine)
    await limited.post(f"/admin/{shop.store}/administrators/{mine}/active")
    left = await installed.execute("SELECT active FROM administrator WHERE id = :id", id=mine)
    assert left == [{"active": False}]
    await limited.post(
        f"/admin/{shop.store}/administrators/{await administrator_id(installed, limited.username)}/active"
    )
    left = await installed.execute("SELECT active FROM administrator WHERE username = :name", name=limited.username)
    assert left == [{"active": True}]
    await installed.execute(
        "UPDATE administrator SET active = true WHERE id = ANY(:ids)", ids=[mine, *(row["id"] for row in others)]
    )


async def test_two_who_deactivate_each_other_at_once_do_not_both_go(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    pair = [await visit("admin", ("*",)), await visit("admin", ("*",))]
    ids = [await administrator_id(installed, one.username) for one in pair]
    others = await installed.execute(
        "UPDATE administrator SET active = false WHERE active AND NOT id = ANY(:ids) RETURNING id", ids=ids
    )
    places = [f"/admin/{shop.store}/administrators/{other}/active" for other in reversed(ids)]
    await asyncio.gather(*(one.post(place) for one, place in zip(pair, places, strict=True)))
    left = await installed.execute("SELECT id FROM administrator WHERE active")
    assert len(left) == 1
    everybody = [*ids, *(row["id"] for row in others)]
    await installed.execute("UPDATE administrator SET active = true WHERE id = ANY(:ids)", ids=everybody)


async def test_somebody_of_every_role_changes_their_password_and_stays_logged_in_here_alone(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    somebody = await visit("viewer")
    elsewhere = await stranger(installed, somebody.username)
    await elsewhere.log_in()
    place, before = f"/admin/{shop.store}/password", somebody.client.cookies[SESSION]
    fields = {"current": PASSWORD, "password": OTHER_PASSWORD, "repeated": OTHER_PASSWORD}
    assert (await somebody.post(place, fields)).headers["location"] == place
    assert "Your password is changed" in (await somebody.get(place)).text
    assert somebody.client.cookies[SESSION] != before
    assert (await elsewhere.get(place)).status_code == 303
    assert (await elsewhere.log_in()).status_code == 401
    assert (await elsewhere.log_in(OTHER_PASSWORD)).status_code == 303


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        ({"current": "guessed"}, "current", "is not your password"),
        ({"password": "short", "repeated": "short"}, "password", "12 to 1024 characters"),
        ({"repeated": "something else"}, "repeated", "is not the same as above"),
    ],
    ids=["the password now", "the new one", "the new one once more"],
)
async def test_a_password_that_does_not_do_is_refused_beside_its_field(
    visit: Visit, shop: Shop, wrong: dict[str, str], field: str, message: str
) -> None:
    somebody = await visit("viewer")
    fields = {"current": PASSWORD, "password": OTHER_PASSWORD, "repeated": OTHER_PASSWORD, **wrong}
    refused = await somebody.post(f"/admin/{shop.store}/password", fields)
    assert refused.status_code in (400, 401)
    assert re.search(rf'id="error-{field}">[^<]*{message}', refused.text)
    assert OTHER_PASSWORD not in refused.text
