"""Tests of drafts: the request a delivery would have, ten a minute, audited, and no secret left behind."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from api.actions.draft_tests import DraftTests
from api.errors import TooManyTests, Unavailable, ValidationFailed
from api.subscriptions.models import SubscriptionCreate
from api.subscriptions.service import Prepared
from domain.delivery.timeouts import TEST_BEGINS_SECONDS
from domain.wire.headers import OwnHeader
from storage.subscriptions.draft_tests import DRAFT_TESTS_A_MINUTE, begin_draft_test
from storage.subscriptions.queries import find_subscription
from storage.subscriptions.tables import DraftTest
from temporal.starts import ActionStarts as TemporalActs
from tests.api.acting import ActionStarts
from tests.receiver import Receiver, close_before_answer, status

SECRET = "Bearer 0123456789"
WHO = "administrator:somebody"


def draft(url: str, **fields: Any) -> SubscriptionCreate:
    """A webhook as the form sends it."""
    headers = [{"headerName": "Authorization", "headerValue": SECRET}]
    values = {"eventName": "CustomerUpdated", "url": url, "headers": headers, "hmacEnabled": True, **fields}
    return SubscriptionCreate.model_validate(values, by_alias=True, by_name=False)


def draft_tests(acting: ActionStarts) -> DraftTests:
    return DraftTests(acting.api.resources, acting.api.store, WHO)


async def send(tests: DraftTests, *given: Any, **named: Any) -> DraftTest:
    return await tests.send_draft(await tests.check_draft(*given, **named))


async def test_a_trial_is_sent_as_a_delivery_would_be_and_says_what_came_back(
    acting: ActionStarts, receiver: Receiver
) -> None:
    receiver.script(status(201, body=b"<b>thanks</b>"))
    result = await send(draft_tests(acting), draft(receiver.url("/hook")))
    [request] = receiver.requests
    assert (result.status_code, result.failure, result.response_excerpt) == (201, None, "<b>thanks</b>")
    assert request.header("X-Webhook-Test") == "true"
    assert request.header("Authorization") == SECRET
    assert request.header("webhook-signature") is not None
    assert result.sent_body == request.body.decode()
    assert json.loads(request.body)["storeCode"] == acting.api.store
    sent = dict(result.sent_headers)
    assert sent["Authorization"] == "•••"
    assert sent["webhook-signature"] == request.header("webhook-signature")


async def test_an_authentication_is_sent_and_shown_masked(acting: ActionStarts, receiver: Receiver) -> None:
    authentication = {"type": "basic", "username": "shop", "password": "s3cret"}
    receiver.script(status(401, body=b"no such user: c2hvcDpzM2NyZXQ="))
    result = await send(draft_tests(acting), draft(receiver.url("/hook"), headers=[], authentication=authentication))
    assert receiver.requests[-1].header("Authorization") == "Basic c2hvcDpzM2NyZXQ="
    assert (dict(result.sent_headers)["Authorization"], result.response_excerpt) == ("•••", "no such user: •••")
    [row] = await acting.api.execute("SELECT * FROM draft_test WHERE store_code = :store", store=acting.api.store)
    assert row.sealed_authentication is None
    subscription = await acting.subscribe(receiver.url("/hook"), authentication=authentication)
    async with acting.api.database.transaction() as connection:
        saved = await find_subscription(connection, acting.api.store, UUID(subscription))
    masked = {**authentication, "password": "•••"}
    await send(draft_tests(acting), draft(receiver.url("/hook"), headers=[], authentication=masked), saved)
    assert receiver.requests[-1].header("Authorization") == "Basic c2hvcDpzM2NyZXQ="


async def test_a_failure_is_the_failure_a_delivery_would_have(acting: ActionStarts, receiver: Receiver) -> None:
    receiver.script(close_before_answer(), status(503))
    cut = await send(draft_tests(acting), draft(receiver.url("/hook")))
    assert (cut.status_code, cut.failure) == (None, "reset")
    refused = await send(draft_tests(acting), draft(receiver.url("/hook"), legacy=True, hmacEnabled=False))
    assert (refused.status_code, refused.failure) == (503, "http_5xx")
    assert b'"type":' in receiver.requests[-1].body
    assert receiver.requests[-1].header("webhook-signature") is None


async def test_it_leaves_no_delivery_no_event_and_no_secret(acting: ActionStarts, receiver: Receiver) -> None:
    await send(draft_tests(acting), draft(receiver.url("/hook")))
    store = {"store": acting.api.store}
    for table in ("delivery", "event", "subscription"):
        [row] = await acting.api.execute(f"SELECT count(*) AS n FROM {table} WHERE store_code = :store", **store)
        assert row.n == 0, table
    [kept] = await acting.api.execute("SELECT * FROM draft_test WHERE store_code = :store", **store)
    assert (kept.sealed_headers, kept.sealed_secret) == (None, None)
    assert SECRET not in str(kept)
    [audited] = await acting.api.execute(
        "SELECT * FROM audit WHERE store_code = :store AND action = 'draft-test'", **store
    )
    assert (audited.actor, audited.object_type) == (WHO, "draft_test")
    assert SECRET not in str(audited)


async def test_temporal_is_told_no_secret(acting: ActionStarts, receiver: Receiver) -> None:
    await send(draft_tests(acting), draft(receiver.url("/hook?token=5ecret")))
    [row] = await acting.api.execute("SELECT id FROM draft_test WHERE store_code = :store", store=acting.api.store)
    handle = acting.running.client.get_workflow_handle(f"draft-test/{row.id}")
    history = (await handle.fetch_history()).to_json()
    assert "5ecret" not in history
    assert SECRET not in history


async def test_a_webhook_being_edited_is_tried_with_its_stored_values_and_its_own_key(
    acting: ActionStarts, receiver: Receiver
) -> None:
    headers = [{"headerName": "Authorization", "headerValue": SECRET}]
    subscription = await acting.subscribe(receiver.url("/old"), headers=headers, hmacEnabled=True)
    async with acting.api.database.transaction() as connection:
        saved = await find_subscription(connection, acting.api.store, UUID(subscription))
    masked = [{"headerName": "Authorization", "headerValue": "•••"}]
    await send(draft_tests(acting), draft(receiver.url("/new"), headers=masked), saved)
    assert receiver.requests[-1].target == "/new"
    assert receiver.requests[-1].header("Authorization") == SECRET
    assert receiver.requests[-1].header("X-Webhook-Signature-Version") == "1"
    other = receiver.url("/new").replace("127.0.0.1", "localhost")
    copied = Prepared(headers=[OwnHeader("Authorization", SECRET)], source=saved)
    sources: list[dict[str, Any]] = [{"saved": saved}, {"prepared": copied}]
    for given in sources:
        with pytest.raises(ValidationFailed) as refused:
            await send(draft_tests(acting), draft(other, headers=masked), **given)
        assert [problem.code for problem in refused.value.problems] == ["destination_changed"]
    token_url = receiver.url("/token")
    oauth2 = {"type": "oauth2", "tokenUrl": token_url, "clientId": "shop", "clientSecret": "s3cret"}
    tested = draft(receiver.url("/new"), headers=[], authentication=oauth2)
    await send(draft_tests(acting), tested, prepared=copied)
    audited = "SELECT changes FROM audit WHERE store_code = :store AND action = 'draft-test' ORDER BY id"
    *_, last = await acting.api.execute(audited, store=acting.api.store)
    assert (last.changes["token_url"], last.changes["copy_of"]) == (token_url, subscription)


async def test_where_it_may_not_go_it_does_not_go(acting: ActionStarts, receiver: Receiver) -> None:
    for url in ("http://169.254.169.254/latest/meta-data", "http://10.0.0.1/"):
        with pytest.raises(ValidationFailed):
            await send(draft_tests(acting), draft(url))
    masked = [{"headerName": "Authorization", "headerValue": "•••"}]
    with pytest.raises(ValidationFailed):
        await send(draft_tests(acting), draft(receiver.url("/hook"), headers=masked))
    assert receiver.requests == []


async def test_a_store_sends_few_a_minute(acting: ActionStarts, receiver: Receiver) -> None:
    for _ in range(DRAFT_TESTS_A_MINUTE):
        await send(draft_tests(acting), draft(receiver.url("/hook")))
    with pytest.raises(TooManyTests, match=r"10 tests a minute; try again in [0-9]+ s"):
        await send(draft_tests(acting), draft(receiver.url("/hook")))
    assert len(receiver.requests) == DRAFT_TESTS_A_MINUTE
    aged = "UPDATE draft_test SET created_at = created_at - interval '1 minute' WHERE store_code = :store RETURNING id"
    await acting.api.execute(aged, store=acting.api.store)
    await send(draft_tests(acting), draft(receiver.url("/hook")))


async def test_without_a_worker_it_says_so_and_keeps_no_secret(
    acting: ActionStarts, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.actions.draft_tests.ANSWER_SECONDS", 0.2)
    resources = replace(acting.api.resources, starts=TemporalActs(acting.running.client, "a queue nobody works at"))
    with pytest.raises(Unavailable, match="No worker has sent the test"):
        await send(DraftTests(resources, acting.api.store, WHO), draft(receiver.url("/hook")))
    [row] = await acting.api.execute("SELECT * FROM draft_test WHERE store_code = :store", store=acting.api.store)
    assert (row.sealed_headers, row.sealed_secret) == (None, None)
    async with acting.api.database.transaction() as connection:
        assert await begin_draft_test(connection, row.id) is None


async def test_it_is_sent_once_and_not_after_nobody_waits_for_it(acting: ActionStarts, receiver: Receiver) -> None:
    await send(draft_tests(acting), draft(receiver.url("/hook")))
    [row] = await acting.api.execute("SELECT id FROM draft_test WHERE store_code = :store", store=acting.api.store)
    async with acting.api.database.transaction() as connection:
        assert await begin_draft_test(connection, row.id) is None
    late = "UPDATE draft_test SET begun_at = NULL, created_at = created_at - make_interval(secs => :age) RETURNING id"
    await acting.api.execute(late, age=TEST_BEGINS_SECONDS)
    async with acting.api.database.transaction() as connection:
        assert await begin_draft_test(connection, row.id) is None
