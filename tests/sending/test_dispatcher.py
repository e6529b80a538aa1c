"""Attempts: bounded for a subscription and for a worker, and a fault of ours is no fault of the receiver's."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from temporalio.exceptions import ApplicationError

import worker
from activities import deliver
from domain.delivery.lifecycle import INTERNAL_ERROR_DELAY_SECONDS, Reason
from domain.wire.signing import secret_keys, standard_signature
from sending import dispatcher, subscription_queues
from sending.concurrency import FIRST_REQUESTS, SubscriptionQueue
from sending.subscription_queues import SubscriptionQueues
from storage.sealing import Sealer
from tests.deadlines import eventually
from tests.forward_proxy import scripted_proxy
from tests.receiver import (
    Exchange,
    Received,
    Receiver,
    Reply,
    after,
    close_before_answer,
    hang,
    packet_a_byte,
    status,
    when,
)
from tests.workbench import Workbench, workbench

SCHEDULE = (60, 60)


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, retry_schedule_seconds=SCHEDULE) as bench:
        yield bench


class Crowd:
    """A reply that notes how many requests are there at once, each for a moment."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)
        self.now -= 1
        await status(200)(exchange)


async def test_a_subscription_has_no_more_requests_in_flight_than_it_may(cleared_url: str, receiver: Receiver) -> None:
    crowd = receiver.otherwise = Crowd()
    async with workbench(cleared_url, subscription_concurrency=3) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        batches = [await bench.emit("CustomerUpdated", "{}", 15) for _ in range(2)]
        await asyncio.gather(*(bench.attempt_events(event_ids) for event_ids in batches))
        await bench.until_statuses({"delivered": 30})
    assert crowd.most == 3


async def test_a_worker_has_no_more_requests_in_flight_than_it_may(cleared_url: str, receiver: Receiver) -> None:
    crowd = receiver.otherwise = Crowd()
    async with workbench(cleared_url, attempts_in_flight=3) as bench:
        for number in range(3):
            await bench.subscribe("CustomerUpdated", receiver.url(f"/{number}"))
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 10))
        await bench.until_statuses({"delivered": 30})
    assert crowd.most == 3


async def test_no_more_first_attempts_queue_than_may_and_the_rest_waits_as_rows(
    cleared_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SHORTEST_QUEUE", 5)
    monkeypatch.setattr(deliver, "STALL_SECONDS", 0.1)
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    async with workbench(cleared_url, subscription_concurrency=1, batch_events=1) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        batches = [await bench.emit("CustomerUpdated", "{}", 6) for _ in range(2)]
        both = await asyncio.gather(*(bench.attempt_events(event_ids) for event_ids in batches))
        assert sum(first.retrying for first in both) == 1
        assert await bench.scalar("SELECT count(*) FROM attempt") == 1
        assert await bench.statuses() == {"pending": 1, "held": 11}
        gate.set()
        await bench.until_statuses({"delivered": 1, "held": 11})
        assert bench.woken
    assert len(receiver.requests) == 1


async def test_an_attempt_that_a_batch_has_begun_counts_once(
    cleared_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from within the batch: drains are woken when everything is begun."""
    seen: list[tuple[dict[UUID, int], int]] = []
    async with workbench(cleared_url, subscription_concurrency=1) as bench:
        one = await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        await bench.subscribe("CustomerUpdated", receiver.url("/kept"), rate_limit_per_second=5)

        async def wake(*_: object) -> None:
            seen.append(
                (dict(bench.dispatcher.queues.admissions._admitted), bench.dispatcher.queues._queues[one].under_way)
            )

        monkeypatch.setattr(bench.activities.drains, "wake", wake)
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 3))
    assert seen[0] == ({}, 3)


async def test_a_first_attempt_that_queued_longer_than_its_lease_is_not_made(
    cleared_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sending.dispatcher.OLDEST_INTENT_SECONDS", 0.1)
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    async with workbench(cleared_url, subscription_concurrency=1) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        asked = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 2)))
        await receiver.wait_for(1)  # the other one queues since the same moment
        await asyncio.sleep(0.2)
        gate.set()
        await asked
        [message_id] = await bench.waiting()
        assert (await bench.deliver_webhook(message_id)).status == "delivered"
        attempts = await bench.execute("SELECT number, failure, status_code FROM attempt ORDER BY number, failure")
    assert [tuple(row) for row in attempts] == [(1, "interrupted", None), (1, None, 200), (2, None, 200)]
    assert len(receiver.requests) == 2


ENDS = {
    "pause": ("UPDATE subscription SET status = 'paused'", ("held", "subscription_paused")),
    "disable": ("UPDATE subscription SET status = 'disabled'", ("exhausted", "subscription_disabled")),
    "delete": ("UPDATE subscription SET deleted_at = now()", ("cancelled", "subscription_deleted")),
    "limit": ("UPDATE subscription SET rate_limit_per_second = 5", ("held", "limited")),
}


@pytest.mark.parametrize("act", ENDS)
async def test_what_queues_when_a_subscription_is_stopped_is_not_sent_any_more(
    cleared_url: str, receiver: Receiver, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, (ends_as, reason) = ENDS[act]
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    async with workbench(cleared_url, subscription_concurrency=2) as bench:
        subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        asked = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 30)))
        await receiver.wait_for(2)
        await bench.execute(statement)
        queue = bench.dispatcher.queues._queues[subscription_id]

        async def suspended() -> bool:
            return queue.suspension is not None

        await eventually(suspended, 30, "the worker knows")
        gate.set()
        first = await asked
        assert (first.delivered, first.retrying) == (2, 0)
        assert await bench.statuses() == {"delivered": 2, ends_as: 28}
        rows = await bench.execute("SELECT DISTINCT reason FROM delivery WHERE status = :status", status=ends_as)
        assert [row.reason for row in rows] == [reason]
        assert await bench.scalar("SELECT count(*) FROM attempt") == 2
        assert bool(bench.woken) == (act == "limit")
    assert len(receiver.requests) == 2


async def test_after_a_410_nothing_goes_out_but_what_is_on_the_wire(cleared_url: str, receiver: Receiver) -> None:
    gate = asyncio.Event()
    receiver.script(when(gate, status(410)))
    receiver.otherwise = when(gate, status(200))
    async with workbench(cleared_url, subscription_concurrency=3) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        asked = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 300)))
        await receiver.wait_for(3)
        gate.set()
        await asked
        await bench.until_statuses({"delivered": len(receiver.requests) - 1, "exhausted": 301 - len(receiver.requests)})
    assert len(receiver.requests) <= 5, "three were on the wire; two may have been answered before the 410 was read"


async def test_when_a_breaker_opens_what_queues_waits_as_rows(cleared_url: str, receiver: Receiver) -> None:
    receiver.otherwise = after(0.03, status(500))  # all two hundred would take three seconds
    async with workbench(cleared_url, subscription_concurrency=2, breaker_failures=5) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        first = await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 200))
        assert first.retrying == len(receiver.requests)
        statuses = await bench.statuses()
        assert statuses == {"pending": len(receiver.requests), "held": 200 - len(receiver.requests)}
        assert bench.woken
    assert len(receiver.requests) <= 2 + 5, "two on the wire, and those of the flushes before the fifth failure"


@pytest.mark.parametrize(
    "answer", [status(500), close_before_answer(), after(0.05, status(503))], ids=["fails", "closes", "fails late"]
)
async def test_a_burst_to_a_dead_receiver_sends_at_most_sixty_requests(
    cleared_url: str, receiver: Receiver, answer: Reply
) -> None:
    receiver.otherwise = answer
    async with workbench(cleared_url) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 300))
        assert (await bench.statuses())["held"] == 300 - len(receiver.requests)
    assert len(receiver.requests) <= 60


async def test_a_burst_to_a_receiver_that_dies_in_it_sends_at_most_sixty_more(
    cleared_url: str, receiver: Receiver
) -> None:
    receiver.script(*[after(0.01, status(200))] * 200)
    receiver.otherwise = after(0.01, status(500))
    async with workbench(cleared_url) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 500))
        assert (await bench.statuses())["delivered"] == 200
    assert len(receiver.requests) <= 200 + 60


async def test_costly_responses_delay_the_next_requests_of_their_subscription_alone(
    cleared_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(subscription_queues, "CPU_SHARE", 1e-9)  # so that a slot is kept for the test's time
    receiver.script(*[packet_a_byte()] * 30, path="/costly")
    async with workbench(cleared_url) as bench:
        for path in ("/costly", "/ordinary"):
            await bench.subscribe("CustomerUpdated", receiver.url(path))
        for ordinary in (30, 60):
            await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 30))
            await bench.until_statuses({"delivered": FIRST_REQUESTS + ordinary, "held": ordinary - FIRST_REQUESTS})
    requests = Counter(request.target for request in receiver.requests)
    assert requests == {"/costly": FIRST_REQUESTS, "/ordinary": 60}, "also once no attempt was under way"


@pytest.mark.parametrize(
    ("packets", "in_flight", "seconds"),
    [(8, 1, None), (9, 1, 0.0004), (1008, 1, 0.4), (1008, 10, 4.0)],
    ids=["an ordinary one", "a packet more", "a packet a byte", "and nine others"],
)
async def test_a_slot_is_kept_until_all_responses_took_a_tenth_of_a_core(
    monkeypatch: pytest.MonkeyPatch, packets: int, in_flight: int, seconds: float | None
) -> None:
    """PACKET_SECONDS is the measured time of a packet, so 1,000 more than the cheap ones took 40 ms."""
    queues = SubscriptionQueues(uuid4(), in_flight=100, per_subscription=50, queue_per_subscription=100)
    queue = SubscriptionQueue("default", 50, in_flight=in_flight)
    later: list[float] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda delay, *_: later.append(delay), raising=False)
    queues.release(uuid4(), queue, packets)
    assert later == ([] if seconds is None else [pytest.approx(seconds)])
    assert queue.in_flight == in_flight - (seconds is None)


async def test_a_manual_attempt_does_not_wait_for_first_attempts_that_hang(
    cleared_url: str, receiver: Receiver
) -> None:
    receiver.script(status(500))
    async with workbench(cleared_url, request_timeout_seconds=30) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
        [failed] = await bench.deliveries()
        gate = asyncio.Event()
        receiver.otherwise = when(gate, status(200))
        batch = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 30)))
        await receiver.wait_for(1 + FIRST_REQUESTS)
        manual = bench.dispatcher.begin(await bench.load(failed.message_id), "manual")
        last = (await receiver.wait_for(2 + FIRST_REQUESTS))[-1]
        assert json.loads(last.body)["messageId"] == str(failed.message_id)
        gate.set()
        assert (await manual).status == "delivered"
        await batch


async def test_a_changed_url_header_and_key_apply_to_the_queued_attempts_of_a_batch(
    cleared_url: str, receiver: Receiver
) -> None:
    gate = asyncio.Event()
    receiver.script(*[when(gate, status(200))] * 2)
    async with workbench(cleared_url, subscription_concurrency=2) as bench:
        seal, old, new = bench.sealer().seal, f"whsec_{'A' * 43}=", f"whsec_{'B' * 42}A="
        subscription_id = await bench.subscribe(
            "CustomerUpdated",
            receiver.url("/old"),
            hmac_enabled=True,
            signature_version=1,
            sealed_secret=seal(old),
            sealed_headers=seal('[["X-Own","old"]]'),
        )
        asked = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 30)))
        await receiver.wait_for(2)
        await bench.execute(
            "UPDATE subscription SET url = :url, sealed_headers = :headers, sealed_secret = :secret, "
            "sealed_previous_secret = sealed_secret, previous_secret_until = now() + interval '1 day', "
            "signature_version = 2, updated_at = now() WHERE id = :id",
            url=receiver.url("/new"),
            headers=seal('[["X-Own","new"]]'),
            secret=seal(new),
            id=subscription_id,
        )
        queue = bench.dispatcher.queues._queues[subscription_id]

        async def read() -> bool:
            return queue.subscription is not None and queue.subscription.url.endswith("/new")

        await eventually(read, 30, "the worker knows")
        gate.set()
        assert (await asked).delivered == 30
        urls = await bench.execute("SELECT url, count(*) AS count FROM delivery GROUP BY url")
    sent = [
        (one.target, one.header("X-Own"), one.header("X-Webhook-Signature-Version"), len(standard_signatures(one)))
        for one in receiver.requests
    ]
    assert sent == [("/old", "old", "1", 1)] * 2 + [("/new", "new", "2", 2)] * 28
    for one in receiver.requests[2:]:
        signed = one.header("webhook-id"), one.header("webhook-timestamp"), one.body
        assert standard_signatures(one) == [standard_signature(secret_keys(key)[1], *signed) for key in (new, old)]
    assert {row.url.rpartition("/")[2]: row.count for row in urls} == {"old": 2, "new": 28}


def standard_signatures(request: Received) -> list[str]:
    """The entries of `webhook-signature`."""
    return (request.header("webhook-signature") or "").split()


async def test_a_subscription_has_its_own_timeout(cleared_url: str, receiver: Receiver) -> None:
    receiver.otherwise = hang()
    async with workbench(cleared_url, request_timeout_seconds=30) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"), timeout_seconds=1)
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
        [message_id] = await bench.waiting()
        under_way = bench.dispatcher.under_way(message_id)
        if under_way is not None:
            await under_way
        [attempt] = await bench.execute("SELECT failure, detail FROM attempt")
    assert tuple(attempt) == ("timeout", "no complete answer within 1 s")


async def test_a_changed_concurrency_applies_while_the_subscription_is_busy(
    cleared_url: str, receiver: Receiver
) -> None:
    crowd = receiver.otherwise = Crowd()
    async with workbench(cleared_url) as bench:
        subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"), max_concurrency=2)
        [event_id, *others] = await bench.emit("CustomerUpdated", "{}", 400)
        await bench.attempt_events([event_id, *others])
        held = [await bench.load(row.message_id) for row in await bench.deliveries()]
        tasks = [bench.dispatcher.begin(replace(one, hold_again_as=Reason.RETRY), "automatic") for one in held]
        await receiver.wait_for(20)
        assert crowd.most == 2
        await bench.edit(subscription_id, max_concurrency=8)
        await asyncio.wait(tasks)
    assert crowd.most == 8


async def test_an_attempt_records_what_was_sent_and_what_came_back(bench: Workbench, receiver: Receiver) -> None:
    receiver.script(status(418, body=b"I am a <b>teapot</b>"))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", '{"customer":{}}'))
    [attempt] = await bench.execute("SELECT * FROM attempt")
    [request] = receiver.requests
    assert attempt.body_sha256 == sha256(request.body).digest()
    assert str(attempt.request_id) == json.loads(request.body)["requestId"]
    assert (attempt.status_code, attempt.failure) == (418, "http_4xx")
    assert attempt.response_excerpt == "I am a <b>teapot</b>"
    assert attempt.started_at <= attempt.outcome_at
    assert (attempt.worker_id, attempt.trigger) == (bench.worker_id, "automatic")


async def test_sealed_data_is_sent_whole(bench: Workbench, receiver: Receiver) -> None:
    whole = '{"code":"4711","customer":{}}'
    await bench.subscribe("CustomerRequestedPasswordReset", receiver.url("/hook"))
    sealed = bench.sealer().seal(whole)
    [event_id] = await bench.emit("CustomerRequestedPasswordReset", '{"code":"•••","customer":{}}', sealed_data=sealed)
    assert (await bench.attempt_events([event_id])).delivered == 1
    assert json.loads(receiver.requests[0].body)["data"] == json.loads(whole)


@pytest.mark.parametrize("legacy", [False, True], ids=["modern", "legacy"])
async def test_a_code_that_a_receiver_echoes_is_not_kept(bench: Workbench, receiver: Receiver, legacy: bool) -> None:
    whole = '{"code":"K7Q2M9","codeNumber":482913,"customer":{"phone":"1"}}'
    receiver.script(status(500, body=b'{"you sent": {"code": "K7Q2M9", "codeNumber": 482913}}'))
    await bench.subscribe("CustomerRequestedPasswordReset", receiver.url("/hook"), legacy=legacy)
    masked = '{"code":"•••","codeNumber":"•••","customer":{"phone":"1"}}'
    sealed = bench.sealer().seal(whole)
    [event_id] = await bench.emit("CustomerRequestedPasswordReset", masked, sealed_data=sealed)
    await bench.attempt_events([event_id])
    [attempt] = await bench.execute("SELECT response_excerpt FROM attempt")
    assert attempt.response_excerpt == '{"you sent": {"code": "•••", "codeNumber": •••}}'


BASIC = '{"type":"basic","username":"shop","password":"s3cret"}'
SHOP = "Basic c2hvcDpzM2NyZXQ="


async def test_credentials_are_sent_and_masked_where_a_receiver_echoes_them(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.script(status(500, body=f"you sent {SHOP}, that is shop:s3cret".encode()))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"), sealed_authentication=bench.sealer().seal(BASIC))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    assert receiver.requests[0].header("Authorization") == SHOP
    assert await bench.scalar("SELECT response_excerpt FROM attempt") == "you sent •••, that is shop:•••"


async def test_a_rotation_of_credentials_loses_no_delivery(bench: Workbench, receiver: Receiver) -> None:
    """The receiver changes over while deliveries are sent, before it is told here."""
    accepted = [SHOP]

    async def check(exchange: Exchange) -> None:
        await status(204 if exchange.request.header("Authorization") in accepted else 401)(exchange)

    receiver.otherwise = check
    subscription = await bench.subscribe(
        "CustomerUpdated", receiver.url("/hook"), sealed_authentication=bench.sealer().seal(BASIC)
    )
    events = await bench.emit("CustomerUpdated", "{}", count=4)
    assert (await bench.attempt_events(events[:2])).delivered == 2
    accepted[:] = ["Bearer new"]
    assert (await bench.attempt_events(events[2:])).delivered == 0
    assert await bench.scalar("SELECT DISTINCT last_failure FROM delivery WHERE status = 'pending'") == "http_4xx"
    sealed = bench.sealer().seal('{"type":"bearer","token":"new"}')
    await bench.edit(subscription, sealed_authentication=sealed)
    for message_id in await bench.waiting():
        await bench.deliver_webhook(message_id)
    assert await bench.statuses() == {"delivered": 4}


LOST = Sealer([Fernet.generate_key().decode()])
"""Seals with a key no worker has."""


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"sealed_headers": LOST.seal('[["X-Own","value"]]')}, id="headers sealed with a lost key"),
        pytest.param({"sealed_headers": b"no ciphertext"}, id="headers that were never sealed"),
        pytest.param({"hmac_enabled": True, "sealed_secret": LOST.seal("whsec_")}, id="signing key sealed with a lost"),
        pytest.param({"sealed_authentication": LOST.seal(BASIC)}, id="authentication sealed with a lost key"),
        pytest.param({"sealed_headers": "not JSON"}, id="headers that cannot be read"),
        pytest.param({"hmac_enabled": True, "sealed_secret": "whsec_?"}, id="a signing key that is none"),
    ],
)
async def test_a_fault_of_ours_uses_nothing_up_and_passes_when_it_is_mended(
    bench: Workbench, receiver: Receiver, columns: dict[str, Any]
) -> None:
    sealed = {name: bench.sealer().seal(value) if isinstance(value, str) else value for name, value in columns.items()}
    ailing = await bench.subscribe("CustomerUpdated", receiver.url("/ailing"), **sealed)
    await bench.subscribe("CustomerUpdated", receiver.url("/healthy"))
    first = await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    assert first.delivered == 1
    [message_id] = await bench.waiting()
    due_in = await bench.scalar(
        "SELECT extract(epoch FROM delivery.next_attempt_at - attempt.outcome_at) "
        "FROM delivery JOIN attempt USING (message_id) WHERE delivery.status = 'pending'"
    )
    assert float(due_in) == pytest.approx(INTERNAL_ERROR_DELAY_SECONDS, abs=1)
    for _ in range(3):
        with pytest.raises(ApplicationError, match="internal") as raised:
            await bench.deliver_webhook(message_id)
        assert raised.value.next_retry_delay is not None
        assert raised.value.next_retry_delay.total_seconds() == INTERNAL_ERROR_DELAY_SECONDS
    [delivery] = await bench.execute("SELECT * FROM delivery WHERE status = 'pending'")
    assert (delivery.failures, delivery.attempts, delivery.last_failure) == (0, 4, "internal")
    assert [request.target for request in receiver.requests] == ["/healthy"]
    [subscription] = await bench.execute("SELECT status FROM subscription WHERE id = :id", id=ailing)
    assert subscription.status == "active"
    await bench.edit(ailing, sealed_headers=None, sealed_authentication=None, hmac_enabled=False)
    assert (await bench.deliver_webhook(message_id)).status == "delivered"


async def test_an_event_sealed_with_a_lost_key_holds_up_no_other_of_its_batch(
    bench: Workbench, receiver: Receiver
) -> None:
    await bench.subscribe("CustomerRequestedPasswordReset", receiver.url("/hook"))
    name = "CustomerRequestedPasswordReset"
    lost = await bench.emit(name, '{"code":"•••"}', sealed_data=LOST.seal('{"code":"4711"}'))
    others = await bench.emit(name, '{"code":"•••"}', 5, sealed_data=bench.sealer().seal('{"code":"4711"}'))
    first = await bench.attempt_events([*lost, *others])
    assert first.delivered == 5
    assert [event.event_id for event in first.unsettled] == [str(lost[0])]
    assert [json.loads(request.body)["data"] for request in receiver.requests] == [{"code": "4711"}] * 5


async def test_data_that_cannot_be_read_holds_up_no_other_of_its_batch(bench: Workbench, receiver: Receiver) -> None:
    """No such event is accepted; a row may be damaged all the same."""
    await bench.subscribe("CustomerLevelChanged", receiver.url("/hook"), legacy=True)
    damaged = await bench.emit("CustomerLevelChanged", '{"automatic":true')
    others = await bench.emit("CustomerLevelChanged", '{"automatic":true}', 2)
    first = await bench.attempt_events([*damaged, *others])
    assert first.delivered == 4
    assert [event.event_id for event in first.unsettled] == [str(damaged[0])]


async def test_an_automatic_level_change_is_two_deliveries_in_legacy_form(bench: Workbench, receiver: Receiver) -> None:
    await bench.subscribe("CustomerLevelChanged", receiver.url("/legacy"), legacy=True)
    await bench.subscribe("CustomerLevelChanged", receiver.url("/modern"))
    automatic = '{"automatic":true,"customer":{"customerId":"7d3a1b9e-0f5c-4a86-9b1e-2f6c8d4e7a10"}}'
    await bench.attempt_events(await bench.emit("CustomerLevelChanged", automatic))
    await bench.attempt_events(await bench.emit("CustomerLevelChanged", "{}"))
    types = sorted(json.loads(request.body)["type"] for request in receiver.requests if request.target == "/legacy")
    assert types == ["customer.level_changed", "customer.level_changed", "customer.level_changed_automatically"]
    deliveries = await bench.deliveries()
    assert len(deliveries) == len({delivery.message_id for delivery in deliveries}) == 5
    assert sorted(delivery.variant for delivery in deliveries) == ["automatic", *["main"] * 4]
    assert await bench.statuses() == {"delivered": 5}


async def test_attempts_under_way_end_before_a_worker_does(cleared_url: str, receiver: Receiver) -> None:
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    async with workbench(cleared_url) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        asked = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 3)))
        await receiver.wait_for(3)
        asyncio.get_running_loop().call_later(0.2, gate.set)
        database = bench.database
    assert (await asked).delivered == 3
    del database


async def test_a_worker_that_stops_waits_for_no_receiver_longer_than_its_grace(
    cleared_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "STALL_SECONDS", 1.0)
    receiver.otherwise = when(asyncio.Event(), status(200))
    async with asyncio.timeout(20):
        async with workbench(cleared_url, shutdown_grace_seconds=0.3, request_timeout_seconds=30) as bench:
            await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
            first = await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
            assert first.retrying == 1
    async with workbench(cleared_url) as after:
        receiver.otherwise = status(200)
        [message_id] = await after.waiting()
        assert (await after.deliver_webhook(message_id)).status == "delivered"
        attempts = [(attempt.number, attempt.failure) for attempt in await after.attempts(message_id)]
        assert attempts == [(1, "interrupted"), (2, None)]


async def test_nothing_is_kept_of_subscriptions_whose_attempts_are_over(bench: Workbench, receiver: Receiver) -> None:
    for number in range(20):
        await bench.subscribe("CustomerUpdated", receiver.url(f"/{number}"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 2))

    async def empty() -> bool:
        kept = (
            bench.dispatcher.queues._queues,
            bench.dispatcher._under_way,
            bench.dispatcher.queues.admissions._admitted,
        )
        return not any(kept)

    await eventually(empty, 30, "no queue, attempt or admission is kept")


@pytest.mark.parametrize("answer", [200, 500])
async def test_who_read_a_delivery_before_its_outcome_was_written_does_not_send_it_again(
    bench: Workbench, receiver: Receiver, answer: int
) -> None:
    gate = asyncio.Event()
    receiver.script(when(gate, status(answer)))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    first = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}")))
    await receiver.wait_for(1)
    before = await bench.load(await bench.scalar("SELECT message_id FROM delivery"))
    gate.set()
    await first
    assert not bench.dispatcher.taken(before), "as it was read, nobody sends it"
    with pytest.raises(dispatcher.AttemptTakenError):
        await bench.dispatcher.begin(before, "automatic")
    assert len(receiver.requests) == 1


async def test_a_refusal_by_the_egress_proxy_uses_the_schedule_up_and_blames_no_receiver(cleared_url: str) -> None:
    async with scripted_proxy(b"HTTP/1.1 403 Filtered\r\n\r\n") as proxy:
        proxied = {"egress_proxy_url": SecretStr(f"http://127.0.0.1:{proxy.port}")}
        strict = {"retry_schedule_seconds": (60,), "breaker_failures": 1}
        async with workbench(cleared_url, **strict, **proxied) as bench:
            await bench.subscribe("CustomerUpdated", "http://127.0.0.1:1/hook")
            await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 3))
            assert await bench.statuses() == {"pending": 3}
            assert await bench.scalar("SELECT count(*) FROM subscription_health WHERE failures_in_row > 0") == 0
            for message_id in await bench.waiting():
                assert (await bench.deliver_webhook(message_id)).status == "exhausted"
            failures = await bench.execute("SELECT DISTINCT reason, last_failure FROM delivery")
            assert [tuple(row) for row in failures] == [("schedule_used_up", "proxy_refused")]
