"""All subscriptions of a store at once: what is wanted comes about whole or not at all; only what differs is done."""

import asyncio
from typing import Any

import httpx
import pytest

from api.subscription_sets.models import SubscriptionEntry
from api.subscriptions.models import SubscriptionCreate
from domain.access import Scope
from tests.api.installation import RECEIVER, Installation, Shop, installation

MASK = "•••"


def header(name: str, value: str) -> dict[str, str]:
    return {"headerName": name, "headerValue": value}


def entry(name: str | None = "CRM", **fields: Any) -> dict[str, Any]:
    named = {} if name is None else {"name": name}
    return {"eventName": "CustomerRegistered", "url": RECEIVER, **named, **fields}


async def post(shop: Shop, *entries: dict[str, Any], client: httpx.AsyncClient | None = None, **options: Any) -> Any:
    body = {"subscriptionSet": {"subscriptions": list(entries), **options}}
    return await (client or shop.client).post(f"/api/{shop.store}/webhook/subscription-set", json=body)


async def applied(shop: Shop, *entries: dict[str, Any], **options: Any) -> dict[str, Any]:
    response = await post(shop, *entries, **options)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert answer["applied"] is not options.get("dryRun", False)
    return answer


async def stored(shop: Shop) -> list[dict[str, Any]]:
    response = await shop.client.get(f"/api/{shop.store}/webhook/subscription-set")
    assert response.status_code == 200, response.text
    subscriptions: list[dict[str, Any]] = response.json()["subscriptions"]
    return subscriptions


def done(answer: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(change["action"], change["eventName"], change["name"]) for change in answer["changes"]]


def problems(response: httpx.Response) -> list[tuple[str, str]]:
    assert response.status_code == 400, response.text
    return [(error["path"], error["code"]) for error in response.json()["errors"]]


def test_an_entry_has_every_field_a_subscription_is_created_with() -> None:
    deprecated = {"header_name", "header_value", "destination_type"}
    assert (
        SubscriptionEntry.model_fields.keys() - {"webhook_subscription_id"}
        == SubscriptionCreate.model_fields.keys() - deprecated
    )


async def test_what_is_not_there_is_created(shop: Shop) -> None:
    whole = entry(
        legacy=True,
        headers=[header("Authorization", "Bearer s3cret")],
        hmacEnabled=True,
        activeFrom="2026-03-01T01:30:00.5+02:00",
        rateLimitPerSecond=7,
        maxConcurrency=3,
        timeoutSeconds=30,
        ordered=True,
        orderKey="customer",
        afterExhausted="hold",
        retrySchedule=[1, 2],
    )
    answer = await applied(shop, whole, entry("Mail", eventName="CustomerUpdated"))
    assert done(answer) == [("create", "CustomerRegistered", "CRM"), ("create", "CustomerUpdated", "Mail")]
    [created, plain] = answer["changes"]
    assert created["hmacSecret"].startswith("whsec_")
    assert plain["hmacSecret"] is None
    assert {change["field"]: (change["before"], change["after"]) for change in created["changes"]} == {
        "url": (None, RECEIVER),
        "name": (None, "CRM"),
        "legacy": (False, True),
        "hmacEnabled": (False, True),
        "activeFrom": (None, "2026-02-28T23:30:00.500000Z"),
        "rateLimitPerSecond": (None, 7),
        "maxConcurrency": (None, 3),
        "timeoutSeconds": (None, 30),
        "ordered": (False, True),
        "orderKey": ("subscription", "customer"),
        "afterExhausted": ("skip", "hold"),
        "retrySchedule": (None, [1, 2]),
        "headers": ([], ["Authorization: ••• (new)"]),
    }
    assert await shop.stored_headers(created["webhookSubscriptionId"]) == [("Authorization", "Bearer s3cret")]
    [read, _] = await stored(shop)
    assert read == {
        **whole,
        "webhookSubscriptionId": created["webhookSubscriptionId"],
        "activeFrom": "2026-02-28T23:30:00.500000Z",
        "headers": [header("Authorization", MASK)],
        "authentication": None,
    }


async def test_the_same_again_does_nothing(shop: Shop) -> None:
    wanted = entry(headers=[header("A", "1")], hmacEnabled=True, retrySchedule=[], activeFrom="2026-03-01T00:00:00Z")
    await applied(shop, wanted)
    before = await shop.installation.execute("SELECT * FROM subscription WHERE store_code = :s", s=shop.store)
    lines = len(await shop.audit())
    again = await applied(shop, wanted)
    assert (again["changes"], again["unchanged"]) == ([], 1)
    assert await shop.installation.execute("SELECT * FROM subscription WHERE store_code = :s", s=shop.store) == before
    assert len(await shop.audit()) == lines


async def test_what_is_read_and_sent_back_changes_nothing(shop: Shop) -> None:
    await shop.created(hmacEnabled=True, headers=[header("A", "1"), header("a", "2")], maxConcurrency=2)
    await shop.created()
    await shop.created(name="CRM", eventName="RewardCreated", retrySchedule=[5])
    answer = await applied(shop, *(await stored(shop)), prune=True)
    assert (answer["changes"], answer["unchanged"], answer["others"]) == ([], 3, [])


async def test_only_what_differs_is_changed_and_what_is_left_out_is_the_default(shop: Shop) -> None:
    subscription_id = await shop.created(name="CRM", ordered=True, maxConcurrency=3, headers=[header("A", "1")])
    new = "https://receiver.example.com/new"
    answer = await applied(shop, entry(ordered=True, url=new, headers=[header("A", MASK)]))
    [change] = answer["changes"]
    assert (change["action"], change["webhookSubscriptionId"], change["loses"]) == ("update", subscription_id, [])
    assert change["changes"] == [
        {"field": "url", "before": RECEIVER, "after": new},
        {"field": "maxConcurrency", "before": 3, "after": None},
    ]
    assert await shop.stored_headers(subscription_id) == [("A", "1")]
    assert (await shop.details(subscription_id))["maxConcurrency"] == 50


async def test_a_header_value_that_is_the_stored_one_is_no_change_and_another_is(shop: Shop) -> None:
    subscription_id = await shop.created(name="CRM", headers=[header("A", "1"), header("B", "2")])
    same = await applied(shop, entry(headers=[header("A", "1"), header("B", MASK)]))
    assert same["changes"] == []
    other = await applied(shop, entry(headers=[header("A", "new"), header("B", MASK)]))
    assert other["changes"][0]["changes"] == [
        {"field": "headers", "before": ["A: •••", "B: •••"], "after": ["A: ••• (new)", "B: •••"]}
    ]
    assert await shop.stored_headers(subscription_id) == [("A", "new"), ("B", "2")]
    assert "new" not in (await shop.audit())[-1]["changes"]["headers"]["after"][1]


async def test_a_dry_run_tells_the_same_and_does_nothing(shop: Shop) -> None:
    await shop.created(name="CRM")
    await shop.created(name="Old")
    lines = len(await shop.audit())
    wanted = (entry(ordered=True), entry("New", hmacEnabled=True))
    before = await stored(shop)
    dry = await applied(shop, *wanted, prune=True, dryRun=True)
    assert await stored(shop) == before
    assert len(await shop.audit()) == lines
    real = await applied(shop, *wanted, prune=True)
    assert dry["plan"] == real["plan"]
    assert (
        done(dry)
        == done(real)
        == [
            ("update", "CustomerRegistered", "CRM"),
            ("create", "CustomerRegistered", "New"),
            ("delete", "CustomerRegistered", "Old"),
        ]
    )
    assert (dry["changes"][1]["webhookSubscriptionId"], dry["changes"][1]["hmacSecret"]) == (None, None)
    assert [line["action"] for line in (await shop.audit())[lines:]] == ["delete", "update", "create"]
    assert {line["actor"] for line in await shop.audit()} == {"api_key:test"}


async def test_what_is_not_among_them_stays_unless_they_are_pruned(shop: Shop) -> None:
    other = await shop.created(name="Other", headers=[header("A", "1")])
    answer = await applied(shop, entry())
    assert answer["others"] == [
        {
            "webhookSubscriptionId": other,
            "eventName": "CustomerRegistered",
            "name": "Other",
            "url": RECEIVER,
        }
    ]
    pruned = await applied(shop, entry(), prune=True)
    assert (done(pruned), pruned["others"]) == ([("delete", "CustomerRegistered", "Other")], [])
    assert pruned["changes"][0]["loses"]
    assert (await shop.row(other))["sealed_headers"] is None
    assert [row["name"] for row in await stored(shop)] == ["CRM"]


async def test_it_says_what_cannot_be_brought_back(shop: Shop) -> None:
    await shop.created(name="CRM", hmacEnabled=True, headers=[header("A", "1"), header("B", "2")])
    answer = await applied(shop, entry(headers=[header("b", MASK)]))
    assert answer["changes"][0]["loses"] == ["the value of header A", "the signing key"]


async def test_an_id_tells_which_is_renamed(shop: Shop) -> None:
    subscription_id = await shop.created(name="before")
    answer = await applied(shop, entry("after", webhookSubscriptionId=subscription_id.upper()), entry("before"))
    assert done(answer) == [("update", "CustomerRegistered", "after"), ("create", "CustomerRegistered", "before")]
    assert answer["changes"][0]["webhookSubscriptionId"] == subscription_id


async def test_two_of_one_name_are_told_apart_by_their_ids(shop: Shop) -> None:
    first, second = await shop.created(name="CRM"), await shop.created(name="CRM")
    response = await post(shop, entry())
    assert problems(response) == [("subscriptions.0.name", "ambiguous")]
    assert first in response.text
    assert second in response.text
    answer = await applied(
        shop, entry(webhookSubscriptionId=first), entry(webhookSubscriptionId=second, ordered=True), prune=True
    )
    assert [change["webhookSubscriptionId"] for change in answer["changes"]] == [second]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([entry(None)], [("subscriptions.0.name", "missing")], id="neither name nor id"),
        pytest.param(
            [entry(), entry(ordered=True)],
            [("subscriptions.0.name", "repeated"), ("subscriptions.1.name", "repeated")],
            id="a name twice",
        ),
        pytest.param(
            [entry(webhookSubscriptionId="6f9619ff-8b86-4011-b42d-00c04fc964ff")],
            [("subscriptions.0.webhookSubscriptionId", "not_found")],
            id="an id that is not there",
        ),
        pytest.param(
            [entry(webhookSubscriptionId="7")],
            [("subscriptions.0.webhookSubscriptionId", "uuid")],
            id="no id at all",
        ),
        pytest.param(
            [entry(), entry("B", url="https://10.0.0.1/", eventName="RewardCreated", legacy=True), entry("C", url="x")],
            [
                ("subscriptions.1.legacy", "no_legacy_form"),
                ("subscriptions.1.url", "blocked_address"),
                ("subscriptions.2.url", "syntax"),
            ],
            id="what the rules refuse, of all entries",
        ),
        pytest.param(
            [entry(headers=[header("A", MASK)]), entry("B", headers=[header("X", "1"), header("Y", MASK)])],
            [
                ("subscriptions.0.headers.0.headerValue", "masked_value"),
                ("subscriptions.1.headers.1.headerValue", "masked_value"),
            ],
            id="a mask with nothing behind it",
        ),
        pytest.param(
            [entry(headers=[header("Host", "1")], nonsense=1)],
            [("subscriptions.0.headers.0.headerName", "header_name"), ("subscriptions.0.nonsense", "extra_forbidden")],
            id="what every subscription is refused for",
        ),
        pytest.param(
            [entry(headerName="A", headerValue="1")],
            [("subscriptions.0.headerName", "extra_forbidden"), ("subscriptions.0.headerValue", "extra_forbidden")],
            id="the deprecated header",
        ),
    ],
)
async def test_it_is_refused_with_the_path_and_nothing_is_done(
    shop: Shop, entries: list[dict[str, Any]], expected: list[tuple[str, str]]
) -> None:
    assert problems(await post(shop, *entries)) == expected
    assert await stored(shop) == []
    assert await shop.audit() == []


async def test_the_same_id_twice_is_refused(shop: Shop) -> None:
    subscription_id = await shop.created()
    response = await post(
        shop, entry(webhookSubscriptionId=subscription_id), entry("B", webhookSubscriptionId=subscription_id.upper())
    )
    assert problems(response) == [("subscriptions.1.webhookSubscriptionId", "repeated")]


async def test_the_event_of_an_id_cannot_change(shop: Shop) -> None:
    subscription_id = await shop.created()
    response = await post(shop, entry(webhookSubscriptionId=subscription_id, eventName="CustomerUpdated"))
    assert problems(response) == [("subscriptions.0.eventName", "unchangeable")]


async def test_a_subscription_of_another_store_is_out_of_reach(installed: Installation, shop: Shop) -> None:
    other = await installed.shop()
    subscription_id = await other.created(name="CRM")
    response = await post(shop, entry(webhookSubscriptionId=subscription_id))
    assert problems(response) == [("subscriptions.0.webhookSubscriptionId", "not_found")]
    assert done(await applied(shop, entry(), prune=True)) == [("create", "CustomerRegistered", "CRM")]
    assert [row["webhookSubscriptionId"] for row in await stored(other)] == [subscription_id]


async def test_a_limit_undoes_everything_and_deletions_make_room(shared_database: str) -> None:
    async with installation(shared_database, subscriptions_per_store=3, subscriptions_per_event=2) as installed:
        shop = await installed.shop()
        await applied(shop, entry("A"), entry("B"))
        refused = await post(shop, entry("A", ordered=True), entry("C"), entry("D", eventName="CustomerUpdated"))
        assert problems(refused) == [("subscriptions.1.eventName", "limit_reached")]
        assert [row["ordered"] for row in await stored(shop)] == [False, False]
        assert done(await applied(shop, entry("C"), entry("D"), prune=True)) == [
            ("create", "CustomerRegistered", "C"),
            ("create", "CustomerRegistered", "D"),
            ("delete", "CustomerRegistered", "A"),
            ("delete", "CustomerRegistered", "B"),
        ]
        full = await post(
            shop, entry("C"), entry("D"), entry("E", eventName="CustomerUpdated"), entry("F", eventName="RewardCreated")
        )
        assert problems(full) == [("subscriptions.3", "limit_reached")]


async def test_what_was_agreed_to_is_done_or_nothing(shop: Shop) -> None:
    await shop.created(name="CRM")
    agreed = (await applied(shop, entry(ordered=True), dryRun=True))["plan"]
    subscription_id = await shop.created(name="Late")
    await applied(shop, entry(ordered=True), expectedPlan=agreed, dryRun=True)
    assert (await applied(shop, entry(ordered=True), expectedPlan=agreed))["plan"] == agreed  # nothing of it changed
    agreed = (await applied(shop, entry(), prune=True, dryRun=True))["plan"]
    await shop.update(subscription_id, name="Renamed")
    response = await post(shop, entry(), prune=True, expectedPlan=agreed)
    assert response.status_code == 409
    assert "meanwhile" in response.json()["message"]
    assert len(await stored(shop)) == 2


async def test_several_at_once_bring_about_one_of_each(shop: Shop) -> None:
    wanted = [entry(name, eventName=event) for name in ("A", "B") for event in ("CustomerUpdated", "RewardCreated")]
    answers = await asyncio.gather(
        *(applied(shop, *wanted) for _ in range(4)), *(shop.create(name="C") for _ in range(2))
    )
    assert sorted(len(answer["changes"]) for answer in answers[:4]) == [0, 0, 0, 4]
    assert len(await stored(shop)) == 6


async def test_a_name_that_does_not_resolve_is_a_warning(shop: Shop) -> None:
    answer = await applied(shop, entry(url="https://unknown.example.com/"))
    assert answer["changes"][0]["warning"] == "unknown.example.com does not resolve"


async def test_a_refusal_repeats_no_header_value(shop: Shop) -> None:
    response = await post(shop, entry(headers=[header("A", "s3cret\n")]))
    assert problems(response) == [("subscriptions.0.headers.0.headerValue", "header_value")]
    assert "s3cret" not in response.text


async def test_reading_needs_the_right_to_read_and_comparing_the_right_to_write(
    installed: Installation, shop: Shop
) -> None:
    reader = await installed.with_key(Scope.SUBSCRIPTION_READ)
    assert (await reader.get(f"/api/{shop.store}/webhook/subscription-set")).status_code == 200
    assert (await post(shop, entry(), client=reader, dryRun=True)).status_code == 403


async def test_the_document_says_that_an_entry_has_a_name_or_an_id(installed: Installation) -> None:
    document = (await (await installed.caller()).get("/openapi.json")).json()
    schema = document["components"]["schemas"]["SubscriptionEntry"]
    assert [branch["required"] for branch in schema["anyOf"]] == [["name"], ["webhookSubscriptionId"]]
    assert "pattern" in schema["properties"]["url"]
