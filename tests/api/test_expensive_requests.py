"""Requests that are as expensive as their size allows: the API answers other clients meanwhile, over real sockets."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import median
from uuid import uuid4

import httpx
import pytest

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from tests.api.running import NDJSON, RunningApi, running_api
from tests.api.serving import serving
from tests.databases import cloned_database

BATCH_BYTES = 8 * 1024 * 1024
EVENT_BYTES = 256 * 1024
ATTEMPTS = 3
"""The best of so many counts: garbage is collected in some."""
TIMES_IDLE = 300
"""Maximum delay of another client's request, as a multiple of the idle one. Without the bounds it was above 1,000."""


@dataclass
class Attacked:
    """An API with an idle client beside the attacker."""

    api: RunningApi
    attacker: httpx.AsyncClient
    other: httpx.AsyncClient

    async def seconds(self) -> float:
        """CPU time of this process, all threads, until `/healthz` is answered to the other client.

        Whatever makes the client wait takes it: the event loop, or a thread that keeps the interpreter's lock. Other
        processes of a busy machine do not.
        """
        began = time.process_time()
        assert (await self.other.get("/healthz")).status_code == 200
        return time.process_time() - began

    async def held(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[httpx.Response, float]:
        """The answer to the attacker, and the longest time that the other client waited meanwhile, in times of idle."""
        idle = median([await self.seconds() for _ in range(50)])
        attack = asyncio.create_task(self.attacker.post(path, content=body, headers=headers))
        longest = 0.0
        while not attack.done():
            longest = max(longest, await self.seconds())
        longest = max(longest, await self.seconds())
        return await attack, longest / idle


@pytest.fixture(scope="module")
async def attacked(database_template: str) -> AsyncIterator[Attacked]:
    gc.collect()
    gc.freeze()  # as the API does: what other tests have left is no garbage that a request has to look at
    async with cloned_database(database_template) as url, running_api(url) as api, serving(api.app) as root:
        headers = {"X-AUTH-TOKEN": api.client.headers["X-AUTH-TOKEN"]}
        async with (
            httpx.AsyncClient(base_url=root, headers=headers, timeout=120) as attacker,
            httpx.AsyncClient(base_url=root, timeout=120) as other,
        ):
            yield Attacked(api, attacker, other)


def wrapped(data: str) -> str:
    return f'{{"eventName":"CustomerUpdated","eventId":"{uuid4()}","data":{data}}}'


def unknown_fields(size: int) -> str:
    return "{" + ",".join(f'"{number:x}":0' for number in range(size // 10)) + "}"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BATCH = "/api/default/event/batch"
ARRAYS = "[" + "[]," * (BATCH_BYTES // 3 - 100) + "[]]"
ATTACKS = {
    "one line of the whole body": (BATCH, wrapped(ARRAYS), NDJSON, 413),
    "one entry of the whole body": (
        BATCH,
        "[" + wrapped(ARRAYS) + "]",
        {},
        413,
    ),
    "an array of arrays": (BATCH, ARRAYS, {}, 400),
    "unknown fields in one line": (BATCH, wrapped(unknown_fields(BATCH_BYTES - 1000)), NDJSON, 413),
    "unknown fields in each line": (BATCH, "\n".join([wrapped(unknown_fields(90_000))] * 90), NDJSON, 400),
    "a long number": (BATCH, wrapped(f'{{"a":{"9" * (EVENT_BYTES - 1000)}}}'), NDJSON, 400),
    "quotes without end": (BATCH, "[" + '"' + '\\"' * (BATCH_BYTES // 2 - 100), {}, 413),
    "large events": (BATCH, "\n".join([wrapped("{" + " " * (EVENT_BYTES - 1000) + "}")] * 31), NDJSON, 202),
    "one event": ("/api/default/event", f'{{"event":{wrapped(unknown_fields(EVENT_BYTES - 1000))}}}', {}, 413),
    "a set of subscriptions": (
        "/api/default/webhook/subscription-set",
        f'{{"subscriptionSet":{unknown_fields(BATCH_BYTES - 1000)}}}',
        {},
        413,
    ),
    "a log-in of escapes": ("/admin/login", "username=" + "%41é" * 100_000, FORM, 413),
    "a log-in of quotes": ("/admin/login", "username=" + '"' * 500_000, FORM, 413),
}


@pytest.mark.parametrize("attack", [pytest.param(attack, id=name) for name, attack in ATTACKS.items()])
async def test_others_are_answered_while_an_expensive_request_is_read(
    attacked: Attacked, attack: tuple[str, str, dict[str, str], int]
) -> None:
    path, body, headers, status = attack
    found = []
    for _ in range(ATTEMPTS):
        answer, times = await attacked.held(path, body.encode(), headers)
        assert answer.status_code == status, answer.text[:500]
        found.append(round(times))
        if times <= TIMES_IDLE:
            return
    raise AssertionError(f"/healthz took {found} times as long as idle")


async def test_a_repeated_batch_with_other_content_is_compared_event_by_event(attacked: Attacked) -> None:
    sample = {"eventName": "TransactionRegistered", "data": CATALOGUE["TransactionRegistered"].sample}
    events = [{**sample, "eventId": str(uuid4())} for _ in range(500)]
    lines = "\n".join(map(dump, events)).encode()
    assert (await attacked.attacker.post(BATCH, content=lines, headers=NDJSON)).status_code == 202
    changed = "\n".join(dump({**event, "data": {"documentNumber": "another"}}) for event in events).encode()
    found = []
    for _ in range(ATTEMPTS):
        answer, times = await attacked.held(BATCH, changed, NDJSON)
        assert answer.status_code == 409
        found.append(round(times))
        if times <= TIMES_IDLE:
            break
    assert min(found) <= TIMES_IDLE, found


async def test_at_most_twenty_errors_and_differences_are_listed(attacked: Attacked) -> None:
    wrong = {"eventName": "CustomerUpdated", "data": {str(number): 0 for number in range(100)}}
    single = await attacked.attacker.post("/api/default/event", json={"event": wrong})
    many = await attacked.attacker.post(BATCH, json=[wrong, wrong])
    assert [len(answer.json()["errors"]) for answer in (single, many)] == [20, 20]
    given = [{"eventName": "CustomerUpdated", "eventId": str(uuid4()), "data": {}} for _ in range(30)]
    assert (await attacked.attacker.post(BATCH, json=given)).status_code == 202
    other = [{**event, "eventName": "LevelWillExpire"} for event in given]
    conflict = await attacked.attacker.post(BATCH, json=other)
    assert (conflict.status_code, len(conflict.json()["differences"])) == (409, 20)


async def test_a_number_of_more_than_a_thousand_digits_is_refused_by_its_path(attacked: Attacked) -> None:
    for digits, status in ((1000, 202), (1001, 400)):
        for number in ("9" * digits, f"0.{'9' * (digits - 1)}", f"-{'9' * digits}"):
            body = f'{{"event":{{"eventName":"PointsWillExpire","data":{{"points":{number}}}}}}}'
            answer = await attacked.attacker.post("/api/default/event", content=body)
            assert answer.status_code == status, answer.text
    [error] = answer.json()["errors"]
    assert (error["path"], error["message"]) == ("data.points", "the number has more than 1,000 digits")


async def test_the_first_openapi_document_is_built_beside_other_requests(attacked: Attacked) -> None:
    idle = median([await attacked.seconds() for _ in range(50)])
    document = asyncio.create_task(attacked.attacker.get("/openapi.json"))
    waited = []
    while not document.done():
        waited.append(await attacked.seconds())
    assert json.loads((await document).text)["openapi"].startswith("3.1")
    assert len(waited) > 5
    assert median(waited) <= TIMES_IDLE * idle
