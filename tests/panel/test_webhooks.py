"""Settings → Webhooks without a browser: what stands in the pages, and what must never stand there."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from cryptography.fernet import Fernet
from markupsafe import escape

from api.errors import ValidationFailed
from api.panel.frame.forms import Form
from api.panel.texts import TEXTS
from api.panel.webhooks import read_webhook, shown_schedule
from domain.delivery.explain import ENDS, HELD_CODES
from domain.events.catalogue import CATALOGUE
from domain.wire.excerpts import MASK
from domain.wire.signing import SECRET_BYTES, format_secret
from storage.sealing import Sealer
from tests.api.installation import RECEIVER, Installation, Shop, header
from tests.panel.conftest import Visit
from tests.panel.logged import add_delivery, fail
from tests.panel.queries import statements
from tests.panel.visitor import PASSWORD, Visitor

SECRET = "Bearer 0123456789"
MARKUP = "<script>alert(1)</script>"
ZONE = ZoneInfo("America/New_York")
FIELDS = {"eventName": "CustomerUpdated", "url": RECEIVER, "hmacEnabled": "true"}
WITH_HEADER = {**FIELDS, "headers.0.headerName": "Authorization", "headers.0.headerValue": SECRET}


async def new_form(somebody: Visitor, shop: Shop) -> dict[str, str]:
    """The fields of the form of a new webhook which nobody sees."""
    page = await somebody.get(f"/admin/{shop.store}/webhooks/new")
    found = re.search(r'name="idempotencyKey" value="([^"]+)"', page.text)
    assert found is not None
    return {"idempotencyKey": found[1]}


async def test_a_form_that_is_sent_twice_makes_one_webhook_and_shows_its_key_again(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    fields = {**WITH_HEADER, **await new_form(somebody, shop)}
    keys = set()
    for _ in range(2):
        saved = await somebody.post(f"/admin/{shop.store}/webhooks/new", fields)
        assert saved.status_code == 200
        keys |= set(re.findall(r"whsec_[A-Za-z0-9+/=]+", saved.text))
    assert len(keys) == 1
    assert (await shop.list())["total"]["all"] == 1
    another = {**fields, "url": f"{RECEIVER}/other"}
    assert (await somebody.post(f"/admin/{shop.store}/webhooks/new", another)).status_code == 400


async def test_what_is_wrong_is_said_beside_its_field_and_no_value_of_a_header_comes_back(
    visit: Visit, shop: Shop
) -> None:
    somebody = await visit("editor")
    fields = {**WITH_HEADER, **await new_form(somebody, shop), "url": "ftp://receiver.example.com/", "name": MARKUP}
    refused = await somebody.post(f"/admin/{shop.store}/webhooks/new", fields)
    assert refused.status_code == 400
    assert 'id="error-url"' in refused.text
    assert SECRET not in refused.text
    assert 'value="Authorization"' in refused.text
    assert MARKUP not in refused.text
    assert (await shop.list())["total"]["all"] == 0


async def test_what_is_wrong_with_a_header_is_told_to_who_does_not_see_the_form(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    sent = {**FIELDS, "headers.0.headerName": "Host", "headers.0.headerValue": "x"}
    text = (await somebody.post(f"/admin/{shop.store}/webhooks/new", sent)).text
    for field in ("headers.0.headerName", "headers.0.headerValue"):
        assert f'aria-invalid="true" aria-describedby="error-{field}" name="{field}"' in text
        assert f'id="error-{field}"' in text


async def test_a_value_that_a_refused_form_cannot_show_is_asked_for_again(visit: Visit, shop: Shop) -> None:
    webhook_id = await shop.created(headers=[header("X-Till", "7")])
    somebody = await visit("editor")
    here = f"/admin/{shop.store}/webhooks/{webhook_id}/edit"
    await somebody.get(here)
    typed = {
        "headers.0.headerName": "X-Till",
        "headers.0.headerValue": MASK,
        "headers.1.headerName": "Authorization",
        "headers.1.headerValue": SECRET,
        "headers.2.headerName": "X-Nothing",
        "headers.2.headerValue": "",
    }
    refused = await somebody.post(here, {"url": "ftp://receiver.example.com/", **typed})
    assert re.findall(r'id="error-(headers[^"]+)">([^<:]+)', refused.text) == [
        ("headers.1.headerValue", "Enter it again")
    ]


async def test_the_page_of_a_disabled_webhook_says_in_words_who_disabled_it(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    viewer = await visit("viewer")
    webhook_id = await shop.created()
    disable = "UPDATE subscription SET status = 'disabled', status_reason = :reason WHERE id = CAST(:id AS uuid)"
    for reason, words in (
        ("disabled_by_receiver", "its receiver answered webhook-delivery: disable, since"),
        ("by administrator:admin", "by administrator:admin, since"),
    ):
        await installed.execute(disable + " RETURNING id", reason=reason, id=webhook_id)
        assert words in (await viewer.get(f"/admin/{shop.store}/webhooks/{webhook_id}")).text


async def test_a_timeout_is_set_shown_and_given_back_to_the_installation(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    webhook_id = await shop.created()
    here = f"/admin/{shop.store}/webhooks/{webhook_id}"
    for typed, kept, shown in (("7", 7, "7 s"), ("", 15, "15 s")):
        await somebody.get(f"{here}/edit")
        assert (await somebody.post(f"{here}/edit", {"url": RECEIVER, "timeoutSeconds": typed})).status_code == 303
        assert (await shop.details(webhook_id))["timeoutSeconds"] == kept
        assert f"<dt>Timeout</dt><dd>{shown}</dd>" in (await somebody.get(here)).text
        field = re.search(r'<input[^>]*name="timeoutSeconds"[^>]*>', (await somebody.get(f"{here}/edit")).text)
        assert field is not None
        assert (f'value="{typed}"' in field[0], 'placeholder="15"' in field[0]) == (True, True)


async def test_an_authentication_is_saved_shown_masked_and_kept(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    basic = {"authentication.type": "basic", "authentication.username": "till", "authentication.password": SECRET}
    refused = await somebody.post(f"/admin/{shop.store}/webhooks/new", {**FIELDS, **basic, "url": "ftp://a/"})
    assert 'id="error-authentication.password">Enter it again' in refused.text
    assert 'name="authentication.username" type="text" value="till"' in refused.text
    await somebody.post(f"/admin/{shop.store}/webhooks/new", {**FIELDS, **basic, "hmacEnabled": ""})
    [row] = (await shop.list())["items"]
    here = f"/admin/{shop.store}/webhooks/{row['webhookSubscriptionId']}"
    for page in (await somebody.get(here), await somebody.get(f"{here}/edit"), refused):
        assert SECRET not in page.text
    sealed = (await shop.row(row["webhookSubscriptionId"]))["sealed_authentication"]
    await somebody.post(f"{here}/edit", {**FIELDS, **basic, "authentication.password": MASK, "hmacEnabled": ""})
    assert "username: till" in (await somebody.get(here)).text
    sealer = shop.installation.app.state.resources.sealer
    assert SECRET in sealer.open((await shop.row(row["webhookSubscriptionId"]))["sealed_authentication"])
    two = {**WITH_HEADER, **basic, "hmacEnabled": ""}
    assert 'id="error-authentication.type"' in (await somebody.post(f"{here}/edit", two)).text
    await somebody.post(f"{here}/edit", {**FIELDS, "authentication.type": "", "hmacEnabled": ""})
    assert sealed is not None
    assert (await shop.details(row["webhookSubscriptionId"]))["authentication"] is None


@pytest.mark.parametrize("fold", [0, 1])
async def test_an_edit_of_something_else_leaves_the_instant_it_is_active_from(
    installed: Installation, visit: Visit, shop: Shop, fold: int
) -> None:
    await installed.execute("UPDATE store SET timezone = :zone WHERE code = :code", zone=ZONE.key, code=shop.store)
    twice = datetime(2026, 11, 1, 1, 30, 15, 250_000, ZONE, fold=fold).astimezone(UTC)
    webhook_id = await shop.created(activeFrom=twice.isoformat())
    stored = (await shop.details(webhook_id))["activeFrom"]
    somebody = await visit("editor")
    here = f"/admin/{shop.store}/webhooks/{webhook_id}/edit"
    shown = re.search(r'name="activeFrom"[^>]* value="([^"]+)"', (await somebody.get(here)).text)
    assert shown is not None
    assert shown[1] == "2026-11-01T01:30:15"
    fields = {"url": RECEIVER, "activeFrom": shown[1], "name": "Another name"}
    assert (await somebody.post(here, fields)).status_code == 303
    assert (await shop.details(webhook_id))["activeFrom"] == stored
    await somebody.post(here, {**fields, "activeFrom": "2026-12-01T08:00"})
    assert (await shop.details(webhook_id))["activeFrom"].startswith("2026-12-01T13:00:00")


async def test_no_secret_and_no_markup_of_others_stands_in_any_page(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    somebody = await visit("editor")
    made = await somebody.post(
        f"/admin/{shop.store}/webhooks/new", {**WITH_HEADER, "name": MARKUP, **await new_form(somebody, shop)}
    )
    [key] = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", made.text))
    [webhook] = (await shop.list())["items"]
    here = f"/admin/{shop.store}/webhooks/{webhook['webhookSubscriptionId']}"
    for path in (f"/admin/{shop.store}/webhooks", here, f"{here}/edit"):
        page = await somebody.get(path)
        assert page.status_code == 200
        for hidden in (SECRET, key, MARKUP):
            assert hidden not in page.text, path
        assert "&lt;script&gt;" in page.text
    rotated = await somebody.post(f"{here}/rotate")
    assert len(set(re.findall(r"whsec_[A-Za-z0-9+/=]+", rotated.text)) - {key}) == 1


async def test_an_edit_keeps_the_values_whose_mask_is_left_and_audits_no_secret(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    webhook_id = await shop.created(headers=[header("Authorization", SECRET), header("X-Till", "7")])
    somebody = await visit("editor")
    here = f"/admin/{shop.store}/webhooks/{webhook_id}"
    await somebody.get(f"{here}/edit")
    fields = {
        "url": RECEIVER,
        "headers.0.headerName": "Authorization",
        "headers.0.headerValue": MASK,
        "headers.5.headerName": "X-New",
        "headers.5.headerValue": "another secret",
    }
    assert (await somebody.post(f"{here}/edit", fields)).status_code == 303
    assert [one["headerName"] for one in (await shop.details(webhook_id))["headers"]] == ["Authorization", "X-New"]
    audited = await installed.execute("SELECT changes::text FROM audit WHERE object_id = :id", id=webhook_id)
    assert "another secret" not in str(audited)
    assert SECRET not in str(audited)
    wrong = {**fields, "headers.5.headerName": "Host"}
    refused = await somebody.post(f"{here}/edit", wrong)
    assert 'id="error-headers.5.headerName"' in refused.text


async def test_the_check_says_what_the_api_would_say_and_stores_nothing(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    await somebody.get(f"/admin/{shop.store}/webhooks/new")
    path = f"/admin/{shop.store}/webhooks/check"
    wrong = {
        "eventName": "CustomerUpdatd",
        "url": "https://10.0.0.1/",
        "retrySchedule": "5s, soon",
        "maxConcurrency": "x",
        "timeoutSeconds": "31",
    }
    said = (await somebody.post(path, wrong)).json()
    assert set(said["errors"]) == {"eventName", "url", "retrySchedule", "maxConcurrency", "timeoutSeconds"}
    assert "did you mean CustomerUpdated?" in said["errors"]["eventName"]
    right = (await somebody.post(path, {**FIELDS, "url": "https://unknown.example.com/"})).json()
    assert right == {"errors": {}, "warning": "unknown.example.com does not resolve"}
    assert (await shop.list())["total"]["all"] == 0


async def test_the_page_of_a_webhook_warns_of_a_name_that_does_not_resolve(visit: Visit, shop: Shop) -> None:
    viewer = await visit("viewer")
    for url, warned in (("https://unknown.example.com/", True), (RECEIVER, False)):
        page = await viewer.get(f"/admin/{shop.store}/webhooks/{await shop.created(url=url)}")
        assert ("Check its URL: unknown.example.com does not resolve." in page.text) == warned


async def test_a_list_of_many_webhooks_asks_the_database_no_more_than_one_of_few(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    somebody = await visit("viewer")
    rows, counts = [], []
    for _ in range(2):
        for _ in range(10):
            await shop.created(name="One of many")
        with statements(installed) as queries:
            page = await somebody.get(f"/admin/{shop.store}/webhooks?_itemsOnPage=50")
        rows.append(page.text.count("One of many"))
        counts.append(len(queries))
    assert rows == [10, 20]
    assert counts[0] == counts[1] <= 10


async def test_the_list_is_filtered_and_ordered_by_the_status_it_shows(visit: Visit, shop: Shop) -> None:
    acts = {"Alpha": "pause", "Beta": None, "Gamma": "disable", "Delta": "pause"}
    for name, act in acts.items():
        webhook_id = await shop.created(name=name)
        if act is not None:
            await shop.client.post(shop.path(webhook_id, act))
    somebody = await visit("viewer")

    async def names(query: str) -> list[str]:
        text = (await somebody.get(f"/admin/{shop.store}/webhooks?{query}")).text
        return [name for name in re.findall(r'/webhooks/[0-9a-f-]{36}">(\w+)</a>', text) if name in acts]

    assert await names("status=paused") == ["Alpha", "Delta"]
    assert await names("status=active") == ["Beta"]
    assert await names("status=disabled") == ["Gamma"]
    assert await names("_orderBy[status]=desc") == ["Alpha", "Delta", "Gamma", "Beta"]
    assert (
        "must be one of active, paused, disabled, failing"
        in (await somebody.get(f"/admin/{shop.store}/webhooks?status=asleep")).text
    )


async def test_a_webhook_that_fails_is_found_and_shown_with_what_its_receiver_answers(visit: Visit, shop: Shop) -> None:
    event = {"eventName": "CustomerUpdated"}
    broken, well = await shop.created(name="Broken", **event), await shop.created(name="Well", **event)
    asleep = await shop.created(name="Asleep", **event)
    await shop.client.post(shop.path(asleep, "pause"))
    failed = {"status": "held", "last_failure": "http_5xx", "last_status_code": 503, "ended_at": None}
    past = datetime(2026, 1, 1, tzinfo=UTC)
    answered = [await add_delivery(shop, broken, next_attempt_at=past, **failed) for _ in range(12)][-1]
    await add_delivery(shop, well)
    for webhook in (broken, asleep):
        await fail(shop, webhook, answered)
    somebody = await visit("viewer")

    async def seen(path: str) -> str:
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", (await somebody.get(f"/admin/{shop.store}{path}")).text))

    for query in ("?status=failing", "?status[in]=failing,disabled"):
        found = await seen(f"/webhooks{query}")
        assert ("Broken" in found, "Well" in found, "Asleep" in found) == (True, False, False), query
        for part in (
            "failures in a row: 20",
            "Last answer 503 server error http_5xx",
            "12 waiting or held, next attempt",
        ):
            assert part in found
    for query in ("?status=active", "?status=paused"):
        assert "Broken" not in await seen(f"/webhooks{query}")
    page = (await somebody.get(f"/admin/{shop.store}/webhooks/{broken}")).text
    for part in ("status-failing", "failures in a row: 20", f'/deliveries/{answered}">'):
        assert part in page
    assert "status-active" not in page
    assert len(set(re.findall(r"/deliveries/([0-9a-f-]{36})", page))) == 10
    assert "2026-01-01" not in page, "no next attempt lies in the past"
    paused = await seen(f"/webhooks/{asleep}")
    assert re.search(r"paused by \S+, since .+ failing since .+, failures in a row: 20", paused), paused
    healthy = await seen(f"/webhooks/{well}")
    assert ("failing" in healthy, "in a row" in healthy) == (False, False)


async def test_several_events_make_one_webhook_each_with_one_key_or_none_at_all(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    new = f"/admin/{shop.store}/webhooks/new"
    key = format_secret(bytes(range(SECRET_BYTES)))
    events = ["CustomerUpdated", "CustomerRegistered", "CampaignCreated"]
    fields = {**FIELDS, **await new_form(somebody, shop), "eventName": events, "hmacSecret": key}
    refused = await somebody.post(new, {**fields, "legacy": "true"})
    assert refused.status_code == 400
    assert "CampaignCreated has no legacy format" in refused.text
    assert (await shop.list())["total"]["all"] == 0
    for _ in range(2):
        made = await somebody.post(new, fields)
        assert set(re.findall(r"whsec_[A-Za-z0-9+/=]+", made.text)) == {key}
        assert f"3 webhooks to {RECEIVER.removeprefix('https://')} are saved" in made.text
    assert sorted(one["eventName"] for one in (await shop.list())["items"]) == sorted(events)
    sealer = shop.installation.app.state.resources.sealer
    for one in (await shop.list())["items"]:
        row = await shop.row(one["webhookSubscriptionId"])
        assert (sealer.open(row["sealed_secret"]), row["signature_version"]) == (key, 1)
    for changed in ([*events, "RewardCreated"], events[1:], events[:1]):
        repeated = await somebody.post(new, {**fields, "eventName": changed})
        assert (repeated.status_code, TEXTS["webhooks.saved_before"] in repeated.text) == (400, True)
    assert (await shop.list())["total"]["all"] == 3
    wrong = await somebody.post(new, {**FIELDS, **await new_form(somebody, shop), "hmacSecret": "whsec_short"})
    assert (wrong.status_code, 'id="error-hmacSecret"' in wrong.text) == (400, True)


async def test_webhooks_of_one_name_are_told_apart_by_their_events(visit: Visit, shop: Shop) -> None:
    somebody, here = await visit("editor"), f"/admin/{shop.store}"
    events = ["CustomerUpdated", "CustomerRegistered"]
    ids = {event: await shop.created(eventName=event, name="CRM") for event in events}
    for webhook_id in ids.values():
        await fail(shop, webhook_id)
    for event, webhook_id in ids.items():
        assert re.findall(r"<h1[^>]*>([^<]+)", (await somebody.get(f"{here}/webhooks/{webhook_id}")).text) == [
            f"CRM · {event}"
        ]
        for page in ("deliveries", "recover", "recover/backfill"):
            [option] = re.findall(
                rf'<option value="{webhook_id}"[^>]*>([^<]+)', (await somebody.get(f"{here}/{page}")).text
            )
            assert event in option, page
    failing = (await somebody.get(f"{here}/dashboard")).text
    assert all(event in failing for event in events)


async def test_a_secret_of_an_authentication_is_typed_unseen(visit: Visit, shop: Shop) -> None:
    form = (await (await visit("editor")).get(f"/admin/{shop.store}/webhooks/new")).text
    unseen = set(re.findall(r'name="authentication\.(\w+)" type="password"', form))
    assert unseen == {"password", "token", "clientSecret"}


async def test_webhooks_created_together_are_listed_by_id_and_no_address_has_their_query(
    visit: Visit, shop: Shop
) -> None:
    await shop.created(url=RECEIVER)
    somebody = await visit("editor")
    events = {"eventName": ["CustomerUpdated", "CustomerRegistered"]}
    for url, shown in (
        ("HTTPS://Receiver.Example.com:443/hook?token=hidden", "receiver.example.com/hook"),
        ("https://bücher.example.com/hook", "xn--bcher-kva.example.com/hook"),
    ):
        form = {**FIELDS, **await new_form(somebody, shop), **events, "url": url, "hmacEnabled": ""}
        made = await somebody.post(f"/admin/{shop.store}/webhooks/new", form)
        assert made.status_code == 303
        assert "token" not in made.headers["location"]
        listed = (await somebody.get(made.headers["location"])).text
        assert re.findall(r'/webhooks/[0-9a-f-]{36}">([^<]+)</a>', listed) == [shown] * 2
        assert re.search(r"2 webhooks to [^ ?]+ are saved", listed) is not None


async def test_a_duplicate_has_the_values_of_the_headers_and_a_key_of_its_own(visit: Visit, shop: Shop) -> None:
    webhook_id = await shop.created(
        name="CRM", headers=[header("Authorization", SECRET)], hmacEnabled=True, rateLimitPerSecond=7
    )
    somebody = await visit("editor")
    form = (await somebody.get(f"/admin/{shop.store}/webhooks/new?copyOf={webhook_id}")).text
    assert SECRET not in form
    for part in (
        'value="CRM (copy)"',
        'value="CustomerRegistered" data-about="A member joined the programme." selected',
    ):
        assert part in form
    copy = dict(re.findall(r'name="([\w.]+)" (?:type="\w+" )?value="([^"]*)"', form))
    fields = {name: value for name, value in copy.items() if name not in ("legacy", "ordered")}
    fields |= {"eventName": "CustomerUpdated", "url": "https://other.example.com/"}
    refused = await somebody.post(f"/admin/{shop.store}/webhooks/new", fields)
    assert 'id="error-headers.0.headerValue">enter it again' in refused.text
    fields["url"] = f"{RECEIVER}/other"
    made = await somebody.post(f"/admin/{shop.store}/webhooks/new", fields)
    assert made.status_code == 200, made.text
    [copied] = [one for one in (await shop.list())["items"] if one["webhookSubscriptionId"] != webhook_id]
    assert await shop.stored_headers(copied["webhookSubscriptionId"]) == [("Authorization", SECRET)]
    rows = [await shop.row(one) for one in (webhook_id, copied["webhookSubscriptionId"])]
    sealer = shop.installation.app.state.resources.sealer
    assert len({sealer.open(row["sealed_secret"]) for row in rows}) == 2
    assert [row["rate_limit_per_second"] for row in rows] == [7, 7]


async def test_an_admin_who_confirms_the_password_sees_the_key_again_and_the_audit_tells(
    visit: Visit, shop: Shop
) -> None:
    made = (await shop.create(hmacEnabled=True)).json()
    here = f"/admin/{shop.store}/webhooks/{made['webhookSubscriptionId']}"
    admin, editor = await visit("admin"), await visit("editor")
    assert "Show key" in (await admin.get(here)).text
    assert "Show key" not in (await editor.get(here)).text
    assert (await editor.post(f"{here}/key", {"password": PASSWORD})).status_code == 403
    refused = await admin.post(f"{here}/key", {"password": "another"})
    assert refused.status_code == 303
    assert "The password is wrong." in (await admin.get(here)).text
    [_, entry] = await shop.audit()
    assert (entry["action"], entry["actor"]) == ("reveal_hmac_secret_refused", f"administrator:{admin.username}")
    assert entry["object_id"] == made["webhookSubscriptionId"]
    revealed = await admin.post(f"{here}/key", {"password": PASSWORD})
    assert made["hmacSecret"] in revealed.text
    assert revealed.headers["cache-control"] == "no-store"
    [_, _, entry] = await shop.audit()
    assert (entry["action"], entry["actor"]) == ("reveal_hmac_secret", f"administrator:{admin.username}")
    assert made["hmacSecret"] not in str(entry)
    assert made["hmacSecret"] not in (await shop.client.get(shop.path(made["webhookSubscriptionId"]))).text


async def test_wrong_passwords_for_a_key_are_limited_even_before_the_right_one(visit: Visit, shop: Shop) -> None:
    made = (await shop.create(hmacEnabled=True)).json()
    here = f"/admin/{shop.store}/webhooks/{made['webhookSubscriptionId']}"
    admin = await visit("admin")
    await admin.get(here)
    for _ in range(5):
        await admin.post(f"{here}/key", {"password": "another"})
    await admin.get(here)
    limited = await admin.post(f"{here}/key", {"password": PASSWORD})
    assert (limited.status_code, made["hmacSecret"] in limited.text) == (303, False)
    assert "Too many failed log-ins; try again in" in (await admin.get(here)).text
    assert [one["action"] for one in await shop.audit()] == ["create", *["reveal_hmac_secret_refused"] * 5]


async def test_chosen_webhooks_are_paused_resumed_and_after_a_question_deleted(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    first, second, third = [await shop.created(url=f"{RECEIVER}/{number}") for number in range(3)]
    foreign = await (await installed.shop()).created()
    await shop.client.post(shop.path(third, "disable"))
    somebody = await visit("editor")
    listed, chosen = f"/admin/{shop.store}/webhooks", f"/admin/{shop.store}/webhooks/chosen"

    async def act(name: str, *ids: str, **more: str) -> str:
        await somebody.get(listed)
        answer = await somebody.post(chosen, {"act": name, "webhookSubscriptionId": ids, **more})
        return (await somebody.get(answer.headers["location"])).text if answer.status_code == 303 else answer.text

    async def statuses() -> list[str]:
        return [(await shop.details(one))["status"] for one in (first, second, third)]

    text = await act("pause", first, second, third, foreign)
    assert ("2 paused" in text, "/2 · CustomerRegistered: not done. The webhook is disabled" in text) == (True, True)
    assert await statuses() == ["paused", "paused", "disabled"]
    assert "1 resumed" in await act("resume", first)
    assert await statuses() == ["active", "paused", "disabled"]
    assert "Tick webhooks in the list first." in await act("pause")
    asked = await act("delete", first, second)
    assert all(part in asked for part in ("Delete 2 webhooks?", f"{RECEIVER}/0", f"{RECEIVER}/1"))
    assert (await shop.list())["total"]["all"] == 3
    assert "2 deleted" in await act("delete", first, second, foreign, sure="true")
    assert [one["webhookSubscriptionId"] for one in (await shop.list())["items"]] == [third]


async def test_webhooks_are_found_by_the_name_of_a_header_and_called_by_host_and_path(
    installed: Installation, visit: Visit, shop: Shop
) -> None:
    await shop.created(
        url=f"{RECEIVER}/tills?token=1", headers=[header("X-Till", "7"), header("Authorization", SECRET)]
    )
    await shop.created(name="Other", headers=[header("X-Other", "X-Till")])
    await shop.created(name="None")
    somebody = await visit("viewer")

    async def names(query: str) -> list[str]:
        text = (await somebody.get(f"/admin/{shop.store}/webhooks?{query}")).text
        return re.findall(r'/webhooks/[0-9a-f-]{36}">([^<]+)</a>', text)

    assert await names("headerName[like]=x-till") == ["receiver.example.com/hook/tills"]
    assert await names("headerName[like]=x-") == ["receiver.example.com/hook/tills", "Other"]
    assert await names("headerName[like]=x-&name=Other") == ["Other"]
    assert await names("headerName[like]=7") == []
    assert len(await names("headerName[like]=")) == 3
    foreign = await shop.created(headers=[header("X-Till", "7")])
    sealed = Sealer([Fernet.generate_key().decode()]).seal('[["X-Till", "7"]]')
    with_another_key = "UPDATE subscription SET sealed_headers = :sealed WHERE id = CAST(:id AS uuid)"
    await installed.execute(with_another_key, sealed=sealed, id=foreign)
    assert await names("headerName[like]=x-till") == ["receiver.example.com/hook/tills"]


async def test_every_event_is_described_with_the_bodies_a_receiver_of_the_store_gets(visit: Visit, shop: Shop) -> None:
    text = (await (await visit("viewer")).get(f"/admin/{shop.store}/event-types")).text
    for event_type in CATALOGUE.values():
        [part] = re.findall(rf'data-event="{event_type.name}">(.*?)</details>', text, re.DOTALL)
        assert str(escape(event_type.description)) in part
        assert part.count(str(escape(f'"storeCode": "{shop.store}"'))) >= 1
        assert ("Legacy body" in part) == (event_type.legacy is not None)


def test_every_reason_of_a_delivery_has_words() -> None:
    assert [code for code in (*HELD_CODES, *ENDS) if f"deliveries.because_{code}" not in TEXTS] == []


async def test_a_webhook_of_another_store_is_none_here(installed: Installation, visit: Visit, shop: Shop) -> None:
    other = await installed.shop()
    theirs = await other.created()
    somebody = await visit("admin")
    here = f"/admin/{shop.store}/webhooks/{theirs}"
    assert (await somebody.get(here)).status_code == 404
    await somebody.get(f"/admin/{shop.store}/webhooks")
    for act in ("edit", "status", "rotate", "delete", "test"):
        fields = {"act": "pause", "url": RECEIVER}
        assert (await somebody.post(f"{here}/{act}", fields)).status_code == 404, act
    tried = {**FIELDS, "webhookSubscriptionId": theirs}
    assert (await somebody.post(f"/admin/{shop.store}/webhooks/draft-test", tried)).status_code == 404
    assert (await other.details(theirs))["status"] == "active"


@pytest.mark.parametrize(
    ("typed", "delays"),
    [
        ("", None),
        ("none", []),
        ("5s, 10m,2h 1d", [5, 600, 7200, 86400]),
        ("90", [90]),
        ("1 h", None),
        ("soon", None),
    ],
)
def test_a_schedule_is_read_as_people_write_it(typed: str, delays: list[int] | None) -> None:
    sent = read_webhook(Form([*FIELDS.items(), ("retrySchedule", typed)]), ZONE)
    if delays is None and typed:
        with pytest.raises(ValidationFailed) as refused:
            sent.created()
        [problem, *_] = sent.placed(refused.value).problems
        assert problem.path == "retrySchedule"
        return
    assert sent.created()[0].retry_schedule == delays
    again = Form([*FIELDS.items(), ("retrySchedule", shown_schedule(delays))])
    assert read_webhook(again, ZONE).created()[0].retry_schedule == delays


def test_an_instant_is_one_on_the_clocks_of_the_store() -> None:
    sent = read_webhook(Form([*FIELDS.items(), ("activeFrom", "2026-07-01T08:00:00")]), ZONE)
    assert sent.body["activeFrom"] == "2026-07-01T12:00:00+00:00"
