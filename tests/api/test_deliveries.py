"""The delivery log over HTTP: pages by cursor, filters, one delivery with what it sent."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.deliveries.service import read_cursor, write_cursor
from api.errors import ValidationFailed
from storage.access.stores import create_store
from storage.deliveries import log as delivery_log
from storage.deliveries.log import Position
from tests.api.logs import URL, deliver
from tests.api.running import RunningApi, add_key, running_api
from tests.api.test_emit import problems
from tests.databases import cloned_database

CUSTOMER = '{"customer":{"customerId":"3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b"}}'
UI = "http://temporal.example.com:8233/"
ROW = {
    "messageId", "eventId", "eventName", "webhookSubscriptionId", "variant", "url", "status", "attempts",
    "lastStatusCode", "lastFailure", "nextAttemptAt", "createdAt", "endedAt", "reason",
}  # fmt: skip
ATTEMPT = {
    "number", "requestId", "trigger", "startedAt", "durationMs", "statusCode", "failure", "detail", "responseExcerpt",
}  # fmt: skip


@pytest.fixture(scope="module")
async def api(database_template: str) -> AsyncIterator[RunningApi]:
    async with cloned_database(database_template) as url, running_api(url, temporal_ui_url=UI) as running:
        yield running


class TestPages:
    @pytest.fixture
    async def api(self, api: RunningApi) -> RunningApi:
        """The API seen from a store of the test's own: a page shows everything that its store has."""
        code = f"s-{uuid4().hex}"
        async with api.database.transaction() as connection:
            await create_store(connection, code, code)
        return replace(api, store=code)

    async def test_follow_one_another_by_cursor_newest_first(self, api: RunningApi) -> None:
        logged = [await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER) for _ in range(5)]
        found, cursor = [], ""
        for expected in (2, 2, 1):
            filters = "webhookSubscriptionId[in]=" + ",".join(str(each.subscription_id) for each in logged)
            answer = await api.get(f"webhook/delivery?_itemsOnPage=2&{filters}{cursor}")
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert set(page) == {"items", "nextCursor"}
            assert len(page["items"]) == expected
            assert all(set(item) == ROW for item in page["items"])
            found += [item["messageId"] for item in page["items"]]
            cursor = f"&_cursor={page['nextCursor']}"
        assert page["nextCursor"] is None
        assert found == [str(each.message_id) for each in reversed(logged)]

    async def test_hold_ten_items_unless_asked_for_up_to_fifty(self, api: RunningApi) -> None:
        for _ in range(11):
            await deliver(api, "CustomerDeactivated", json.loads(CUSTOMER), CUSTOMER)
        page = (await api.get("webhook/delivery?eventName=CustomerDeactivated")).json()
        assert len(page["items"]) == 10
        page = (await api.get("webhook/delivery?eventName=CustomerDeactivated&_itemsOnPage=50")).json()
        assert len(page["items"]) == 11
        assert page["nextCursor"] is None

    async def test_may_be_filtered_by_each_field(self, api: RunningApi) -> None:
        logged = await deliver(api, "CustomerLevelChanged", {}, "{}", status="exhausted", url="https://x.example.com/A")
        soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
        for query in (
            f"eventId={logged.event_id}",
            "eventName=CustomerLevelChanged",
            f"webhookSubscriptionId={logged.subscription_id}",
            "status=exhausted",
            "url[like]=X.EXAMPLE",
            f"createdAt[lt]={quote(soon)}&eventName[like]=LEVELCH",
        ):
            answer = await api.get(f"webhook/delivery?{query}")
            assert [item["messageId"] for item in answer.json()["items"]] == [str(logged.message_id)], query
        assert (await api.get("webhook/delivery?status=held")).json() == {"items": [], "nextCursor": None}

    async def test_go_on_after_a_stretch_of_the_log_in_which_nothing_matches(
        self, api: RunningApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logged = [await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER) for _ in range(7)]
        monkeypatch.setattr(delivery_log, "LOOKED_AT", 3)
        found, cursor = [], ""
        while cursor is not None:
            following = f"&_cursor={cursor}" if cursor else ""
            answer = await api.get(f"webhook/delivery?messageId[like]={str(logged[0].message_id)[9:]}{following}")
            assert answer.status_code == 200, answer.text
            found.append([item["messageId"] for item in answer.json()["items"]])
            cursor = answer.json()["nextCursor"]
        assert found[:3] == [[], [], [str(logged[0].message_id)]]
        assert not any(found[3:])

    @pytest.mark.parametrize(
        ("query", "path"),
        [
            pytest.param("_itemsOnPage=51", "_itemsOnPage", id="too many items"),
            pytest.param("_itemsOnPage=0", "_itemsOnPage", id="no items"),
            pytest.param("_page=0", "_page", id="a page that cannot be"),
            pytest.param("_cursor=", "_cursor", id="an empty cursor"),
            pytest.param("_cursor=AAAA", "_cursor", id="a short cursor"),
            pytest.param("_cursor=" + "A" * 40, "_cursor", id="a made-up cursor"),
            pytest.param("_cursor=" + "A" * 9000, "_cursor", id="an endless cursor"),
            pytest.param("_cursor=%00%F0%9F%98%80", "_cursor", id="a cursor of other characters"),
            pytest.param("status=done", "status", id="an unknown status"),
            pytest.param("eventId=7", "eventId", id="an id that is no UUID"),
            pytest.param("createdAt[gte]=2026-01-02", "createdAt.gte", id="an instant without offset"),
            pytest.param("url[regex]=x", "url.regex", id="an unknown operator"),
            pytest.param("messageId=x", "messageId", id="an unknown field"),
        ],
    )
    async def test_refuse_what_is_not_their_grammar(self, api: RunningApi, query: str, path: str) -> None:
        answer = await api.get(f"webhook/delivery?{query}")
        assert answer.status_code == 400
        assert set(problems(answer.json())) == {path}

    async def test_show_nothing_of_another_store(self, api: RunningApi) -> None:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER)
        await api.execute("INSERT INTO store (code, name) VALUES ('elsewhere', 'Another')")
        for query in ("", f"?eventId={logged.event_id}", f"?webhookSubscriptionId={logged.subscription_id}"):
            answer = await api.get(f"/api/elsewhere/webhook/delivery{query}")
            assert answer.json() == {"items": [], "nextCursor": None}
        assert (await api.get(f"/api/elsewhere/webhook/delivery/{logged.message_id}")).status_code == 404
        assert (await api.get(f"/api/elsewhere/event/{logged.event_id}")).status_code == 404


@given(at=st.datetimes(timezones=st.just(UTC)), identity=st.uuids())
def test_a_cursor_leads_back_to_its_position(at: datetime, identity: object) -> None:
    position = Position(at, identity)  # type: ignore[arg-type]
    cursor = write_cursor(position)
    assert read_cursor(cursor) == position
    assert cursor == quote(cursor, safe="")


@given(
    at=st.datetimes(timezones=st.just(UTC)),
    identity=st.uuids(),
    where=st.integers(0, 39),
    what=st.sampled_from("Ab9-_"),
)
def test_a_cursor_that_was_changed_anywhere_is_refused(at: datetime, identity: object, where: int, what: str) -> None:
    cursor = write_cursor(Position(at, identity))  # type: ignore[arg-type]
    changed = cursor[:where] + what + cursor[where + 1 :]
    if changed != cursor:
        with pytest.raises(ValidationFailed):
            read_cursor(changed)


class TestOneDelivery:
    async def test_shows_its_attempts_and_the_very_body_that_was_sent(self, api: RunningApi) -> None:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER)
        answer = await api.get(f"webhook/delivery/{logged.message_id}")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert set(found) == ROW | {"attemptList", "body", "bodyNote", "temporalUrl"}
        assert found["url"] == URL
        assert found["body"] == logged.body.decode()
        assert found["bodyNote"] is None
        (attempt,) = found["attemptList"]
        assert set(attempt) == ATTEMPT
        assert (attempt["number"], attempt["requestId"], attempt["trigger"]) == (1, str(logged.request_id), "automatic")
        assert (attempt["statusCode"], attempt["failure"], attempt["responseExcerpt"]) == (200, None, "thanks <b>")
        workflow = quote(f"event/default/{logged.event_id}", safe="")
        assert found["temporalUrl"] == f"http://temporal.example.com:8233/namespaces/default/workflows/{workflow}"

    async def test_links_to_the_activity_that_retries_it(self, api: RunningApi) -> None:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER)
        retry_id = f"{logged.message_id}/1"
        await api.execute(
            "UPDATE delivery SET status = 'pending', retry_id = :retry WHERE message_id = :id",
            retry=retry_id,
            id=logged.message_id,
        )
        found = (await api.get(f"webhook/delivery/{logged.message_id}")).json()
        query = quote(f'ActivityId="{retry_id}"', safe="")
        assert found["temporalUrl"] == f"{UI}namespaces/default/activities?query={query}"

    @pytest.mark.parametrize("retried", [False, True])
    async def test_explain_links_to_the_same_workflow_or_activity(self, api: RunningApi, retried: bool) -> None:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER)
        if retried:
            await api.execute(
                "UPDATE delivery SET status = 'pending', retry_id = message_id || '/1' WHERE message_id = :id",
                id=logged.message_id,
            )
        section = "activities?query=" if retried else "workflows/"
        found = (await api.get(f"webhook/delivery/{logged.message_id}")).json()
        items = (await api.get(f"webhook/explain?eventId={logged.event_id}")).json()["items"]
        [item] = [item for item in items if item["messageId"] is not None]
        assert item["messageId"] == str(logged.message_id)
        assert item["temporalUrl"] == found["temporalUrl"]
        assert item["temporalUrl"].startswith(f"{UI}namespaces/default/{section}")

    async def test_in_the_legacy_format_shows_the_legacy_body(self, api: RunningApi) -> None:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER, legacy=True)
        found = (await api.get(f"webhook/delivery/{logged.message_id}")).json()
        assert found["body"] == logged.body.decode()
        assert '"type":"customer.updated"' in found["body"]

    @pytest.mark.parametrize("legacy", [False, True], ids=["modern", "legacy"])
    async def test_masks_secrets_in_a_body_whose_hash_was_taken_with_them(self, api: RunningApi, legacy: bool) -> None:
        data = '{"customer":{"customerId":"3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b"},"code":"OPEN-SESAME"}'
        logged = await deliver(api, "CustomerRequestedPasswordReset", json.loads(data), data, legacy=legacy)
        answer = await api.get(f"webhook/delivery/{logged.message_id}")
        assert answer.json()["body"] == logged.body.decode().replace("OPEN-SESAME", "•••")
        assert "OPEN-SESAME" not in answer.text

    async def test_says_so_when_the_body_cannot_be_made_again(self, api: RunningApi) -> None:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER)
        await api.execute("UPDATE attempt SET body_sha256 = 'other' WHERE message_id = :id", id=logged.message_id)
        found = (await api.get(f"webhook/delivery/{logged.message_id}")).json()
        assert found["body"] is None
        assert "differs" in found["bodyNote"]
        await api.execute("UPDATE attempt SET body_sha256 = NULL WHERE message_id = :id", id=logged.message_id)
        found = (await api.get(f"webhook/delivery/{logged.message_id}")).json()
        assert found["body"] == logged.body.decode()
        assert "no recorded hash" in found["bodyNote"]

    async def test_whose_secrets_cannot_be_opened_says_so(self, api: RunningApi) -> None:
        data = '{"code":"OPEN-SESAME"}'
        logged = await deliver(api, "CustomerRequestedPasswordReset", json.loads(data), data)
        await api.execute("UPDATE event_body SET sealed_data = 'lost' WHERE event_id = :id", id=logged.event_id)
        answer = await api.get(f"webhook/delivery/{logged.message_id}")
        assert answer.status_code == 200
        assert answer.json()["body"] is None
        assert "ENCRYPTION_KEYS" in answer.json()["bodyNote"]

    async def test_that_has_sent_nothing_has_no_body(self, api: RunningApi) -> None:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER, status="held", ended_at=None)
        await api.execute("DELETE FROM attempt WHERE message_id = :id", id=logged.message_id)
        found = (await api.get(f"webhook/delivery/{logged.message_id}")).json()
        assert (found["attemptList"], found["body"], found["status"]) == ([], None, "held")

    async def test_of_an_unknown_id_is_not_found(self, api: RunningApi) -> None:
        for unknown in (uuid4(), "7", "%00", "..", "a" * 4000):
            assert (await api.get(f"webhook/delivery/{unknown}")).status_code == 404


class TestOneEvent:
    async def test_shows_its_data_exactly_and_all_its_deliveries(self, api: RunningApi) -> None:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER)
        await api.execute("UPDATE event SET workflow_id = 'events/batch 1' WHERE event_id = :id", id=logged.event_id)
        answer = await api.get(f"event/{logged.event_id}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        found = answer.json()
        assert set(found) == {
            "eventId", "eventName", "storeCode", "createdAt", "acceptedAt", "data", "deliveries", "temporalUrl",
        }  # fmt: skip
        assert f'"data":{CUSTOMER}' in answer.text
        assert found["createdAt"] == "2026-01-02T03:04:05Z"
        assert [item["messageId"] for item in found["deliveries"]] == [str(logged.message_id)]
        assert set(found["deliveries"][0]) == ROW
        assert found["temporalUrl"] == f"{UI}namespaces/default/workflows/events%2Fbatch%201"

    async def test_that_no_workflow_has_has_no_link(self, api: RunningApi) -> None:
        event_id = (await api.emit()).json()["eventId"]
        found = (await api.get(f"event/{event_id}")).json()
        assert (found["temporalUrl"], found["deliveries"]) == (None, [])

    async def test_of_an_unknown_id_is_not_found(self, api: RunningApi) -> None:
        for unknown in (uuid4(), "7", "batch"):
            assert (await api.get(f"event/{unknown}")).status_code == 404


async def test_without_a_web_ui_there_are_no_links(database_url: str) -> None:
    async with running_api(database_url) as api:
        logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER)
        assert (await api.get(f"webhook/delivery/{logged.message_id}")).json()["temporalUrl"] is None


async def test_looking_needs_its_right(api: RunningApi) -> None:
    emitter = {"X-AUTH-TOKEN": await add_key(api.database, scopes=("event:emit",))}
    reader = {"X-AUTH-TOKEN": await add_key(api.database, scopes=("delivery:read",))}
    logged = await deliver(api, "CustomerUpdated", json.loads(CUSTOMER), CUSTOMER)
    for path in ("webhook/delivery", f"webhook/delivery/{logged.message_id}", f"event/{logged.event_id}"):
        assert (await api.get(path, headers={"X-AUTH-TOKEN": "wrong"})).status_code == 401
        assert (await api.get(path, headers=emitter)).status_code == 403
        assert (await api.get(path, headers=reader)).status_code == 200
    unknown = await api.get(f"webhook/delivery/{uuid4()}", headers=emitter)
    assert unknown.status_code == 403
