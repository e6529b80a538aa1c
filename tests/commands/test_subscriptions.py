"""`subscriptions export|diff|apply` against a real API: what the file says comes about, whole or not at all."""

import json
import re

import pytest

from domain.access import Scope
from tests.api.installation import RECEIVER
from tests.api.test_authentication import self_signed
from tests.commands.filed import CRM, HEAD, MAIL, TOKEN, Filed, Served
from tests.commands.running import Ended
from tests.house import ROOT

AS_THEY_SHOULD_BE = "Nothing to do, {} unchanged.\n"


async def test_what_is_exported_differs_in_nothing_and_goes_into_another_store(filed: Filed, served: Served) -> None:
    await filed.shop.created(name="CRM", hmacEnabled=True, activeFrom="2026-03-01T00:00:00Z", retrySchedule=[5, 300])
    await filed.shop.created(headers=[{"headerName": "Authorization", "headerValue": "Bearer s3cret"}])
    exported = await filed.run("export")
    assert exported.code == 0, exported.errors
    assert "s3cret" not in exported.output
    assert f"store: {filed.shop.store}\n" in exported.output
    filed.write(exported.output)
    same = await filed.run("diff", "s.yaml", "--prune")
    assert (same.code, same.output) == (0, AS_THEY_SHOULD_BE.format(2))
    again = await filed.run("export")
    assert again.output == exported.output

    other = Filed(await served.installed.shop(), filed.root, filed.key, filed.directory)
    elsewhere = await other.run("diff", "s.yaml")
    assert elsewhere.code == 2
    assert re.search(r"^s\.yaml:\d+: store: the file is for store s-\w+, not for s-\w+", elsewhere.errors)
    text = exported.output.replace(f"store: {filed.shop.store}\n", "")
    other.write(
        re.sub(r"    webhookSubscriptionId: .*\n", "    name: Plain\n", text).replace("keep: true", "fromEnv: T")
    )
    ended = await other.run("apply", "s.yaml", "--signing-keys", "keys.json", T="Bearer other")
    assert ended.code == 0, ended.errors
    plain, crm = sorted(await other.rows(), key=lambda row: row["name"], reverse=True)
    assert [crm["hmacEnabled"], crm["activeFrom"]] == [True, "2026-03-01T00:00:00Z"]
    assert await other.shop.stored_headers(plain["webhookSubscriptionId"]) == [("Authorization", "Bearer other")]


async def test_diff_shows_and_apply_does_and_then_nothing_is_left_to_do(filed: Filed) -> None:
    subscription_id = await filed.shop.created(
        name="CRM", headers=[{"headerName": "Authorization", "headerValue": "1"}]
    )
    filed.write(HEAD, CRM, TOKEN, "    maxConcurrency: 4\n", MAIL)
    shown = await filed.run("diff", "s.yaml", TOKEN="Bearer s3cret")
    assert (shown.code, shown.errors) == (1, "")
    assert shown.output == (
        f"~  CustomerRegistered  CRM  {RECEIVER}\n"
        "    maxConcurrency: default → 4\n"
        "    headers: Authorization: ••• → Authorization: ••• (new)\n"
        f"+  CustomerUpdated  Mail  {RECEIVER}\n"
        "1 to create, 1 to update, 0 unchanged.\n"
    )
    assert len(await filed.rows()) == 1
    dry = await filed.run("apply", "s.yaml", "--dry-run", TOKEN="Bearer s3cret")
    assert (dry.code, dry.output) == (0, shown.output)
    assert len(await filed.rows()) == 1
    applied = await filed.run("apply", "s.yaml", TOKEN="Bearer s3cret")
    assert (applied.code, applied.errors) == (0, "")
    assert applied.output == shown.output.replace("to create", "created").replace("to update", "updated")
    assert [row["name"] for row in await filed.rows()] == ["CRM", "Mail"]
    assert await filed.shop.stored_headers(subscription_id) == [("Authorization", "Bearer s3cret")]
    lines = len(await filed.shop.audit())
    for _ in range(2):
        again = await filed.run("apply", "s.yaml", TOKEN="Bearer s3cret")
        assert (again.code, again.output) == (0, AS_THEY_SHOULD_BE.format(2))
    assert len(await filed.shop.audit()) == lines
    assert "s3cret" not in str(await filed.shop.audit())


async def test_what_the_file_has_not_is_deleted_only_when_asked_for_and_agreed_to(filed: Filed) -> None:
    other = await filed.shop.created(name="Other")
    filed.write(HEAD, CRM)
    kept = await filed.run("apply", "s.yaml")
    assert kept.code == 0
    assert f"1 only in the store, kept unless --prune deletes them: CustomerRegistered Other ({other})" in (kept.output)
    assert (await filed.run("diff", "s.yaml")).code == 0
    shown = await filed.run("diff", "s.yaml", "--prune")
    assert (shown.code, "-  CustomerRegistered  Other" in shown.output) == (1, True)
    refused = await filed.run("apply", "s.yaml", "--prune")
    assert (refused.code, "--yes confirms" in refused.errors) == (2, True)
    assert len(await filed.rows()) == 2
    done = await filed.run("apply", "s.yaml", "--prune", "--yes")
    assert (done.code, "1 deleted, 1 unchanged." in done.output) == (0, True)
    assert [row["name"] for row in await filed.rows()] == ["CRM"]


async def test_a_header_value_or_a_key_is_not_dropped_unasked(filed: Filed) -> None:
    await filed.shop.created(name="CRM", hmacEnabled=True, headers=[{"headerName": "A", "headerValue": "1"}])
    filed.write(HEAD, CRM)
    refused = await filed.run("apply", "s.yaml")
    assert refused.code == 2
    assert "    loses the value of header A\n    loses the signing key\n" in refused.output
    assert (await filed.rows())[0]["headerName"] == "A"
    assert (await filed.run("apply", "s.yaml", "-y")).code == 0
    assert (await filed.rows())[0]["headerName"] is None


async def test_new_signing_keys_go_into_a_private_file_and_never_into_a_log(filed: Filed) -> None:
    filed.write(HEAD, CRM, "    hmacEnabled: true\n", MAIL)
    refused = await filed.run("apply", "s.yaml")
    assert (refused.code, "--signing-keys" in refused.errors) == (2, True)
    (filed.directory / "taken").touch()
    taken = await filed.run("apply", "s.yaml", "--signing-keys", "taken")
    assert (taken.code, "taken cannot be created: File exists" in taken.errors) == (2, True)
    assert await filed.rows() == []
    done = await filed.run("apply", "s.yaml", "--signing-keys", "keys.json")
    assert done.code == 0, done.errors
    keys = filed.directory / "keys.json"
    assert keys.stat().st_mode & 0o777 == 0o600
    [key] = json.loads(keys.read_text())
    assert (key["eventName"], key["name"], key["url"]) == ("CustomerRegistered", "CRM", RECEIVER)
    assert key["hmacSecret"] not in done.output
    row = await filed.shop.row(key["webhookSubscriptionId"])
    assert filed.shop.installation.app.state.resources.sealer.open(row["sealed_secret"]) == key["hmacSecret"]


async def test_a_refused_file_leaves_no_file_of_keys(filed: Filed) -> None:
    filed.write(HEAD, CRM, "    hmacEnabled: true\n    nonsense: 1\n")
    ended = await filed.run("apply", "s.yaml", "--signing-keys", "keys.json")
    assert ended.code == 2
    assert not (filed.directory / "keys.json").exists()


async def test_what_the_api_refuses_is_told_with_the_line_of_the_file_and_nothing_is_done(filed: Filed) -> None:
    filed.write(HEAD, CRM, "    ordered: 1\n", MAIL, "    nonsense: 1\n", "    headers:\n      - headerName: Host\n")
    ended = await filed.run("apply", "s.yaml")
    assert (ended.code, ended.output) == (2, "")
    assert ended.errors.splitlines() == [
        "s.yaml:6: subscriptions.0.ordered: must be true or false",
        "s.yaml:12: subscriptions.1.headers.0.headerName: is set by the sender and cannot be replaced",
        "s.yaml:12: subscriptions.1.headers.0.headerValue: is required",
        "s.yaml:10: subscriptions.1.nonsense: unknown field",
    ]
    filed.write(HEAD, CRM, MAIL.replace(RECEIVER, "https://10.0.0.1/"), TOKEN.replace("fromEnv: TOKEN", "keep: true"))
    blocked = await filed.run("diff", "s.yaml")
    assert blocked.code == 2
    assert blocked.errors.startswith("s.yaml:8: subscriptions.1.url: ")
    filed.write(HEAD, CRM, TOKEN.replace("fromEnv: TOKEN", "keep: true"))
    nothing_to_keep = await filed.run("diff", "s.yaml")
    assert nothing_to_keep.errors == (
        "s.yaml:8: subscriptions.0.headers.0.headerValue: there is no stored value to keep; "
        "provide one with fromEnv or fromFile\n"
    )
    filed.write(HEAD, CRM.replace("    name: CRM\n", ""))
    unnamed = await filed.run("apply", "s.yaml")
    assert unnamed.errors.startswith("s.yaml:3: subscriptions.0.name: is required")
    assert await filed.rows() == []


OF_MTLS = "    authentication: {type: mtls, certificate: {fromFile: shop.pem}, privateKey: {fromFile: shop.key}}\n"
OF_OAUTH2 = (
    f"    authentication: {{type: oauth2, tokenUrl: '{RECEIVER}', clientId: shop, clientSecret: {{fromEnv: TOKEN}}}}\n"
)


@pytest.mark.parametrize("given", [OF_MTLS, OF_OAUTH2], ids=["mtls", "oauth2"])
async def test_an_authentication_is_applied_from_secrets_elsewhere_and_exported_without_them(
    filed: Filed, given: str
) -> None:
    certificate, key = self_signed(2048)
    (filed.directory / "shop.pem").write_text(certificate)
    (filed.directory / "shop.key").write_text(key)
    filed.write(HEAD, CRM, given)
    ended = await filed.run("apply", "s.yaml", "--signing-keys", "keys.json", TOKEN="s3cret")
    assert ended.code == 0, ended.errors
    [row] = await filed.rows()
    details = await filed.shop.details(row["webhookSubscriptionId"])
    assert details["authentication"]["type"] in given
    assert await filed.run("diff", "s.yaml", TOKEN="s3cret") == Ended(0, AS_THEY_SHOULD_BE.format(1), "")
    exported = (await filed.run("export")).output
    assert "s3cret" not in exported
    assert "BEGIN" not in exported
    filed.write(exported)
    assert (await filed.run("diff", "s.yaml")).output == AS_THEY_SHOULD_BE.format(1)


async def test_a_secret_to_keep_for_another_origin_is_told_with_the_line_of_the_file(filed: Filed) -> None:
    secret = "    authentication: {type: bearer, token: {%s}}\n"
    filed.write(HEAD, CRM, secret % "fromEnv: TOKEN")
    assert (await filed.run("apply", "s.yaml", TOKEN="s3cret")).code == 0
    filed.write(HEAD, CRM.replace("://", "://other."), secret % "keep: true")
    assert (await filed.run("diff", "s.yaml")).errors == (
        "s.yaml:6: subscriptions.0.authentication.token: the stored value is not kept for another scheme, host or "
        "port; provide it with fromEnv or fromFile\n"
    )
    filed.write(HEAD, CRM.replace("CRM", "New"), secret % "keep: true")
    assert "there is no stored value to keep" in (await filed.run("diff", "s.yaml")).errors


async def test_what_is_wrong_with_the_file_itself_is_told_without_asking_anybody(filed: Filed) -> None:
    filed.write(HEAD, CRM, TOKEN, "    headers: []\n")
    twice = await filed.run("diff", "s.yaml")
    assert (twice.code, twice.errors) == (2, "s.yaml:9: duplicate key 'headers'\n")
    filed.write(HEAD, CRM, TOKEN)
    unset = await filed.run("diff", "s.yaml", LOYALTY_WEBHOOKS_API="http://127.0.0.1:9")
    assert unset.code == 2
    assert "TOKEN is not set" in unset.errors
    missing = await filed.run("apply", "nowhere.yaml")
    assert (missing.code, missing.errors) == (2, "nowhere.yaml cannot be read: No such file or directory.\n")


async def test_a_file_can_come_through_a_pipe(filed: Filed) -> None:
    ended = await filed.run("apply", "-", standard_input=(HEAD + CRM).encode())
    assert ended.code == 0, ended.errors
    assert [row["name"] for row in await filed.rows()] == ["CRM"]
    wrong = await filed.run("diff", "-", standard_input=b"version: 1\n")
    assert wrong.errors.startswith("standard input:1: subscriptions: must be a list")


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"LOYALTY_WEBHOOKS_API": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"LOYALTY_WEBHOOKS_KEY": "lwk_nonsense"}, "answered 401: the key is not accepted"),
        ({"LOYALTY_WEBHOOKS_API": "ftp://127.0.0.1"}, "is not an address of the form http://host:port"),
    ],
)
async def test_an_api_that_does_not_answer_is_told(filed: Filed, environment: dict[str, str], complaint: str) -> None:
    filed.write(HEAD, CRM)
    for arguments in (("export",), ("diff", "s.yaml"), ("apply", "s.yaml")):
        ended = await filed.run(*arguments, **environment)
        assert (ended.code, ended.output) == (2, "")
        assert complaint in " ".join(ended.errors.replace("│", " ").split())
        assert "nonsense" not in ended.errors


async def test_a_key_needs_the_rights_and_the_store_must_be_there(filed: Filed, served: Served) -> None:
    filed.write(HEAD, CRM)
    reader = await served.installed.key(Scope.SUBSCRIPTION_READ)
    assert (await filed.run("export", LOYALTY_WEBHOOKS_KEY=reader)).code == 0
    refused = await filed.run("diff", "s.yaml", LOYALTY_WEBHOOKS_KEY=reader)
    assert (refused.code, "subscription:write to compare" in refused.errors) == (2, True)
    elsewhere = await served.installed.key(stores=["another"])
    away = await filed.run("export", LOYALTY_WEBHOOKS_KEY=elsewhere)
    assert (away.code, "there is no store" in away.errors) == (2, True)


async def test_names_of_others_cannot_move_the_cursor(filed: Filed) -> None:
    await filed.shop.created(name="a\x1b[2Jb")
    filed.write(HEAD, CRM)
    ended = await filed.run("diff", "s.yaml", "--prune")
    assert "\x1b" not in ended.output
    assert "a\\u001b[2Jb" in ended.output


async def test_the_file_of_the_documentation_does_what_it_says(filed: Filed) -> None:
    page = (ROOT / "docs/subscriptions-file.md").read_text()
    [text] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = filed.shop.installation.names.addresses
    names |= dict.fromkeys(("crm.example.com", "mail.example.com"), names["receiver.example.com"])
    tenant = [{"headerName": "X-Tenant", "headerValue": "7"}]
    crm = await filed.shop.created(name="CRM", url="https://crm.example.com/", headers=tenant)
    filed.write(text.replace("store: default", f"store: {filed.shop.store}"))
    arguments = ("apply", "s.yaml", "--signing-keys", "keys.json")
    ended = await filed.run(*arguments, WEBHOOK_CRM_TOKEN="Bearer 1")
    assert ended.code == 0, ended.errors
    assert await filed.shop.stored_headers(crm) == [("Authorization", "Bearer 1"), ("X-Tenant", "7")]
    assert (await filed.run("diff", "s.yaml", "--prune", WEBHOOK_CRM_TOKEN="Bearer 1")).code == 0
    unset = await filed.run("diff", "s.yaml")
    [line] = re.findall(r"^subscriptions\.yaml(:\d+: .* is not set)$", page, re.MULTILINE)
    assert unset.errors == f"s.yaml{line}\n"
