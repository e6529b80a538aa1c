"""Emitting one event: accepted exactly and once, refused clearly, never half."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from storage.sealing import Sealer
from tests.api.running import ENCRYPTION_KEY, RunningApi, add_key, running_api
from tests.databases import cloned_database

UUID4 = "3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b"


@pytest.fixture(scope="module")
async def api(database_template: str) -> AsyncIterator[RunningApi]:
    """One API for all of these: each test emits events of its own."""
    async with (
        cloned_database(database_template) as url,
        running_api(url, event_limit_bytes=64 * 1024) as running,
    ):
        yield running


def problems(answer_body: dict) -> dict[str, str]:
    """Path -> code."""
    assert answer_body["message"] == "Validation failed"
    assert answer_body["code"] == 400
    for error in answer_body["errors"]:
        assert set(error) == {"message", "parameters", "plural", "code", "path"}
    return {error["path"]: error["code"] for error in answer_body["errors"]}


async def test_an_accepted_event_is_committed_when_the_answer_arrives(api: RunningApi) -> None:
    answer = await api.emit("CustomerUpdated", {"customer": {"customerId": UUID4}})
    assert answer.status_code == 202
    assert answer.json() == {"eventId": answer.json()["eventId"], "duplicate": False}
    row = await api.stored(answer.json()["eventId"])
    assert (row.name, row.store_code, row.matched_at) == ("CustomerUpdated", "default", None)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
async def test_the_sample_of_every_event_is_accepted_and_kept_to_the_letter(api: RunningApi, name: str) -> None:
    event_type = CATALOGUE[name]
    body = dump({"event": {"eventName": name, "data": event_type.sample}})
    answer = await api.post("event", body)
    assert answer.status_code == 202, answer.text
    row = await api.stored(answer.json()["eventId"])
    whole = Sealer([ENCRYPTION_KEY]).open(row.sealed_data) if row.sealed_data else row.data
    assert whole == dump(event_type.sample)
    assert (row.sealed_data is not None) == ("•••" in row.data)


async def test_numbers_stay_as_they_were_written(api: RunningApi) -> None:
    data = f'{{"accountId":"{UUID4}","points":10.10,"remainingUnits":12345678901234567890.10}}'
    answer = await api.post("event", f'{{"event":{{"eventName":"PointsWillExpire","data":{data}}}}}')
    assert answer.status_code == 202, answer.text
    assert (await api.stored(answer.json()["eventId"])).data == data
    shown = await api.get(f"event/{answer.json()['eventId']}")
    assert f'"data":{data}' in shown.text


async def test_secrets_are_masked_in_the_log_and_sealed_beside_it(api: RunningApi) -> None:
    data = {"customer": {"customerId": UUID4}, "code": "OPEN-SESAME"}
    answer = await api.emit("CustomerRequestedPasswordReset", data)
    assert answer.status_code == 202, answer.text
    row = await api.stored(answer.json()["eventId"])
    assert "OPEN-SESAME" not in row.data
    assert b"OPEN-SESAME" not in row.sealed_data
    assert hashlib.sha256(b"OPEN-SESAME").digest() not in row.digest
    assert json.loads(Sealer([ENCRYPTION_KEY]).open(row.sealed_data)) == data
    assert (await api.get(f"event/{answer.json()['eventId']}")).json()["data"]["code"] == "•••"


class TestCreatedAt:
    async def test_stays_as_the_emitter_wrote_it(self, api: RunningApi) -> None:
        answer = await api.emit(createdAt="2026-03-29T02:30:00.5+01:00")
        row = await api.stored(answer.json()["eventId"])
        assert row.created_at_text == "2026-03-29T02:30:00.5+01:00"
        assert row.created_at.isoformat() == "2026-03-29T01:30:00.500000+00:00"

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("0001-01-01T00:00:01Z", id="the first second but one"),
            pytest.param("9999-12-31T23:59:59Z", id="the last second"),
            pytest.param("1969-12-31T23:59:59-23:59", id="the widest offset"),
            pytest.param("2026-01-02T03:04:05.123456789012Z", id="more digits than a clock has"),
            pytest.param("2026-01-02T03:04:05-00:00", id="an unknown offset"),
        ],
    )
    async def test_is_taken_exactly(self, api: RunningApi, text: str) -> None:
        answer = await api.emit(createdAt=text)
        assert answer.status_code == 202, answer.text
        assert (await api.stored(answer.json()["eventId"])).created_at_text == text
        assert (await api.get(f"event/{answer.json()['eventId']}")).json()["createdAt"] == text

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            pytest.param("2026-01-02T03:04:05", "not_a_date_time", id="no offset"),
            pytest.param("2016-12-31T23:59:60Z", "not_a_date_time", id="a leap second"),
            pytest.param("1900-01-01T00:00:00+01:24:00", "not_a_date_time", id="an offset with seconds"),
            pytest.param("2026-02-30T00:00:00Z", "not_a_date_time", id="no such day"),
            pytest.param("2026-01-02", "not_a_date_time", id="a date"),
            pytest.param("0000-01-01T00:00:00Z", "not_a_date_time", id="the year 0"),
            pytest.param("0001-01-01T00:00:00+00:01", "out_of_range", id="before year 1 in UTC"),
            pytest.param("9999-12-31T23:59:59-00:01", "out_of_range", id="after year 9999 in UTC"),
            pytest.param("0001-01-01T00:00:00Z", "out_of_range", id="what the driver calls -infinity"),
            pytest.param("9999-12-31T23:59:59.999999Z", "out_of_range", id="what the driver calls infinity"),
            pytest.param(1767323045, "string_type", id="Unix seconds"),
            pytest.param(None, "string_type", id="null"),
        ],
    )
    async def test_is_refused_clearly(self, api: RunningApi, text: object, code: str) -> None:
        answer = await api.emit(createdAt=text)
        assert answer.status_code == 400, answer.text
        assert problems(answer.json()) == {"createdAt": code}


class TestTheSameIdAgain:
    async def test_with_the_same_content_is_a_duplicate(self, api: RunningApi) -> None:
        event_id = str(uuid4())
        first = await api.emit(data={"customer": {"customerId": UUID4}}, eventId=event_id)
        again = await api.emit(data={"customer": {"customerId": UUID4}}, eventId=event_id.upper())
        assert first.json() == {"eventId": event_id, "duplicate": False}
        assert again.status_code == 202
        assert again.json() == {"eventId": event_id, "duplicate": True}
        assert len(await api.execute("SELECT 1 FROM event WHERE event_id = :id", id=UUID(event_id))) == 1

    @pytest.mark.parametrize(
        ("once", "again"),
        [
            pytest.param('{"points":10.10}', '{ "points" : 10.1 }', id="numbers by value"),
            pytest.param('{"points":100}', '{"points":1E+2}', id="an integer and a power of ten"),
            pytest.param('{"points":0}', '{"points":-0.0}', id="the two zeros"),
            pytest.param('{"points":1,"remainingUnits":2}', '{"remainingUnits":2,"points":1}', id="order of keys"),
            pytest.param(f'{{"accountId":"{UUID4}"}}', f'{{"accountId":"\\u0033{UUID4[1:]}"}}', id="escapes"),
        ],
    )
    async def test_compares_data_as_json_values(self, api: RunningApi, once: str, again: str) -> None:
        event_id = uuid4()
        body = '{"event":{"eventId":"%s","eventName":"PointsWillExpire","data":%s}}'
        assert (await api.post("event", body % (event_id, once))).json()["duplicate"] is False
        answer = await api.post("event", body % (event_id, again))
        assert (answer.status_code, answer.json()) == (202, {"eventId": str(event_id), "duplicate": True})
        assert (await api.stored(str(event_id))).data == once

    async def test_with_other_content_is_a_conflict_that_names_what_differs(self, api: RunningApi) -> None:
        event_id = str(uuid4())
        first = {"accountId": UUID4, "points": 10, "remainingUnits": 5}
        await api.emit("PointsWillExpire", first, eventId=event_id, createdAt="2026-01-02T03:04:05Z")
        other = {"accountId": UUID4, "points": 11, "pointsWillExpire": "2026-01-02T03:04:05Z"}
        answer = await api.emit("PointsWillExpire", other, eventId=event_id, createdAt="2026-01-02T03:04:06Z")
        assert answer.status_code == 409
        assert answer.json()["code"] == 409
        assert answer.json()["differences"] == [
            "createdAt",
            "data.points",
            "data.pointsWillExpire",
            "data.remainingUnits",
        ]
        answer = await api.emit("CustomerUpdated", {}, eventId=event_id)
        assert answer.json()["differences"][0] == "eventName"
        assert json.loads((await api.stored(event_id)).data) == first

    async def test_created_at_counts_only_when_the_caller_gives_one(self, api: RunningApi) -> None:
        event_id = str(uuid4())
        await api.emit(eventId=event_id, createdAt="2026-01-02T03:04:05Z")
        assert (await api.emit(eventId=event_id)).json()["duplicate"] is True
        same_instant = await api.emit(eventId=event_id, createdAt="2026-01-02T04:04:05+01:00")
        assert same_instant.json()["duplicate"] is True
        other = await api.emit(eventId=event_id, createdAt="2026-01-02T03:04:05.1Z")
        assert other.json()["differences"] == ["createdAt"]

    async def test_a_retry_may_give_the_created_at_that_was_filled_in(self, api: RunningApi) -> None:
        event_id = str(uuid4())
        await api.emit(eventId=event_id)
        filled_in = (await api.get(f"event/{event_id}")).json()["createdAt"]
        assert (await api.emit(eventId=event_id, createdAt=filled_in)).json()["duplicate"] is True
        assert (await api.emit(eventId=event_id, createdAt="2001-01-01T00:00:00Z")).status_code == 409

    async def test_secrets_are_compared_without_being_told(self, api: RunningApi) -> None:
        event_id = str(uuid4())
        data = {"customer": {"customerId": UUID4}, "code": "first"}
        await api.emit("CustomerRequestedPasswordReset", data, eventId=event_id)
        same = await api.emit("CustomerRequestedPasswordReset", data, eventId=event_id)
        other = await api.emit("CustomerRequestedPasswordReset", data | {"code": "second"}, eventId=event_id)
        assert same.json()["duplicate"] is True
        assert other.status_code == 409
        assert other.json()["differences"] == ["data.code"]
        assert "first" not in other.text
        assert "second" not in other.text

    async def test_a_mask_sent_back_is_not_the_secret(self, api: RunningApi) -> None:
        event_id = str(uuid4())
        data = {"customer": {"customerId": UUID4}, "code": "first"}
        await api.emit("CustomerRequestedPasswordReset", data, eventId=event_id)
        masked = await api.emit("CustomerRequestedPasswordReset", data | {"code": "•••"}, eventId=event_id)
        assert masked.json()["differences"] == ["data.code"]

    async def test_belongs_to_its_store(self, api: RunningApi) -> None:
        await api.execute("INSERT INTO store (code, name) VALUES ('other', 'Another')")
        other = replace(api, store="other")
        event_id = str(uuid4())
        await api.emit(eventId=event_id)
        assert (await other.emit(eventId=event_id, createdAt="2001-01-01T00:00:00Z")).json()["duplicate"] is False
        assert (await other.get(f"event/{event_id}")).json()["storeCode"] == "other"


class TestRefused:
    async def test_an_unknown_name_with_the_nearest_one(self, api: RunningApi) -> None:
        answer = await api.emit("CustomerRegistred")
        assert problems(answer.json()) == {"eventName": "unknown_event"}
        assert "CustomerRegistered" in answer.json()["errors"][0]["message"]

    async def test_a_name_that_is_like_none_is_not_repeated_whole(self, api: RunningApi) -> None:
        answer = await api.emit("Ω" * 5000)
        assert problems(answer.json()) == {"eventName": "unknown_event"}
        assert len(answer.text) < 1000

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            pytest.param(b"", {"": "invalid_json"}, id="nothing"),
            pytest.param(b"{", {"": "invalid_json"}, id="half an object"),
            pytest.param(b"null", {"": "model_type"}, id="null"),
            pytest.param(b"[]", {"": "model_type"}, id="an array"),
            pytest.param(b"{}", {"event": "missing"}, id="no wrapper"),
            pytest.param(b'{"event":null}', {"": "model_type"}, id="null in the wrapper"),
            pytest.param(b'{"event":{}}', {"eventName": "missing", "data": "missing"}, id="nothing in the wrapper"),
            pytest.param(
                b'{"event":{"eventName":"CustomerUpdated","data":{}},"extra":1}',
                {"extra": "extra_forbidden"},
                id="something beside the wrapper",
            ),
            pytest.param(
                b'{"event":{"eventName":"CustomerUpdated","data":{},"id":1}}',
                {"id": "extra_forbidden"},
                id="an unknown field",
            ),
            pytest.param(b'{"event":{"eventName":7,"data":{}}}', {"eventName": "string_type"}, id="a number as name"),
            pytest.param(
                b'{"event":{"eventName":"CustomerUpdated","data":{},"eventId":"7"}}',
                {"eventId": "not_a_uuid"},
                id="an id that is no UUID",
            ),
            pytest.param(
                b'{"event":{"eventName":"CustomerUpdated","data":{},"eventId":null}}',
                {"eventId": "string_type"},
                id="null as id",
            ),
            pytest.param(
                b'{"event":{"eventName":"CustomerUpdated","data":[]}}', {"data": "not_an_object"}, id="data an array"
            ),
            pytest.param(
                b'{"event":{"eventName":"CustomerUpdated","data":{"customer":{"nick":1}}}}',
                {"data.customer.nick": "unknown_field"},
                id="an unknown field of the data",
            ),
            pytest.param(
                b'{"event":{"eventName":"PointsWillExpire","data":{"points":NaN}}}',
                {"data.points": "invalid_json"},
                id="NaN",
            ),
            pytest.param(
                b'{"event":{"eventName":"PointsWillExpire","data":{"points":-Infinity}}}',
                {"data.points": "invalid_json"},
                id="-Infinity",
            ),
            pytest.param(
                b'{"event":{"eventName":"PointsWillExpire","data":{"points":"10"}}}',
                {"data.points": "not_a_number"},
                id="a text for a number",
            ),
            pytest.param(
                b'{"event":{"eventName":"PointsWillExpire","data":{"points":1E+99999}}}',
                {"data.points": "invalid_json"},
                id="a number without end",
            ),
            pytest.param(
                b'{"event":{"eventName":"LevelWillExpire","data":{"levelName":"\\ud800"}}}',
                {"data.levelName": "invalid_json"},
                id="half of a surrogate pair",
            ),
            pytest.param(
                b'{"event":{"eventName":"LevelWillExpire","data":{"levelName":"a\\u0000b"}}}',
                {"data.levelName": "invalid_json"},
                id="an escaped NUL",
            ),
            pytest.param(
                b'{"event":{"eventName":"LevelWillExpire","data":{"levelName":"a\x00b"}}}',
                {"": "invalid_json"},
                id="a raw NUL",
            ),
            pytest.param(
                b'{"event":{"eventName":"LevelWillExpire","data":{"levelName":"\xff"}}}',
                {"": "invalid_json"},
                id="no UTF-8",
            ),
            pytest.param(
                b'\xef\xbb\xbf{"event":{"eventName":"LevelWillExpire","data":{}}}',
                {"": "invalid_json"},
                id="a byte order mark",
            ),
            pytest.param(
                b'{"event":{"eventName":"LevelWillExpire","data":{"levelName":"a","levelName":"b"}}}',
                {"data.levelName": "invalid_json"},
                id="a key twice",
            ),
            pytest.param(
                b'{"event":{"eventName":"LevelWillExpire","data":' + b"[" * 4_000 + b"]" * 4_000 + b"}}",
                {"": "invalid_json"},
                id="nesting without end",
            ),
        ],
    )
    async def test_with_its_path_and_never_as_our_fault(
        self, api: RunningApi, body: bytes, expected: dict[str, str]
    ) -> None:
        before = await api.count()
        answer = await api.post("event", body)
        assert answer.status_code == 400, answer.text
        assert problems(answer.json()) == expected
        assert await api.count() == before

    async def test_a_body_over_the_limit(self, api: RunningApi) -> None:
        body = dump({"event": {"eventName": "LevelWillExpire", "data": {"levelName": "x" * 64 * 1024}}})
        answer = await api.post("event", body)
        assert (answer.status_code, answer.json()["code"]) == (413, 413)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b'{"event":{"eventName":"CustomerUpdated","data":{}}}', id="valid"),
            pytest.param(b"{", id="invalid"),
            pytest.param(b" " * 65 * 1024, id="too large"),
        ],
    )
    async def test_without_a_key_a_store_or_the_right_before_its_body_is_read(
        self, api: RunningApi, body: bytes
    ) -> None:
        before = await api.count()
        assert (await api.post("event", body, headers={"X-AUTH-TOKEN": "wrong"})).status_code == 401
        reader = await add_key(api.database, scopes=("delivery:read",))
        assert (await api.post("/api/nowhere/event", body)).status_code == 404
        assert (await api.post("/api/nowhere/event", body, headers={"X-AUTH-TOKEN": reader})).status_code == 404
        assert (await api.post("event", body, headers={"X-AUTH-TOKEN": reader})).status_code == 403
        stranger = await add_key(api.database, stores=("elsewhere",))
        assert (await api.post("event", body, headers={"X-AUTH-TOKEN": stranger})).status_code == 404
        assert await api.count() == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    event=json_values
    | st.fixed_dictionaries(
        {"eventName": st.sampled_from(sorted(CATALOGUE)) | json_values, "data": json_values},
        optional={"eventId": json_values, "createdAt": json_values},
    )
)
async def test_whatever_is_sent_is_accepted_or_refused_and_never_our_fault(api: RunningApi, event: object) -> None:
    answer = await api.post("event", json.dumps({"event": event}).encode("utf-8", "surrogatepass"))
    assert answer.status_code in (202, 400), answer.text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
async def test_bytes_that_are_no_event_are_refused(api: RunningApi, body: bytes) -> None:
    assert (await api.post("event", body)).status_code == 400
    assert (await api.post("event/batch", body)).status_code == 400
    lines = await api.post("event/batch", body, headers={"Content-Type": "application/x-ndjson"})
    assert lines.status_code in (400, 413)


async def test_a_platform_ahead_of_the_catalogue_may_be_let_through(database_url: str) -> None:
    async with running_api(database_url, allow_unknown_fields=True) as api:
        data = {"customer": {"customerId": UUID4, "newField": 1.50}}
        answer = await api.post("event", '{"event":{"eventName":"CustomerUpdated","data":{"customer":{"new":1.50}}}}')
        assert answer.status_code == 202, answer.text
        assert (await api.emit(data=data)).status_code == 202
