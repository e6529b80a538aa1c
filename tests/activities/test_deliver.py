"""First and later attempts as activities: made once, resumed, joined, waited for, taken over from the dead."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import deliver
from sending.dispatcher import LEASE_POLL_SECONDS, AttemptTakenError
from storage.deliveries.matching import match
from temporal.messages import EventBatch
from tests.deadlines import eventually
from tests.ground import Ground
from tests.receiver import Receiver, status, when
from tests.workbench import Workbench, workbench

pytestmark = pytest.mark.usefixtures("patient_batches")

SCHEDULE = (60, 60)


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, retry_schedule_seconds=SCHEDULE) as bench:
        yield bench


@pytest.fixture
async def other(cleared_url: str) -> AsyncIterator[Workbench]:
    """A second worker on the same database."""
    async with workbench(cleared_url, retry_schedule_seconds=SCHEDULE) as bench:
        yield bench


async def numbers(bench: Workbench, message_id: UUID | str) -> list[tuple[int, int | None, str | None]]:
    """(number, status code, failure) of the attempts of a delivery."""
    attempts = await bench.attempts(UUID(str(message_id)))
    return [(attempt.number, attempt.status_code, attempt.failure) for attempt in attempts]


async def seconds_until(bench: Workbench, column: str) -> float:
    """Return the seconds until an instant of the only delivery."""
    return float(await bench.scalar(f"SELECT extract(epoch FROM {column} - clock_timestamp()) FROM delivery"))


async def test_what_is_settled_at_once_is_not_waited_for_again(bench: Workbench, receiver: Receiver) -> None:
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    first = await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 3))
    assert (first.delivered, first.exhausted, first.held, first.retrying, first.unsettled) == (3, 0, 0, 0, [])
    assert await bench.statuses() == {"delivered": 3}


async def test_a_second_execution_sends_nothing_that_has_an_outcome(
    bench: Workbench, other: Workbench, receiver: Receiver
) -> None:
    receiver.script(status(500), path="/failing")
    await bench.subscribe("CustomerUpdated", receiver.url("/healthy"))
    await bench.subscribe("CustomerUpdated", receiver.url("/failing"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    first = await bench.attempt_events(event_ids)
    assert (first.delivered, first.retrying, first.unsettled) == (1, 1, await bench.refs(event_ids))
    due_at = await bench.scalar("SELECT next_attempt_at FROM delivery WHERE status = 'pending'")
    failed_at = await bench.scalar("SELECT max(outcome_at) FROM attempt WHERE failure IS NOT NULL")
    assert 53.9 <= (due_at - failed_at).total_seconds() <= 66.1
    for again in (await bench.attempt_events(event_ids), await other.attempt_events(event_ids)):
        assert (again.delivered, again.exhausted, again.retrying) == (0, 0, 1)
    assert await bench.scalar("SELECT next_attempt_at FROM delivery WHERE status = 'pending'") == due_at
    assert len(receiver.requests) == 2
    assert await bench.statuses() == {"delivered": 1, "pending": 1}


async def test_a_subscription_made_or_edited_after_the_match_changes_nothing(
    bench: Workbench, receiver: Receiver
) -> None:
    first_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    await bench.attempt_events(event_ids)
    await bench.execute("UPDATE event SET accepted_at = accepted_at + interval '1 hour'")
    await bench.subscribe("CustomerUpdated", receiver.url("/late"))
    await bench.edit(first_id, url=receiver.url("/elsewhere"), legacy=True)
    await bench.attempt_events(event_ids)
    assert [request.target for request in receiver.requests] == ["/hook"]
    assert len(await bench.deliveries()) == 1


async def test_two_executions_at_once_in_one_worker_share_their_attempts(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "STALL_SECONDS", 0.2)
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}", 5)
    both = await asyncio.gather(*(bench.attempt_events(event_ids) for _ in range(2)))
    assert [first.retrying for first in both] == [5, 5]
    later = [asyncio.create_task(bench.deliver_webhook(message_id)) for message_id in await bench.waiting()]
    await asyncio.wait(later, timeout=2 * LEASE_POLL_SECONDS)
    gate.set()
    assert [(await end).status for end in later] == ["delivered"] * 5
    assert len(receiver.requests) == 5


async def test_two_executions_at_once_in_two_workers_send_once(
    bench: Workbench, other: Workbench, receiver: Receiver
) -> None:
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}", 50)
    both = await asyncio.gather(*(worker.attempt_events(event_ids) for worker in (bench, other)))
    await bench.until_statuses({"delivered": 50})
    assert len(receiver.requests) == 50
    assert sum(first.delivered for first in both) == 50


async def test_a_live_lease_of_another_worker_is_waited_for(
    bench: Workbench, other: Workbench, receiver: Receiver
) -> None:
    gate = asyncio.Event()
    receiver.script(when(gate, status(200)))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    one = asyncio.create_task(bench.attempt_events(event_ids))
    await receiver.wait_for(1)
    assert (await other.attempt_events(event_ids)).retrying == 1
    [message_id] = await other.waiting()
    later = asyncio.create_task(other.deliver_webhook(message_id))
    await asyncio.sleep(3 * LEASE_POLL_SECONDS)
    assert not later.done()
    gate.set()
    assert (await later).status == "delivered"
    await one
    assert len(receiver.requests) == 1


async def test_the_attempt_of_a_dead_worker_is_closed_as_interrupted_and_the_next_is_made(
    bench: Workbench, cleared_url: str, receiver: Receiver
) -> None:
    gate = asyncio.Event()
    receiver.script(when(gate, status(200)), path="/hook")
    async with workbench(cleared_url, leased=False) as dead:
        await dead.subscribe("CustomerUpdated", receiver.url("/hook"))
        await dead.subscribe("CustomerUpdated", receiver.url("/other"))
        event_ids = await dead.emit("CustomerUpdated", "{}")
        unheard = asyncio.create_task(dead.attempt_events(event_ids))
        await receiver.wait_for(2)
        await dead.until_statuses({"pending": 1, "delivered": 1})
        first = await bench.attempt_events(event_ids)
        assert (first.delivered, first.retrying) == (1, 0)
        targets = [request.target for request in receiver.requests]
        assert sorted(targets) == ["/hook", "/hook", "/other"]
        message_id = json.loads(next(r.body for r in receiver.requests if r.target == "/hook"))["messageId"]
        assert await numbers(bench, message_id) == [(1, None, "interrupted"), (2, 200, None)]

        gate.set()  # the worker was not dead, only stopped: what it brings is recorded and changes nothing
        await unheard
        assert await numbers(bench, message_id) == [(1, 200, None), (2, 200, None)]
        assert await bench.statuses() == {"delivered": 2}


@pytest.mark.parametrize(
    ("late", "meanwhile", "expected"),
    [
        pytest.param(500, 200, ("delivered", 0, 200), id="a late failure does not undo a delivery"),
        pytest.param(410, 200, ("delivered", 0, 200), id="a late 410 does not undo a delivery"),
        pytest.param(200, 500, ("delivered", 0, 200), id="a late success delivers"),
        pytest.param(200, 410, ("delivered", 0, 200), id="a late success delivers what was given up"),
        pytest.param(503, 500, ("pending", 1, 500), id="a late failure does not move the schedule"),
    ],
)
async def test_the_late_outcome_of_a_stopped_worker(
    bench: Workbench, cleared_url: str, receiver: Receiver, late: int, meanwhile: int, expected: tuple[str, int, int]
) -> None:
    gate = asyncio.Event()
    receiver.script(when(gate, status(late)), status(meanwhile))
    async with workbench(cleared_url, leased=False) as stopped:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[600, 600])
        event_ids = await bench.emit("CustomerUpdated", "{}")
        unheard = asyncio.create_task(stopped.attempt_events(event_ids))
        await receiver.wait_for(1)
        await bench.attempt_events(event_ids)
        [before] = await bench.deliveries()
        gate.set()
        await unheard
    [delivery] = await bench.deliveries()
    assert (delivery.status, delivery.failures, delivery.last_status_code) == expected
    assert delivery.attempts == 2
    assert await numbers(bench, delivery.message_id) == [
        (1, late, None if late == 200 else {410: "http_gone"}.get(late, "http_5xx")),
        (2, meanwhile, None if meanwhile == 200 else {410: "http_gone"}.get(meanwhile, "http_5xx")),
    ]
    if delivery.status == "pending":
        assert delivery.next_attempt_at == before.next_attempt_at


async def test_a_match_whose_attempts_are_not_begun_holds_up_no_other_worker(
    bench: Workbench, other: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Temporal gives the workflow task to another worker while the answer to the match is on its way."""

    async def withdrawn(*_: object) -> None:
        raise asyncio.CancelledError

    async def interrupted() -> bool:
        return bool(await bench.scalar("SELECT count(*) = 1 FROM attempt WHERE failure = 'interrupted'"))

    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    monkeypatch.setattr(bench.activities, "_begin", withdrawn)
    with pytest.raises(asyncio.CancelledError):
        await bench.attempt_events(event_ids)
    await eventually(interrupted, 30, "the intent that nobody attempts is closed")
    first = await other.attempt_events(event_ids)
    assert first.delivered == 1
    [message_id] = [row.message_id for row in await bench.execute("SELECT message_id FROM delivery")]
    assert await numbers(bench, message_id) == [(1, None, "interrupted"), (2, 200, None)]


async def test_a_worker_that_stops_closes_the_intents_of_a_lost_match_first(
    cleared_url: str, receiver: Receiver, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workbench(cleared_url) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        event_ids = await bench.emit("CustomerUpdated", "{}")
        run = bench.activities.database.run

        async def away(*_: object) -> None:
            monkeypatch.setattr(bench.activities.database, "run", run)
            raise ConnectionError("the database is away")

        async def lost(*_: object) -> None:
            monkeypatch.setattr(bench.activities.database, "run", away)
            raise asyncio.CancelledError

        monkeypatch.setattr(bench.activities, "_begin", lost)
        with pytest.raises(asyncio.CancelledError):
            await bench.attempt_events(event_ids)
    assert await ground.scalar("SELECT failure FROM attempt") == "interrupted"


async def test_an_intent_that_another_run_closes_before_its_attempt_begins_is_not_used(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is in two runs of one worker: the second fails between the first one's match and its attempts."""
    begin = bench.activities._begin

    async def beside_a_failing_run(*arguments: Any) -> Any:
        monkeypatch.setattr(bench.activities, "_begin", begin)
        with monkeypatch.context() as patch:
            patch.setattr(deliver, "match", cancelled)
            with pytest.raises(asyncio.CancelledError):
                await bench.attempt_events(event_ids)
        await bench.activities._interrupting
        return await begin(*arguments)

    async def cancelled(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    monkeypatch.setattr(bench.activities, "_begin", beside_a_failing_run)
    assert (await bench.attempt_events(event_ids)).delivered == 0
    assert not receiver.requests
    assert (await bench.attempt_events(event_ids)).delivered == 1
    [message_id] = [row.message_id for row in await bench.execute("SELECT message_id FROM delivery")]
    assert await numbers(bench, message_id) == [(1, None, "interrupted"), (2, 200, None)]


async def test_matches_that_fail_in_an_outage_are_looked_after_by_one_task(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise ConnectionError("the database is away")

    event_ids = await bench.emit("CustomerUpdated", "{}", 3)
    with monkeypatch.context() as patch:
        patch.setattr(bench.activities.database, "run", away)
        before = asyncio.all_tasks()
        for _ in range(20):
            with pytest.raises(ApplicationError):
                await bench.attempt_events(event_ids)
        begun = [task for task in asyncio.all_tasks() - before if "_interrupt_unbegun" in repr(task.get_coro())]
        assert len(begun) == 1
        assert len(bench.activities._unbegun) == 3
    await bench.activities._interrupting


async def test_a_lease_of_its_own_with_nothing_under_way_does_not_hold_a_worker_up(
    bench: Workbench, receiver: Receiver
) -> None:
    """The intent was committed and the answer to the commit got lost, as when PostgreSQL is killed."""
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}", 2)
    async with bench.database.transaction() as connection:
        keys = [(ref.store_code, UUID(ref.event_id)) for ref in await bench.refs(event_ids)]
        orphans = await match(connection, keys, worker_id=bench.worker_id, may_begin=lambda _: True)
    async with asyncio.timeout(30):
        end = await bench.deliver_webhook(orphans[0].message_id)
        assert end.status == "delivered"
        first = await bench.attempt_events(event_ids)
    assert first.delivered == 1
    for orphan in orphans:
        assert await numbers(bench, orphan.message_id) == [(1, None, "interrupted"), (2, 200, None)]


@pytest.mark.parametrize("lapsed", [False, True])
async def test_what_another_execution_took_for_lost_between_match_and_attempt_is_not_sent_again(
    bench: Workbench, receiver: Receiver, lapsed: bool
) -> None:
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    async with bench.database.transaction() as connection:
        keys = [(ref.store_code, UUID(ref.event_id)) for ref in await bench.refs(event_ids)]
        [matched] = await match(connection, keys, worker_id=bench.worker_id, may_begin=lambda _: True)
    if lapsed:
        await bench.execute("UPDATE attempt SET started_at = started_at - interval '1 day'")
    assert (await bench.attempt_events(event_ids)).delivered == 1
    with pytest.raises(AttemptTakenError):
        await bench.dispatcher.begin(matched, "automatic")
    assert len(receiver.requests) == 1


async def test_an_attempt_outlives_the_activity_that_asked_for_it(bench: Workbench, receiver: Receiver) -> None:
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    environment = ActivityEnvironment()
    batch = EventBatch(await bench.refs(event_ids))
    asked = asyncio.create_task(environment.run(bench.activities.attempt_events, batch))
    await receiver.wait_for(1)
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    [delivery] = await bench.deliveries()
    environment = ActivityEnvironment()
    asked_again = asyncio.create_task(bench.deliver_webhook(delivery.message_id, environment=environment))
    await asyncio.sleep(0.1)
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked_again
    gate.set()
    await bench.until_statuses({"delivered": 1})
    assert await numbers(bench, delivery.message_id) == [(1, 200, None)]
    assert len(receiver.requests) == 1


async def test_activities_cancelled_at_any_moment_leave_no_connection_and_no_delivery_behind(
    bench: Workbench, receiver: Receiver
) -> None:
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    batches = [await bench.emit("CustomerUpdated", "{}", 2) for _ in range(25)]
    complaints: list[str] = []
    gc.collect()  # what earlier tests left would complain here
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    try:
        for turns, event_ids in enumerate(batches):
            environment = ActivityEnvironment()
            batch = EventBatch(await bench.refs(event_ids))
            asked = asyncio.create_task(environment.run(bench.activities.attempt_events, batch))
            for _ in range(turns):
                await asyncio.sleep(0)
            environment.cancel()
            with suppress(asyncio.CancelledError):
                await asked
        for event_ids in batches:
            await bench.attempt_events(event_ids)
        for message_id in await bench.waiting():
            await bench.deliver_webhook(message_id)
        await bench.until_statuses({"delivered": 50})

        async def all_returned() -> bool:
            return bool(bench.database.pool.checkedout() == 0)

        await eventually(all_returned, 20, "every connection is back in the pool")
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []


async def test_edits_take_effect_at_the_next_attempt(bench: Workbench, receiver: Receiver) -> None:
    sealer = bench.sealer()
    receiver.script(status(500), status(500))
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/old"))
    data = '{"customer":{"customerId":"7d3a1b9e-0f5c-4a86-9b1e-2f6c8d4e7a10"}}'
    await bench.attempt_events(await bench.emit("CustomerUpdated", data))
    [message_id] = await bench.waiting()
    await bench.edit(
        subscription_id,
        url=receiver.url("/new?token=t"),
        sealed_headers=sealer.seal('[["X-Own","value"]]'),
        hmac_enabled=True,
        sealed_secret=sealer.seal("whsec_" + "A" * 43 + "="),
        signature_version=3,
    )
    with pytest.raises(ApplicationError):
        await bench.deliver_webhook(message_id)
    await bench.edit(subscription_id, legacy=True, hmac_enabled=False)
    assert (await bench.deliver_webhook(message_id)).status == "delivered"
    old, new, legacy = receiver.requests
    assert (old.target, old.header("x-own"), old.header("x-webhook-signature")) == ("/old", None, None)
    assert (new.target, new.header("x-own"), new.header("x-webhook-signature-version")) == (
        "/new?token=t",
        "value",
        "3",
    )
    assert json.loads(legacy.body)["type"] == "customer.updated"
    assert legacy.header("x-webhook-signature") is None
    [delivery] = await bench.deliveries()
    assert delivery.url == receiver.url("/new?token=t")
    assert [attempt.legacy for attempt in await bench.attempts(delivery.message_id)] == [False, False, True]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({"deleted_at": "now"}, ("cancelled", "subscription_deleted"), id="deleted"),
        pytest.param({"status": "disabled"}, ("exhausted", "subscription_disabled"), id="disabled"),
        pytest.param({"status": "paused"}, ("held", "subscription_paused"), id="paused"),
        pytest.param({"rate_limit_per_second": 1}, ("held", "limited"), id="limited"),
        pytest.param({"breaker_opened_at": "now"}, ("held", "breaker_open"), id="breaker open"),
    ],
)
async def test_no_further_attempt_for_a_subscription_that_is_gone_or_suspended(
    bench: Workbench, receiver: Receiver, columns: dict[str, Any], expected: tuple[str, str]
) -> None:
    receiver.script(status(500))
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    await bench.attempt_events(event_ids)
    [message_id] = await bench.waiting()
    if "deleted_at" in columns:
        await bench.execute("UPDATE subscription SET deleted_at = now() WHERE id = :id", id=subscription_id)
    elif "breaker_opened_at" in columns:
        await bench.execute("UPDATE subscription_health SET breaker_opened_at = now()")
    else:
        await bench.edit(subscription_id, **columns)
    await bench.execute("UPDATE delivery SET next_attempt_at = now()")
    assert (await bench.attempt_events(event_ids)).delivered == 0
    end = await bench.deliver_webhook(message_id)
    assert (end.status, end.reason, end.attempts) == (*expected, 1)
    [delivery] = await bench.deliveries()
    assert (delivery.status, delivery.reason) == expected
    is_held = delivery.status == "held"
    assert (delivery.next_attempt_at is not None, delivery.ended_at is not None) == (is_held, not is_held)
    assert len(receiver.requests) == 1
    assert (await bench.deliver_webhook(message_id)).status == expected[0]


async def test_410_exhausts_and_disables(bench: Workbench, receiver: Receiver) -> None:
    receiver.script(status(410))
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    assert (await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))).exhausted == 1
    [subscription] = await bench.execute("SELECT * FROM subscription WHERE id = :id", id=subscription_id)
    assert (subscription.status, subscription.status_reason) == ("disabled", "http_gone")
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    reasons = {delivery.reason for delivery in await bench.deliveries()}
    assert reasons == {"http_gone", "subscription_disabled"}
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("code", "ends_as"), [(202, ("delivered", None)), (400, ("exhausted", "disabled_by_receiver"))]
)
async def test_a_receiver_disables_its_subscription_by_a_header(
    bench: Workbench, receiver: Receiver, code: int, ends_as: tuple[str, str | None]
) -> None:
    receiver.script(status(code, headers=(("webhook-delivery", "disable"),)))
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    [subscription] = await bench.execute("SELECT * FROM subscription WHERE id = :id", id=subscription_id)
    assert (subscription.status, subscription.status_reason) == ("disabled", "disabled_by_receiver")
    [delivery] = await bench.deliveries()
    assert (delivery.status, delivery.reason) == ends_as
    assert await bench.scalar("SELECT detail FROM attempt") == "webhook-delivery: disable"
    [line] = await bench.execute("SELECT * FROM audit WHERE object_id = :id", id=str(subscription_id))
    assert (line.actor, line.action, line.object_type) == ("system", "disable", "subscription")
    assert line.changes == {
        "status": {"before": "active", "after": "disabled"},
        "reason": "disabled_by_receiver",
        "messageId": str(delivery.message_id),
    }
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    assert {one.reason for one in await bench.deliveries()} == {ends_as[1], "subscription_disabled"}
    assert len(receiver.requests) == 1


async def test_a_receiver_aborts_single_deliveries_without_a_verdict_about_itself(
    bench: Workbench, receiver: Receiver
) -> None:
    failures = bench.settings.breaker_failures
    receiver.script(*[status(404, headers=(("webhook-delivery", "abort-message"),))] * (failures + 1))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    for _ in range(failures + 1):
        assert (await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))).exhausted == 1
    assert {(one.reason, one.attempts) for one in await bench.deliveries()} == {("aborted_by_receiver", 1)}
    assert await bench.scalar("SELECT count(*) FROM subscription_health") == 0
    assert (await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))).delivered == 1
    assert await bench.scalar("SELECT status FROM subscription") == "active"


async def test_a_blocked_address_exhausts_at_once(bench: Workbench) -> None:
    await bench.subscribe("CustomerUpdated", "http://10.0.0.1/hook")
    await bench.subscribe("CustomerUpdated", "http://[fe80::1]/hook")
    assert (await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))).exhausted == 2
    assert {(d.status, d.reason, d.attempts) for d in await bench.deliveries()} == {("exhausted", "blocked", 1)}


async def test_a_failed_attempt_tells_temporal_the_delay_and_not_a_word_of_the_receivers(
    bench: Workbench, receiver: Receiver
) -> None:
    secret = "c0ffee-of-the-receiver"
    receiver.otherwise = status(503, body=secret.encode(), headers=(("Retry-After", "7200"),))
    await bench.subscribe("CustomerUpdated", receiver.url(f"/hook?key={secret}"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    [message_id] = await bench.waiting()
    assert await seconds_until(bench, "next_attempt_at") == pytest.approx(7200, abs=60)
    with pytest.raises(ApplicationError) as raised:
        await bench.deliver_webhook(message_id)
    error = raised.value
    assert (error.type, error.non_retryable) == ("AttemptFailed", False)
    assert error.next_retry_delay is not None
    assert error.next_retry_delay.total_seconds() == 7200
    assert secret not in f"{error}{error.details}"
    assert error.__cause__ is None


async def test_an_unknown_delivery_ends_its_activity(bench: Workbench) -> None:
    assert (await bench.deliver_webhook(UUID(int=0))).status == "unknown"


async def test_attempts_go_on_until_none_is_left(bench: Workbench, receiver: Receiver) -> None:
    receiver.otherwise = status(500)
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[1, 1])
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    [message_id] = await bench.waiting()
    with pytest.raises(ApplicationError, match="http_5xx, status 500"):
        await bench.deliver_webhook(message_id)
    end = await bench.deliver_webhook(message_id)
    assert (end.status, end.attempts, end.reason) == ("exhausted", 3, "schedule_used_up")
    assert await bench.statuses() == {"exhausted": 1}


async def test_more_at_once_than_there_are_connections_only_wait(
    cleared_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "FIRST_ATTEMPTS_SECONDS_WITH_FAILURES", 60)
    receiver.script(*[status(500)] * 80)
    async with workbench(cleared_url, database_pool_size=3, breaker_failures=1000) as bench:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[600, 600])
        batches = [await bench.emit("CustomerUpdated", "{}", 10) for _ in range(8)]
        await asyncio.gather(*(bench.attempt_events(event_ids) for event_ids in batches))
        waiting = await bench.waiting()
        assert len(waiting) == 80
        ends = await asyncio.gather(*(bench.deliver_webhook(message_id) for message_id in waiting))
        assert {end.status for end in ends} == {"delivered"}
