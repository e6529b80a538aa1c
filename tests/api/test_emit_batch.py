"""Emitting many events: an array or lines, all of them or none, each answered in its place."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from tests.api.running import NDJSON, RunningApi, running_api
from tests.api.test_emit import problems
from tests.databases import cloned_database
from tests.ground import EVENT_WITH_BODY

BATCH_EVENTS = 50
EVENT_BYTES = 20_000


@pytest.fixture(scope="module")
async def api(database_template: str) -> AsyncIterator[RunningApi]:
    limits = {"batch_limit_events": BATCH_EVENTS, "event_limit_bytes": EVENT_BYTES, "batch_limit_bytes": 200_000}
    async with cloned_database(database_template) as url, running_api(url, **limits) as running:
        yield running


def event(event_id: str | None = None, name: str = "LevelWillExpire", **data: Any) -> dict[str, Any]:
    return {"eventName": name, "eventId": event_id or str(uuid4()), "data": data}


async def send(api: RunningApi, events: list[Any], form: str) -> httpx.Response:
    if form == "array":
        return await api.post("event/batch", events)
    return await api.post("event/batch", "\n".join(json.dumps(each) for each in events), headers=NDJSON)


both_forms = pytest.mark.parametrize("form", ["array", "lines"])


@both_forms
async def test_a_batch_is_answered_with_a_row_for_each_event_in_order(api: RunningApi, form: str) -> None:
    events = [event(levelName=f"level {number}") for number in range(BATCH_EVENTS)]
    answer = await send(api, events, form)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"items": [{"eventId": each["eventId"], "duplicate": False} for each in events]}
    rows = await api.execute(
        f"SELECT event_id, data FROM {EVENT_WITH_BODY} WHERE event_id = ANY(:ids) ORDER BY sequence",
        ids=[UUID(each["eventId"]) for each in events],
    )
    assert [(str(row.event_id), json.loads(row.data)) for row in rows] == [
        (each["eventId"], each["data"]) for each in events
    ]


@both_forms
async def test_events_without_an_id_get_one_each(api: RunningApi, form: str) -> None:
    answer = await send(api, [{"eventName": "CustomerUpdated", "data": {}}] * 3, form)
    assert len({item["eventId"] for item in answer.json()["items"]}) == 3


@both_forms
async def test_one_wrong_event_refuses_the_whole_batch_with_its_index(api: RunningApi, form: str) -> None:
    before = await api.count()
    events = [event(), event(name="CustomerRegistred"), event(levelName=7), {"eventName": "CustomerUpdated"}, 5]
    answer = await send(api, events, form)
    assert answer.status_code == 400
    assert problems(answer.json()) == {
        "1.eventName": "unknown_event",
        "2.data.levelName": "not_a_string",
        "3.data": "missing",
        "4": "model_type",
    }
    assert await api.count() == before


async def test_a_line_that_is_no_json_is_named_by_its_index_beside_the_other_problems(api: RunningApi) -> None:
    right, half = b'{"eventName":"CustomerUpdated","data":{}}', b'{"eventName":'
    nan = b'{"eventName":"PointsWillExpire","data":{"points":NaN}}'
    body = b"\n".join([right, b"", half, nan, b"{}"])
    answer = await api.post("event/batch", body, headers=NDJSON)
    assert problems(answer.json()) == {
        "1": "invalid_json",
        "2.data.points": "invalid_json",
        "3.eventName": "missing",
        "3.data": "missing",
    }


async def test_an_array_that_is_no_json_names_the_path(api: RunningApi) -> None:
    answer = await api.post("event/batch", b'[{"eventName":"a","eventName":"b","data":{}}]')
    assert problems(answer.json()) == {"0.eventName": "invalid_json"}


@both_forms
async def test_the_same_id_twice_with_the_same_content_is_a_duplicate_of_itself(api: RunningApi, form: str) -> None:
    once = event(levelName="gold")
    answer = await send(api, [once, event(), once], form)
    assert [item["duplicate"] for item in answer.json()["items"]] == [False, False, True]


@both_forms
async def test_the_same_id_twice_with_other_content_refuses_the_batch(api: RunningApi, form: str) -> None:
    before = await api.count()
    event_id = str(uuid4())
    answer = await send(api, [event(event_id, levelName="gold"), event(), event(event_id, levelName="silver")], form)
    assert answer.status_code == 409
    assert answer.json()["differences"] == ["2.data.levelName"]
    assert await api.count() == before


@both_forms
async def test_events_that_were_there_are_duplicates_and_the_others_are_stored(api: RunningApi, form: str) -> None:
    known = [event(levelName="a"), event(levelName="b")]
    await send(api, known, form)
    answer = await send(api, [known[0], event(), known[1]], form)
    assert [item["duplicate"] for item in answer.json()["items"]] == [True, False, True]


@both_forms
async def test_a_conflict_with_what_is_stored_stores_nothing_and_names_every_difference(
    api: RunningApi, form: str
) -> None:
    known = event(levelName="a", levelId=str(uuid4()))
    await send(api, [known], form)
    before = await api.count()
    changed = {**known, "data": {"levelName": "b"}}
    answer = await send(api, [event(), changed, {**known, "eventName": "CustomerUpdated", "data": {}}], form)
    assert answer.status_code == 409
    assert answer.json()["differences"][:3] == ["1.data.levelName", "1.data.levelId", "2.eventName"]
    assert await api.count() == before


class TestLimits:
    @both_forms
    async def test_more_events_than_the_limit(self, api: RunningApi, form: str) -> None:
        answer = await send(api, [event() for _ in range(BATCH_EVENTS + 1)], form)
        assert answer.status_code == 413
        assert str(BATCH_EVENTS) in answer.json()["message"]

    async def test_more_bytes_than_the_limit(self, api: RunningApi) -> None:
        assert (await api.post("event/batch", b" " * 200_001)).status_code == 413

    async def test_a_body_that_grows_beyond_the_limit_without_having_said_so(self, api: RunningApi) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b" " * 10_000

        answer = await api.client.post(api.url("event/batch"), content=endless())
        assert answer.status_code == 413

    @both_forms
    async def test_an_event_larger_than_one_may_be(self, api: RunningApi, form: str) -> None:
        answer = await send(api, [event(), event(levelName="x" * EVENT_BYTES)], form)
        assert answer.status_code == 413
        assert "event 1" in answer.json()["message"]

    @both_forms
    async def test_a_batch_without_events(self, api: RunningApi, form: str) -> None:
        assert problems((await send(api, [], form)).json()) == {"": "empty"}

    async def test_lines_that_are_blank_are_skipped(self, api: RunningApi) -> None:
        body = "\r\n".join(["", json.dumps(event()), " ", json.dumps(event()), ""])
        answer = await api.post("event/batch", body, headers=NDJSON)
        assert len(answer.json()["items"]) == 2

    async def test_nothing_but_blank_lines_without_end(self, api: RunningApi) -> None:
        assert (await api.post("event/batch", b"\n" * 150_000, headers=NDJSON)).status_code == 413

    async def test_an_object_is_no_batch(self, api: RunningApi) -> None:
        assert problems((await api.post("event/batch", {"event": event()})).json()) == {"": "list_type"}


async def test_the_media_type_may_have_parameters_and_any_case(api: RunningApi) -> None:
    headers = {"Content-Type": "Application/X-NDJSON; charset=utf-8"}
    assert (await api.post("event/batch", json.dumps(event()), headers=headers)).status_code == 202


async def test_numbers_stay_as_they_were_written(api: RunningApi) -> None:
    event_id = str(uuid4())
    data = '{"points":10.10,"remainingUnits":12345678901234567890}'
    line = f'{{"eventName":"PointsWillExpire","eventId":"{event_id}","data":{data}}}'
    assert (await api.post("event/batch", line, headers=NDJSON)).status_code == 202
    assert (await api.stored(event_id)).data == data


async def test_batches_with_the_same_ids_in_any_order_neither_deadlock_nor_store_twice(api: RunningApi) -> None:
    events = [event(levelName=str(number)) for number in range(BATCH_EVENTS)]
    shuffles = [events[turn:] + events[:turn] for turn in range(0, BATCH_EVENTS, 5)]
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(send(api, shuffle, "lines") for shuffle in shuffles))
    assert {answer.status_code for answer in answers} == {202}
    fresh = [item["eventId"] for answer in answers for item in answer.json()["items"] if not item["duplicate"]]
    assert sorted(fresh) == sorted(each["eventId"] for each in events)


async def test_other_requests_are_answered_while_a_large_batch_is_checked(database_url: str) -> None:
    async with running_api(database_url) as api:
        data = dump({"eventName": "CustomerRegistered", "data": CATALOGUE["CustomerRegistered"].sample})
        batch = asyncio.create_task(api.post("event/batch", "\n".join([data] * 1000), headers=NDJSON))
        answered = 0
        while not batch.done():
            assert (await api.get("/healthz")).status_code == 200
            answered += 1
            await asyncio.sleep(0)  # in one process a request need not wait for anything, so it gives no turn by itself
        assert (await batch).status_code == 202
    assert answered > 10
