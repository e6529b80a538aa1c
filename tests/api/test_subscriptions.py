"""Subscriptions through the API: created, read back, changed, deleted; what is refused, and how."""

import asyncio
import base64
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import Response
from pydantic import SecretStr

from api.errors import Conflict
from api.idempotency import created_before
from api.subscriptions.models import SubscriptionCreate
from domain.access import Scope
from tests.api.installation import RECEIVER, Shop, header, installation, paths

UNKNOWN = "5a0c1f6e-3b2d-4c8e-9f17-6d5e4c3b2a10"


async def test_the_least_that_makes_a_subscription_and_all_its_details(shop: Shop) -> None:
    response = await shop.create()
    assert response.status_code == 200
    assert set(response.json()) == {"webhookSubscriptionId"}
    subscription_id = response.json()["webhookSubscriptionId"]
    found = await shop.details(subscription_id)
    assert found.pop("createdAt")
    assert found.pop("statusSince")
    assert found == {
        "webhookSubscriptionId": subscription_id,
        "eventName": "CustomerRegistered",
        "url": RECEIVER,
        "headerName": None,
        "headerValue": None,
        "legacy": False,
        "destinationType": "rest",
        "headers": [],
        "authentication": None,
        "certificateExpiresAt": None,
        "name": None,
        "activeFrom": None,
        "hmacEnabled": False,
        "active": True,
        "status": "active",
        "statusReason": None,
        "rateLimitPerSecond": None,
        "maxConcurrency": 50,
        "timeoutSeconds": 15,
        "ordered": False,
        "orderKey": "subscription",
        "afterExhausted": "skip",
        "retrySchedule": [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400],
        "urlWarning": None,
    }


async def test_everything_that_can_be_set_is_read_back(shop: Shop) -> None:
    given = {
        "legacy": True,
        "name": "Züge 🚆",
        "destinationType": "rest",
        "rateLimitPerSecond": 7,
        "maxConcurrency": 3,
        "timeoutSeconds": 30,
        "ordered": True,
        "orderKey": "customer",
        "afterExhausted": "hold",
        "retrySchedule": [1, 2, 3],
    }
    found = await shop.details(await shop.created(**given, activeFrom="2026-03-01T01:30:00.5+02:00"))
    assert {name: found[name] for name in given} == given
    assert found["activeFrom"] == "2026-02-28T23:30:00.500000Z"


async def test_an_empty_retry_schedule_means_no_retry(shop: Shop) -> None:
    assert (await shop.details(await shop.created(retrySchedule=[])))["retrySchedule"] == []


async def test_the_url_is_stored_in_its_normal_form(shop: Shop) -> None:
    found = await shop.details(await shop.created(url="HTTPS://Receiver.Example.COM:443/a/../%7Eb?x=ü"))
    assert found["url"] == "https://receiver.example.com/~b?x=%C3%BC"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"eventName": "CustomerRegisterd"}, ["eventName"], id="unknown event"),
        pytest.param({"eventName": None}, ["eventName"], id="null event"),
        pytest.param({"url": None}, ["url"], id="null url"),
        pytest.param({"url": 7}, ["url"], id="url of a wrong type"),
        pytest.param({"url": "http://receiver.example.com/"}, ["url"], id="plain http"),
        pytest.param({"url": "https://127.0.0.1/"}, ["url"], id="loopback"),
        pytest.param({"url": "https://localhost/"}, ["url"], id="a name of loopback"),
        pytest.param({"url": "https://user:pw@receiver.example.com/"}, ["url"], id="user in the url"),
        pytest.param({"url": "https://receiver.example.com/" + "a" * 2048}, ["url"], id="url too long"),
        pytest.param({"nonsense": 1}, ["nonsense"], id="unknown field"),
        pytest.param({"active": True}, ["active"], id="a field that is only read"),
        pytest.param({"legacy": "true"}, ["legacy"], id="text for a flag"),
        pytest.param({"legacy": 1}, ["legacy"], id="number for a flag"),
        pytest.param({"destinationType": "queue"}, ["destinationType"], id="queue"),
        pytest.param({"activeFrom": "2026-03-01T00:00:00"}, ["activeFrom"], id="instant without offset"),
        pytest.param({"activeFrom": "0001-01-01T00:00:00+14:00"}, ["activeFrom"], id="before the year 1 in UTC"),
        pytest.param({"activeFrom": 1767225600}, ["activeFrom"], id="instant as a number"),
        pytest.param({"name": ""}, ["name"], id="empty name"),
        pytest.param({"name": "n" * 256}, ["name"], id="long name"),
        pytest.param({"rateLimitPerSecond": 0}, ["rateLimitPerSecond"], id="rate of nothing"),
        pytest.param({"rateLimitPerSecond": 1.5}, ["rateLimitPerSecond"], id="broken rate"),
        pytest.param({"maxConcurrency": 1001}, ["maxConcurrency"], id="too many at once"),
        pytest.param({"timeoutSeconds": 0}, ["timeoutSeconds"], id="no time"),
        pytest.param({"timeoutSeconds": 31}, ["timeoutSeconds"], id="too much time"),
        pytest.param({"retrySchedule": [5, 0]}, ["retrySchedule.1"], id="no delay"),
        pytest.param({"retrySchedule": [1] * 51}, ["retrySchedule"], id="too many retries"),
        pytest.param({"headers": [{"headerName": "X"}]}, ["headers.0.headerValue"], id="header without value"),
        pytest.param(
            {"headers": [header("A", "1"), header("B C", "1")]},
            ["headers.1.headerName"],
            id="space in a header name",
        ),
        pytest.param({"headers": [header("A", "1")] * 21}, ["headers"], id="21 headers"),
        pytest.param({"headers": {"A": "1"}}, ["headers"], id="headers as an object"),
        pytest.param({"headerName": "A"}, ["headerValue"], id="single header without value"),
        pytest.param({"headerValue": "1"}, ["headerName"], id="single header without name"),
        pytest.param({"url": "ftp://x/", "legacy": 1, "nonsense": 1}, ["legacy", "nonsense"], id="several at once"),
    ],
)
async def test_a_refused_subscription_says_where(shop: Shop, fields: dict[str, Any], expected: list[str]) -> None:
    assert sorted(paths(await shop.create(**fields))) == sorted(expected)


async def test_what_the_rules_refuse_is_said_all_at_once(shop: Shop) -> None:
    response = await shop.create(eventName="RewardCreated", url="ftp://x/", legacy=True, headerName="A")
    assert sorted(paths(response)) == ["headerValue", "legacy", "url"]


async def test_an_unknown_event_is_told_the_nearest_name(shop: Shop) -> None:
    response = await shop.create(eventName="CustomerRegisterd")
    assert "did you mean CustomerRegistered?" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"[]", "", id="an array"),
        pytest.param(b"{}", "webhookSubscription", id="no wrapper"),
        pytest.param(b'{"webhookSubscription":[]}', "", id="an array in the wrapper"),
        pytest.param(b'{"webhookSubscription":{"url":NaN}}', "url", id="NaN"),
        pytest.param(b'{"webhookSubscription":{"url":"a","url":"b"}}', "url", id="a key twice"),
        pytest.param(b'{"webhookSubscription":{"name":"\\u0000"}}', "name", id="NUL"),
        pytest.param(b'{"webhookSubscription":{"name":"\\ud800"}}', "name", id="a lone surrogate"),
        pytest.param(b"\xff", "", id="not UTF-8"),
        pytest.param(b"[" * 4_000, "", id="absurd nesting"),
    ],
)
async def test_what_is_no_json_of_ours_is_a_400(shop: Shop, raw: bytes, path: str) -> None:
    assert paths(await shop.client.post(shop.path(), content=raw)) == [path]


async def test_unknown_fields_beside_the_wrapper_are_refused(shop: Shop) -> None:
    assert paths(await shop.client.post(shop.path(), json={"webhookSubscription": {}, "more": 1})) == ["more"]


async def test_a_body_beyond_the_limit_is_a_413(shop: Shop) -> None:
    response = await shop.client.post(shop.path(), content=b" " * (128 * 1024 + 1))
    assert (response.status_code, response.json()["code"]) == (413, 413)


async def test_an_update_changes_what_is_given_and_leaves_the_rest(shop: Shop) -> None:
    subscription_id = await shop.created(name="before", ordered=True, legacy=True, maxConcurrency=4)
    before = await shop.details(subscription_id)
    response = await shop.update(subscription_id, url="https://receiver.example.com/new", name="after")
    assert (response.status_code, response.content) == (204, b"")
    assert await shop.details(subscription_id) == {
        **before,
        "url": "https://receiver.example.com/new",
        "name": "after",
    }


async def test_null_gives_the_installations_value_back(shop: Shop) -> None:
    own = {"maxConcurrency": 4, "retrySchedule": [1], "rateLimitPerSecond": 2, "timeoutSeconds": 3}
    subscription_id = await shop.created(name="n", **own)
    nothing = dict.fromkeys(["name", *own])
    assert (await shop.update(subscription_id, **nothing)).status_code == 204
    found = await shop.details(subscription_id)
    assert (found["name"], found["maxConcurrency"], found["rateLimitPerSecond"]) == (None, 50, None)
    assert (len(found["retrySchedule"]), found["timeoutSeconds"]) == (9, 15)


async def test_the_event_cannot_change_but_may_be_repeated(shop: Shop) -> None:
    subscription_id = await shop.created()
    assert (await shop.update(subscription_id, eventName="CustomerRegistered")).status_code == 204
    assert paths(await shop.update(subscription_id, eventName="CustomerUpdated")) == ["eventName"]


async def test_an_update_needs_the_url(shop: Shop) -> None:
    subscription_id = await shop.created()
    response = await shop.client.put(shop.path(subscription_id), json={"webhookSubscription": {"name": "n"}})
    assert paths(response) == ["url"]


async def test_legacy_is_refused_for_events_without_a_legacy_form(shop: Shop) -> None:
    assert paths(await shop.create(eventName="RewardCreated", legacy=True)) == ["legacy"]
    subscription_id = await shop.created(eventName="RewardCreated")
    assert paths(await shop.update(subscription_id, legacy=True)) == ["legacy"]


async def test_a_deleted_subscription_is_gone_and_its_secrets_with_it(shop: Shop) -> None:
    subscription_id = await shop.created(hmacEnabled=True, headers=[header("A", "1")])
    response = await shop.client.delete(shop.path(subscription_id))
    assert (response.status_code, response.content) == (204, b"")
    assert (await shop.client.get(shop.path(subscription_id))).status_code == 404
    assert (await shop.client.delete(shop.path(subscription_id))).status_code == 404
    assert (await shop.client.get(shop.path())).json()["total"] == {"all": 0, "filtered": 0}
    row = await shop.row(subscription_id)
    assert (row["sealed_headers"], row["sealed_secret"]) == (None, None)


@pytest.mark.parametrize(
    "subscription_id",
    [
        "6f9619ff-8b86-4011-b42d-00c04fc964ff",
        "nonsense",
        "%00",
        "1",
        "{}",
        "6f9619ff8b864011b42d00c04fc964ff",
    ],
)
async def test_an_unknown_id_is_a_404_before_the_body_is_looked_at(shop: Shop, subscription_id: str) -> None:
    path = shop.path(subscription_id)
    answers = [
        await shop.client.get(path),
        await shop.client.put(path, content=b"nonsense"),
        await shop.client.delete(path),
        await shop.client.post(f"{path}/rotate-hmac-secret"),
    ]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (404, {"code": 404, "message": "Not Found"})
    ] * 4


async def test_a_signing_key_is_shown_once(shop: Shop) -> None:
    response = await shop.create(hmacEnabled=True)
    secret = response.json()["hmacSecret"]
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    subscription_id = response.json()["webhookSubscriptionId"]
    assert secret not in (await shop.client.get(shop.path(subscription_id))).text
    assert (await shop.details(subscription_id))["hmacEnabled"] is True
    assert secret not in str(await shop.audit())
    assert secret.encode() not in (await shop.row(subscription_id))["sealed_secret"]


async def test_rotation_gives_a_new_key_and_keeps_the_one_before_for_24_hours(shop: Shop) -> None:
    response = await shop.create(hmacEnabled=True)
    first, subscription_id = response.json()["hmacSecret"], response.json()["webhookSubscriptionId"]
    rotated = await shop.client.post(shop.path(subscription_id, "rotate-hmac-secret"))
    assert rotated.status_code == 200
    assert set(rotated.json()) == {"hmacSecret", "signatureVersion", "sharedWith"}
    assert (rotated.json()["signatureVersion"], rotated.json()["sharedWith"]) == (2, [])
    assert rotated.json()["hmacSecret"] != first
    row = await shop.row(subscription_id)
    sealer = shop.installation.app.state.resources.sealer
    assert sealer.open(row["sealed_previous_secret"]) == first
    assert sealer.open(row["sealed_secret"]) == rotated.json()["hmacSecret"]
    assert row["previous_secret_until"] - row["updated_at"] == pytest.approx(
        timedelta(hours=24), abs=timedelta(seconds=1)
    )


async def test_rotation_without_signing_is_a_409(shop: Shop) -> None:
    response = await shop.client.post(shop.path(await shop.created(), "rotate-hmac-secret"))
    assert response.status_code == 409
    assert "hmacEnabled" in response.json()["message"]


async def test_signing_is_switched_on_and_off_by_an_update(shop: Shop) -> None:
    subscription_id = await shop.created()
    switched_on = await shop.update(subscription_id, hmacEnabled=True)
    assert (switched_on.status_code, set(switched_on.json())) == (200, {"hmacSecret"})
    assert (await shop.update(subscription_id, hmacEnabled=True)).status_code == 204
    assert (await shop.update(subscription_id, hmacEnabled=False)).status_code == 204
    row = await shop.row(subscription_id)
    assert (row["sealed_secret"], row["hmac_enabled"]) == (None, False)
    again = await shop.update(subscription_id, hmacEnabled=True)
    assert again.json()["hmacSecret"] != switched_on.json()["hmacSecret"]
    assert (await shop.row(subscription_id))["signature_version"] == 2


async def test_a_name_that_stands_for_a_blocked_address_is_refused(shop: Shop) -> None:
    shop.installation.names.addresses["inside.example.com"] = ["93.184.216.34", "10.0.0.1"]
    response = await shop.create(url="https://inside.example.com/")
    assert paths(response) == ["url"]
    assert response.json()["errors"][0]["code"] == "blocked_address"


async def test_a_name_that_does_not_resolve_is_accepted_and_its_details_warn_until_it_does(shop: Shop) -> None:
    response = await shop.create(url="https://moving.example.com/")
    assert response.status_code == 200
    assert "Warning" not in response.headers
    subscription_id = response.json()["webhookSubscriptionId"]
    assert (await shop.details(subscription_id))["urlWarning"] == "moving.example.com does not resolve"
    shop.installation.names.addresses["moving.example.com"] = ["10.0.0.1"]
    assert "an address that is not allowed" in (await shop.details(subscription_id))["urlWarning"]
    shop.installation.names.addresses["moving.example.com"] = ["93.184.216.34"]
    assert (await shop.details(subscription_id))["urlWarning"] is None


async def test_a_slow_name_service_is_no_fault_of_the_url(shared_database: str) -> None:
    async def never(hostname: str) -> list[Any]:
        await asyncio.Event().wait()
        return []

    async with installation(shared_database, lookup=never) as installed:
        shop = await installed.shop()
        warning = (await shop.details(await shop.created()))["urlWarning"]
    assert "not resolved within" in warning


async def test_no_name_is_looked_up_that_the_egress_proxy_resolves(shared_database: str) -> None:
    proxied: dict[str, Any] = {"egress_proxy_url": SecretStr("http://127.0.0.1:1"), "egress_proxy_resolves": True}
    async with installation(shared_database, egress_no_proxy=("direct.example.com",), **proxied) as installed:
        shop = await installed.shop()
        installed.names.addresses["private.example.com"] = ["10.0.0.1"]
        served = await shop.created(url="https://private.example.com/")
        assert (await shop.details(served))["urlWarning"] is None
        direct = await shop.created(url="https://direct.example.com/")
        assert (await shop.details(direct))["urlWarning"] == "direct.example.com does not resolve"


async def test_a_list_stays_within_its_store(shop: Shop) -> None:
    subscription_id = await shop.created()
    other = await shop.installation.shop()
    assert await other.list() == {"items": [], "total": {"all": 0, "filtered": 0}}
    assert (await other.client.get(other.path(subscription_id))).status_code == 404


async def test_the_same_idempotency_key_creates_one_subscription(shop: Shop) -> None:
    body = {"webhookSubscription": {"eventName": "CustomerRegistered", "url": RECEIVER, "hmacEnabled": True}}
    headers = {"Idempotency-Key": "k-1"}
    answers = await asyncio.gather(*(shop.client.post(shop.path(), json=body, headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert (await shop.list())["total"]["all"] == 1
    other = {"webhookSubscription": {**body["webhookSubscription"], "hmacEnabled": False}}
    assert (await shop.client.post(shop.path(), json=other, headers=headers)).status_code == 409
    assert (await shop.client.post(shop.path(), json=other, headers={"Idempotency-Key": "k-2"})).status_code == 200
    assert (await shop.list())["total"]["all"] == 2


async def test_an_idempotency_key_compares_what_a_body_means(shop: Shop) -> None:
    """Generated clients write defaults, or omit them; a repeat may come from another client."""
    body = {"eventName": "CustomerRegistered", "url": RECEIVER, "activeFrom": "2030-01-01T00:00:00Z"}
    own = {"headerName": "X-Own", "headerValue": "1"}
    spellings = [
        {**body, **own},
        {**body, "headers": [own]},
        {**body, **own, "headers": [own], "legacy": False, "ordered": False, "name": None, "retrySchedule": None},
        {**body, **own, "url": RECEIVER.replace("https://", "HTTPS://").replace(".example", ".EXAMPLE")},
        {**body, **own, "activeFrom": "2030-01-01T01:00:00+01:00"},
    ]
    others = [body, {**body, **own, "ordered": True}, {**body, **own, "url": f"{RECEIVER}/other"}]

    async def created(subscription: dict[str, Any]) -> Response:
        headers = {"Idempotency-Key": "k"}
        return await shop.client.post(shop.path(), json={"webhookSubscription": subscription}, headers=headers)

    answers = [await created(subscription) for subscription in spellings]
    assert [answer.status_code for answer in answers] == [200] * len(spellings)
    assert len({answer.text for answer in answers}) == 1
    assert [(await created(subscription)).status_code for subscription in others] == [409] * len(others)
    assert (await shop.list())["total"]["all"] == 1


async def test_a_repeat_after_an_upgrade_that_adds_a_field_is_no_conflict(shop: Shop) -> None:
    class OfLaterVersion(SubscriptionCreate):
        added: int = 7

    async def claimed(model: type[SubscriptionCreate], object_id: UUID, **more: int) -> UUID | None:
        body = model.model_validate({"eventName": "CustomerRegistered", "url": RECEIVER, "maxConcurrency": 50, **more})
        async with shop.installation.database.transaction() as connection:
            claim = {"store_code": shop.store, "actor": "access_key:1", "key": "k"}
            return await created_before(connection, **claim, bodies=[body], object_id=object_id)

    first = uuid4()
    assert await claimed(SubscriptionCreate, first) is None
    assert await claimed(OfLaterVersion, uuid4()) == first
    assert await claimed(OfLaterVersion, uuid4(), added=7) == first
    with pytest.raises(Conflict):
        await claimed(OfLaterVersion, uuid4(), added=8)


@pytest.mark.parametrize("key", ["", "k" * 256, "k k", "k\tk"])
async def test_an_idempotency_key_is_visible_ascii(shop: Shop, key: str) -> None:
    body = {"webhookSubscription": {"eventName": "CustomerRegistered", "url": RECEIVER}}
    assert paths(await shop.client.post(shop.path(), json=body, headers={"Idempotency-Key": key})) == [
        "Idempotency-Key"
    ]


async def test_limits_hold_however_many_create_at_once(shared_database: str) -> None:
    async with installation(shared_database, subscriptions_per_store=5, subscriptions_per_event=3) as installed:
        shop = await installed.shop()
        answers = await asyncio.gather(*(shop.create() for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [400] * 5
        refused = next(answer for answer in answers if answer.status_code == 400)
        assert paths(refused) == ["eventName"]
        events = ["CustomerUpdated", "CustomerDeactivated", "RewardCreated", "RewardUpdated"]
        answers = await asyncio.gather(*(shop.create(eventName=event) for event in events))
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [400] * 2
        assert {path for answer in answers if answer.status_code == 400 for path in paths(answer)} == {""}


async def test_deleting_makes_room(shared_database: str) -> None:
    async with installation(shared_database, subscriptions_per_event=1) as installed:
        shop = await installed.shop()
        subscription_id = await shop.created()
        assert (await shop.create()).status_code == 400
        await shop.client.delete(shop.path(subscription_id))
        assert (await shop.create()).status_code == 200


async def test_every_change_leaves_a_line_in_the_audit(shop: Shop) -> None:
    subscription_id = await shop.created(hmacEnabled=True, headers=[header("A", "1")])
    await shop.update(subscription_id, name="n", headers=[header("A", "2")])
    await shop.client.post(shop.path(subscription_id, "rotate-hmac-secret"))
    await shop.client.delete(shop.path(subscription_id))
    lines = await shop.audit()
    assert [line["action"] for line in lines] == ["create", "update", "rotate_hmac_secret", "delete"]
    assert {(line["store_code"], line["actor"], line["object_id"]) for line in lines} == {
        (shop.store, "api_key:test", subscription_id)
    }
    assert lines[1]["changes"] == {
        "name": {"before": None, "after": "n"},
        "headers": {"before": ["A: •••"], "after": ["A: ••• (new)"]},
    }
    assert lines[2]["changes"] == {"signature_version": {"before": 1, "after": 2}}


async def test_what_is_refused_leaves_none(shop: Shop) -> None:
    await shop.create(url="ftp://x/")
    reader = await shop.installation.with_key(Scope.SUBSCRIPTION_READ)
    assert (await shop.create(reader)).status_code == 403
    assert await shop.audit() == []
