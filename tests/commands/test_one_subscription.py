"""`subscription show|update` against a real API: the settings in words, and changes whose secrets nobody sees."""

import json
from typing import Any

import pytest

from domain.access import Scope
from domain.wire.excerpts import MASK
from tests.api.installation import RECEIVER
from tests.commands.filed import Filed, Served
from tests.commands.running import Ended, run

UNKNOWN = "00000000-0000-4000-8000-000000000000"
BEARER = {"type": "bearer", "token": "s3cret"}


async def one(filed: Filed, *arguments: str, standard_input: bytes = b"", **environment: str) -> Ended:
    return await run(
        *("subscription", *arguments, "--store", filed.shop.store),
        directory=filed.directory,
        environment=filed.environment(**environment),
        standard_input=standard_input,
    )


async def test_show_tells_the_settings_and_masks_the_secrets(filed: Filed) -> None:
    subscription = await filed.shop.created(
        name="CRM\nStatus disabled",
        headers=[{"headerName": "X-Tenant", "headerValue": "s3cret"}],
        authentication=BEARER,
        timeoutSeconds=7,
        rateLimitPerSecond=5,
        ordered=True,
        orderKey="customer",
        afterExhausted="hold",
        retrySchedule=[5, 3600],
    )
    shown = await one(filed, "show", subscription)
    assert (shown.code, shown.errors) == (0, "")
    details = await filed.shop.details(subscription)
    assert [" ".join(line.split()) for line in shown.output.splitlines()] == [
        f"Webhook {subscription}, CRM\\u000aStatus disabled",
        "Event CustomerRegistered in the modern format",
        f"URL {RECEIVER}",
        f"Status active since {details['statusSince']}",
        "Timeout 7 s for a whole request",
        "Signature none",
        f"Authentication type bearer, token {MASK}",
        f"Header X-Tenant: {MASK}",
        f"Limits {details['maxConcurrency']:,} requests in flight, 5 per second",
        "Order each customer's events one after the other; after a delivery gave up later ones are held",
        "Retries 5, 3,600 s after each failed attempt",
    ]
    as_json = await one(filed, "show", subscription, "--json")
    assert json.loads(as_json.output) == details


async def test_update_changes_the_given_settings_alone(filed: Filed) -> None:
    headers = [{"headerName": "X-Tenant", "headerValue": "7"}]
    subscription = await filed.shop.created(name="CRM", headers=headers, ordered=True)
    before = await filed.shop.details(subscription)
    changed = await one(filed, "update", subscription, "--timeout-seconds", "20", "--name", "Mail")
    assert changed.code == 0, changed.errors
    assert "20 s for a whole request" in changed.output
    assert await filed.shop.details(subscription) == before | {"timeoutSeconds": 20, "name": "Mail"}
    moved = await one(filed, "update", subscription, "--url", f"{RECEIVER}/moved", "--name", "", "--json")
    assert (json.loads(moved.output)["url"], json.loads(moved.output)["name"]) == (f"{RECEIVER}/moved", None)
    await one(filed, "update", subscription, "--timeout-seconds", "default")
    assert (await filed.shop.details(subscription))["timeoutSeconds"] == before["timeoutSeconds"]
    assert await filed.shop.stored_headers(subscription) == [("X-Tenant", "7")]


async def test_an_authentication_comes_from_a_file_or_a_pipe_and_is_never_shown(filed: Filed) -> None:
    subscription = await filed.shop.created()
    (filed.directory / "a.json").write_text(json.dumps(BEARER))
    for arguments, piped in ((("a.json",), b""), (("-",), json.dumps(BEARER | {"token": "s3cret2"}).encode())):
        ended = await one(filed, "update", subscription, "--authentication", *arguments, standard_input=piped)
        assert ended.code == 0, ended.errors
        assert f"type bearer, token {MASK}" in ended.output
        assert "s3cret" not in ended.output + ended.errors
    elsewhere = await one(filed, "update", subscription, "--url", "https://other.example.com/")
    assert (elsewhere.code, "enter it again, since the destination changed" in elsewhere.errors) == (1, True)
    removed = await one(filed, "update", subscription, "--authentication", "-", standard_input=b"null")
    assert (removed.code, (await filed.shop.details(subscription))["authentication"]) == (0, None)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ([], 2, "nothing to change"),
        (["--timeout-seconds", "soon"], 2, "a whole number or `default`"),
        (["--timeout-seconds", "31"], 1, "timeoutSeconds: must be 30 or less"),
        (["--url", "ftp://receiver.example.com/"], 1, "url: "),
        (["--authentication", "nowhere.json"], 2, "nowhere.json cannot be read: No such file or directory."),
        (["--authentication", "-"], 2, "Standard input is not JSON, line 1."),
    ],
)
async def test_what_is_wrong_is_said_and_changes_nothing(
    filed: Filed, arguments: list[str], code: int, complaint: str
) -> None:
    subscription = await filed.shop.created()
    before = await filed.shop.details(subscription)
    ended = await one(filed, "update", subscription, *arguments, standard_input=b'{"token": "s3cret')
    assert (ended.code, ended.output) == (code, "")
    assert complaint in " ".join(ended.errors.replace("│", " ").split())
    assert "s3cret" not in ended.errors
    assert await filed.shop.details(subscription) == before


async def test_a_webhook_that_is_not_there_or_not_permitted_is_said(filed: Filed, served: Served) -> None:
    calls: list[Any] = [("show", UNKNOWN), ("update", UNKNOWN, "--name", "x"), ("update", UNKNOWN, "--url", RECEIVER)]
    for call in calls:
        ended = await one(filed, *call)
        assert (ended.code, "Not found in store" in ended.errors) == (1, True)
    subscription = await filed.shop.created()
    reader = await served.installed.key(Scope.SUBSCRIPTION_READ)
    assert (await one(filed, "show", subscription, LOYALTY_WEBHOOKS_KEY=reader)).code == 0
    refused = await one(filed, "update", subscription, "--name", "x", LOYALTY_WEBHOOKS_KEY=reader)
    assert (refused.code, "subscription:write changes webhooks" in refused.errors) == (2, True)
