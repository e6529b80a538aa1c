"""Ownership of a delivery that waits for a retry (activity, drain, nobody), and the effect of manual attempts."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from activities import drain, retry
from activities.retry import OUTCOME_POLL_SECONDS
from domain.delivery.lifecycle import Reason
from sending.dispatcher import LEASE_POLL_SECONDS
from storage.deliveries.bulk_actions import BulkActionKind
from storage.deliveries.bulk_pages import go_on
from storage.deliveries.retries import MOST_DUE_IN_A_SECOND, MOST_OF_A_SUBSCRIPTION
from storage.deliveries.transitions import cancel, end, hold
from tests.bulk_actions import begun_bulk_action, fail_many
from tests.deadlines import eventually
from tests.receiver import Receiver, status, when
from tests.sending.drain.rounds import round_of
from tests.workbench import NotedDrains, Workbench, workbench

pytestmark = pytest.mark.usefixtures("patient_batches")

EVENT = "CustomerUpdated"
HOUR = 3600


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, retry_schedule_seconds=(HOUR,) * 5, breaker_failures=1000) as bench:
        yield bench


async def fail_once(bench: Workbench, receiver: Receiver, *replies: Any, **columns: Any) -> UUID:
    """Make a delivery that waits for its first retry; its message id."""
    receiver.script(*(replies or (status(503),)))
    await bench.subscribe(EVENT, receiver.url("/hook"), **columns)
    await bench.attempt_events(await bench.emit(EVENT, "{}"))
    [delivery] = await bench.deliveries()
    message_id: UUID = delivery.message_id
    return message_id


async def row(bench: Workbench) -> Any:
    """Return the only delivery, with the seconds until its instants."""
    [found] = await bench.execute(
        "SELECT *, CAST(extract(epoch FROM next_attempt_at - clock_timestamp()) AS float8) AS due_in, "
        "CAST(extract(epoch FROM not_before - clock_timestamp()) AS float8) AS allowed_in FROM delivery"
    )
    return found


async def test_the_first_failure_commits_the_activitys_id_and_later_ones_keep_it(
    bench: Workbench, receiver: Receiver
) -> None:
    await bench.subscribe(EVENT, receiver.url("/hook"))
    event_ids = await bench.emit(EVENT, "{}")
    await bench.execute("UPDATE event SET workflow_id = 'events/a-batch'")
    receiver.script(status(503))
    await bench.attempt_events(event_ids)
    [message_id] = await bench.waiting()
    retry_id = f"{message_id}/1"
    delivery = await row(bench)
    assert (delivery.retry_id, delivery.workflow_id) == (retry_id, "events/a-batch")
    for attempts in (2, 3):
        receiver.script(status(500))
        with pytest.raises(ApplicationError):
            await bench.deliver_webhook(message_id, retry_id=retry_id)
        delivery = await row(bench)
        assert (delivery.attempts, delivery.failures, delivery.retry_id) == (attempts, attempts, retry_id)


async def test_a_delivery_that_is_opened_again_belongs_to_no_activity(bench: Workbench, receiver: Receiver) -> None:
    message_id = await fail_once(bench, receiver, status(503, headers=(("Retry-After", "60"),)), status(410))
    assert (await bench.deliver_webhook(message_id)).status == "exhausted"
    [subscription_id] = [one.id for one in await bench.execute("SELECT id FROM subscription")]
    await bench.edit(subscription_id, status="active")
    action_id = await begun_bulk_action(bench, BulkActionKind.RECOVER, subscription_id, 1)
    async with bench.database.transaction() as connection:
        await go_on(connection, action_id)
    delivery = await row(bench)
    assert (delivery.status, delivery.reason, delivery.failures) == ("held", "recovered", 0)
    assert (delivery.retry_id, delivery.not_before, delivery.next_attempt_at) == (None, None, None)


async def test_an_attempt_after_a_recovery_counts_although_an_intent_before_it_was_taken_back(
    bench: Workbench, receiver: Receiver
) -> None:
    message_id = await fail_once(bench, receiver)
    [subscription_id] = [one.id for one in await bench.execute("SELECT id FROM subscription")]
    await bench.execute(
        "INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy) "
        "SELECT accepted_on, message_id, 2, gen_random_uuid(), 'automatic', gen_random_uuid(), false FROM delivery"
    )
    await bench.execute("UPDATE delivery SET status = 'exhausted', ended_at = now()")
    action_id = await begun_bulk_action(bench, BulkActionKind.RECOVER, subscription_id, 1)
    async with bench.database.transaction() as connection:
        await go_on(connection, action_id)
    await bench.execute("DELETE FROM attempt WHERE number = 2")
    receiver.script(status(500))
    await asyncio.wait([bench.dispatcher.begin(await bench.load(message_id), "automatic")])
    delivery = await row(bench)
    assert (delivery.attempts, delivery.failures, delivery.last_status_code) == (3, 1, 500)
    assert delivery.next_attempt_at is not None


async def test_a_delivery_that_is_held_belongs_to_no_activity(bench: Workbench, receiver: Receiver) -> None:
    message_id = await fail_once(bench, receiver)
    await bench.execute("UPDATE subscription SET status = 'paused'")
    end = await bench.deliver_webhook(message_id)
    assert (end.status, end.reason) == ("held", "subscription_paused")
    delivery = await row(bench)
    assert (delivery.status, delivery.retry_id) == ("held", None)
    assert len(receiver.requests) == 1


async def test_a_delivery_whose_subscription_is_enabled_while_it_is_to_be_ended_is_attempted(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = await fail_once(bench, receiver)
    await bench.execute("UPDATE subscription SET status = 'disabled'")
    await bench.execute("UPDATE delivery SET next_attempt_at = now()")

    async def enabled_before_the_end(connection: AsyncConnection, *ending: Any) -> bool:
        await bench.execute("UPDATE subscription SET status = 'active'")
        return await end(connection, *ending)

    monkeypatch.setattr(retry, "end", enabled_before_the_end)
    assert (await bench.deliver_webhook(message_id)).status == "delivered"
    assert len(receiver.requests) == 2


async def test_a_failed_attempt_is_benign_and_names_no_traceback(bench: Workbench, receiver: Receiver) -> None:
    message_id = await fail_once(bench, receiver, status(503), status(503))
    with pytest.raises(ApplicationError) as raised:
        await bench.deliver_webhook(message_id)
    assert raised.value.category is ApplicationErrorCategory.BENIGN


async def test_scheduling_waits_for_an_outcome_that_is_being_written(bench: Workbench, receiver: Receiver) -> None:
    message_id = await fail_once(bench, receiver)
    await bench.execute("UPDATE delivery SET retry_id = NULL, next_attempt_at = NULL")
    event_ids = [one.event_id for one in await bench.execute("SELECT event_id FROM event")]
    async with bench.database.transaction() as connection:
        await connection.exec_driver_sql("SELECT FROM delivery FOR UPDATE")
        scheduling = asyncio.create_task(bench.schedule_retries(event_ids))
        await asyncio.sleep(4 * OUTCOME_POLL_SECONDS)
        assert not scheduling.done()
    assert [one.retry_id for one in await scheduling] == [f"{message_id}/1"]
    assert [one.retry_id for one in await bench.schedule_retries(event_ids)] == [f"{message_id}/1"], (
        "a repeat is harmless"
    )


async def test_a_retry_that_finds_its_event_erased_ends_the_delivery_without_a_request(
    bench: Workbench, receiver: Receiver
) -> None:
    message_id = await fail_once(bench, receiver)
    await bench.execute("UPDATE delivery SET next_attempt_at = clock_timestamp()")
    await bench.execute("DELETE FROM event_body")
    end = await bench.deliver_webhook(message_id, retry_id=f"{message_id}/1")
    assert (end.status, end.reason) == ("cancelled", "event_erased")
    [attempt] = await bench.execute("SELECT * FROM attempt WHERE number = 2")
    assert (attempt.failure, attempt.body_sha256, attempt.signed_at) == ("event_erased", None, None)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("change", ["another activity", "held", "ended"])
async def test_an_activity_whose_row_has_changed_completes_without_a_request(
    bench: Workbench, receiver: Receiver, change: str
) -> None:
    message_id = await fail_once(bench, receiver)
    retry_id = f"{message_id}/1"
    async with bench.database.transaction() as connection:
        if change == "held":
            await hold(connection, message_id, Reason.SUBSCRIPTION_PAUSED, "subscription/x")
        elif change == "ended":
            await cancel(connection, message_id)
    end = await bench.deliver_webhook(
        message_id, retry_id=f"{message_id}/7" if change == "another activity" else retry_id
    )
    assert end.status == {"another activity": "pending", "held": "held", "ended": "cancelled"}[change]
    assert len(receiver.requests) == 1


async def almost_overloaded(bench: Workbench, receiver: Receiver, room: int) -> UUID:
    """A failing subscription of which so many more may wait in Temporal; its id."""
    receiver.otherwise = status(503)
    subscription_id = await bench.subscribe(EVENT, receiver.url("/hook"))
    [event_id] = await bench.emit(EVENT, "{}")
    in_half_an_hour = datetime.now(UTC) + timedelta(minutes=30)
    waiting = {"status": "pending", "reason": None, "next_attempt_at": in_half_an_hour}
    await fail_many(bench, subscription_id, event_id, MOST_OF_A_SUBSCRIPTION - room, **waiting)
    return subscription_id


async def test_a_410_to_a_retry_disables_the_subscription_and_no_other_retry_goes_out(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.script(status(503), status(503), status(410))
    await bench.subscribe(EVENT, receiver.url("/hook"))
    await bench.attempt_events(await bench.emit(EVENT, "{}", 2))
    first, second = await bench.waiting()
    assert (await bench.deliver_webhook(first)).reason == "http_gone"
    end = await bench.deliver_webhook(second, retry_id=f"{second}/1")
    assert (end.status, len(receiver.requests)) == ("exhausted", 3)
    assert {one.reason for one in await bench.deliveries()} == {"http_gone", "subscription_disabled"}
    [subscription] = await bench.execute("SELECT status, status_reason FROM subscription")
    assert (subscription.status, subscription.status_reason) == ("disabled", "http_gone")


async def test_the_failure_after_which_too_many_of_a_subscription_wait_is_held_with_its_instant(
    bench: Workbench, receiver: Receiver
) -> None:
    room, more = 3, 5
    subscription_id = await almost_overloaded(bench, receiver, room)
    first = await bench.attempt_events(await bench.emit(EVENT, "{}", room + more))
    assert (first.retrying, first.held) == (room, more)
    assert bench.woken == [], "the drain watchdog wakes the drain when they are due soon"
    held = await bench.execute(
        "SELECT reason, retry_id, workflow_id, failures, next_attempt_at > now() + interval '50 minutes' AS later "
        "FROM delivery WHERE status = 'held'"
    )
    assert {tuple(one) for one in held} == {("overload", None, f"subscription/{subscription_id}", 1, True)}
    assert len(held) == more


async def test_more_retries_than_may_fall_due_in_one_second_are_held_over_all_subscriptions(
    cleared_url: str, receiver: Receiver
) -> None:
    receiver.otherwise = status(503, headers=(("Retry-After", "3600"),))
    async with workbench(cleared_url, breaker_failures=1000) as bench:
        for number in range(3):
            await bench.subscribe(EVENT, receiver.url(f"/{number}"))
        await bench.attempt_events(await bench.emit(EVENT, "{}", MOST_DUE_IN_A_SECOND))
        due = await bench.execute(
            "SELECT date_trunc('second', next_attempt_at), count(*) FILTER (WHERE status = 'pending') AS pending, "
            "count(*) FILTER (WHERE status = 'held' AND reason = 'overload') AS held FROM delivery GROUP BY 1"
        )
    assert sum(second.pending + second.held for second in due) == 3 * MOST_DUE_IN_A_SECOND
    assert max(second.pending for second in due) <= MOST_DUE_IN_A_SECOND
    assert sum(second.held for second in due) > 0


async def test_the_drain_sends_too_many_retries_at_their_instants_and_holds_what_fails_again(
    bench: Workbench, receiver: Receiver
) -> None:
    subscription_id = await almost_overloaded(bench, receiver, 0)
    await bench.attempt_events(await bench.emit(EVENT, "{}", 2))
    before = await round_of(bench, subscription_id)
    assert before.next_in_seconds is not None
    assert before.next_in_seconds > 3000
    assert len(receiver.requests) == 2
    await bench.execute("UPDATE delivery SET next_attempt_at = clock_timestamp() WHERE status = 'held'")
    await round_of(bench, subscription_id)
    assert len(receiver.requests) == 4
    held = await bench.execute(
        "SELECT reason, retry_id, failures, next_attempt_at > now() + interval '50 minutes' AS later "
        "FROM delivery WHERE status = 'held'"
    )
    assert [tuple(one) for one in held] == [("retry", None, 2, True)] * 2, "once held, it is the drain's until it ends"


async def test_what_a_receiver_asks_for_is_noted_beside_the_schedule(bench: Workbench, receiver: Receiver) -> None:
    message_id = await fail_once(bench, receiver, status(503, headers=(("Retry-After", "7200"),)))
    delivery = await row(bench)
    assert delivery.allowed_in == pytest.approx(7200, abs=5)
    assert delivery.due_in == pytest.approx(7200, abs=5)
    receiver.script(status(503))
    with pytest.raises(ApplicationError):
        await bench.deliver_webhook(message_id)
    assert (await row(bench)).not_before is None, "the receiver has not said so again"


async def break_subscription(bench: Workbench, subscription_id: UUID) -> None:
    """Open the breaker, with a probe that is due, and hold what waits."""
    await bench.execute(
        "INSERT INTO subscription_health (subscription_id, breaker_opened_at, probe_at) "
        "VALUES (:id, now(), now() - interval '1 second') ON CONFLICT (subscription_id) DO UPDATE "
        "SET breaker_opened_at = now(), probe_at = now() - interval '1 second'",
        id=subscription_id,
    )


@pytest.mark.parametrize("ordered", [False, True], ids=["without an order", "ordered"])
@pytest.mark.parametrize("asked_to_wait", [False, True], ids=["the schedule", "Retry-After"])
async def test_a_probe_skips_the_schedule_and_never_what_the_receiver_asked_for(
    bench: Workbench, receiver: Receiver, ordered: bool, asked_to_wait: bool
) -> None:
    headers = (("Retry-After", "3600"),) if asked_to_wait else ()
    message_id = await fail_once(bench, receiver, status(503, headers=headers))
    [subscription_id] = [one.id for one in await bench.execute("SELECT id FROM subscription")]
    await bench.edit(subscription_id, ordered=ordered)
    await break_subscription(bench, subscription_id)
    async with bench.database.transaction() as connection:
        await hold(connection, message_id, Reason.BREAKER_OPEN, f"subscription/{subscription_id}")
    done = await round_of(bench, subscription_id)
    if asked_to_wait:
        assert len(receiver.requests) == 1
        assert (done.next_in_seconds, done.ignores_wake) == (drain.ASKED_TO_WAIT_SECONDS, False), "others may be sent"
    else:
        assert (await row(bench)).status == "delivered"


@pytest.mark.parametrize("headers", [(), (("Retry-After", "3600"),)], ids=["the schedule", "Retry-After"])
async def test_a_resumed_subscription_gets_no_retry_before_its_instant(
    bench: Workbench, receiver: Receiver, headers: tuple[tuple[str, str], ...]
) -> None:
    message_id = await fail_once(bench, receiver, status(503, headers=headers))
    [subscription_id] = [one.id for one in await bench.execute("SELECT id FROM subscription")]
    await bench.edit(subscription_id, status="paused")
    async with bench.database.transaction() as connection:
        await hold(connection, message_id, Reason.SUBSCRIPTION_PAUSED, f"subscription/{subscription_id}")
    await bench.edit(subscription_id, status="active")
    done = await round_of(bench, subscription_id)
    assert len(receiver.requests) == 1
    assert done.next_in_seconds is not None
    assert done.next_in_seconds > 3000


async def test_send_now_skips_the_schedule_and_what_the_receiver_asked_for(
    bench: Workbench, receiver: Receiver
) -> None:
    message_id = await fail_once(bench, receiver, status(503, headers=(("Retry-After", "7200"),)))
    assert (await bench.attempt_once(message_id, "send-now")).status == "delivered"
    assert (await bench.attempts(message_id))[-1].trigger == "manual"
    end = await bench.deliver_webhook(message_id, retry_id=f"{message_id}/1")
    assert end.status == "delivered"
    assert len(receiver.requests) == 2, "the activity that waited completes without a request"


async def test_a_failed_send_now_leaves_failures_schedule_and_owner_as_they_were(
    bench: Workbench, receiver: Receiver
) -> None:
    message_id = await fail_once(bench, receiver, status(503), status(500))
    before = await row(bench)
    await bench.attempt_once(message_id, "send-now")
    now = await row(bench)
    kept = ("status", "reason", "failures", "next_attempt_at", "not_before", "retry_id", "workflow_id", "ended_at")
    assert {name: getattr(now, name) for name in kept} == {name: getattr(before, name) for name in kept}
    assert (now.attempts, now.last_status_code) == (2, 500)
    receiver.script(status(503))
    with pytest.raises(ApplicationError, match="attempt failed"):
        await bench.deliver_webhook(message_id, retry_id=f"{message_id}/1")
    assert (await row(bench)).failures == 2


async def test_a_failed_send_now_moves_the_instant_on_when_the_receiver_asks_for_it(
    bench: Workbench, receiver: Receiver
) -> None:
    message_id = await fail_once(
        bench, receiver, status(503), status(429, headers=(("Retry-After", "7200"),)), status(429)
    )
    await bench.attempt_once(message_id, "send-now")
    delivery = await row(bench)
    assert delivery.due_in == pytest.approx(7200, abs=5)
    assert delivery.allowed_in == pytest.approx(7200, abs=5)
    assert (delivery.failures, delivery.retry_id) == (1, f"{message_id}/1")
    await bench.attempt_once(message_id, "send-now")
    assert (await row(bench)).allowed_in == pytest.approx(7200, abs=5), "what was asked for before still holds"


@pytest.mark.parametrize("answer", [500, 200])
async def test_a_retry_that_falls_due_during_send_now_neither_repeats_it_nor_gets_lost(
    bench: Workbench, receiver: Receiver, answer: int
) -> None:
    answered = asyncio.Event()
    message_id = await fail_once(bench, receiver, status(503), when(answered, status(answer)), status(500))
    manual = asyncio.create_task(bench.attempt_once(message_id, "send-now"))
    await receiver.wait_for(2)
    waiting = asyncio.create_task(bench.deliver_webhook(message_id, retry_id=f"{message_id}/1"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    answered.set()
    await manual
    if answer == 200:
        assert (await waiting).status == "delivered"
        assert len(receiver.requests) == 2
    else:
        with pytest.raises(ApplicationError, match="attempt failed"):
            await waiting
        assert len(receiver.requests) == 3


async def test_an_attempt_that_queues_for_longer_than_its_activity_goes_on_and_the_next_activity_joins_it(
    cleared_url: str, receiver: Receiver
) -> None:
    """With one request at a time of 30 s each, the fourth retry outlasts the time-out of its activity."""
    answered = asyncio.Event()
    async with workbench(cleared_url, retry_schedule_seconds=(HOUR,), subscription_concurrency=1) as bench:
        receiver.script(status(503), status(503), when(answered, status(200)))
        await bench.subscribe(EVENT, receiver.url("/hook"))
        for _ in range(2):
            await bench.attempt_events(await bench.emit(EVENT, "{}"))
        first, second = await bench.waiting()
        sending = asyncio.create_task(bench.deliver_webhook(first))
        await receiver.wait_for(3)
        environment = ActivityEnvironment()
        queued = asyncio.create_task(bench.deliver_webhook(second, environment=environment))
        await eventually(lambda: is_queued(bench, second), 30, "the attempt queues")
        environment.cancel()  # as when the activity has timed out
        with pytest.raises(asyncio.CancelledError):
            await queued
        again = asyncio.create_task(bench.deliver_webhook(second))
        answered.set()
        assert [(await one).status for one in (sending, again)] == ["delivered", "delivered"]
        assert len(receiver.requests) == 4


@pytest.mark.parametrize("activity", ["deliver-webhook", "send-now"])
async def test_an_activity_whose_attempt_the_drain_withdraws_logs_no_fault(
    cleared_url: str, receiver: Receiver, activity: str
) -> None:
    answered = asyncio.Event()
    async with workbench(cleared_url, retry_schedule_seconds=(HOUR,), subscription_concurrency=1) as bench:
        receiver.script(status(503), status(503), when(answered, status(200)))
        subscription_id = await bench.subscribe(EVENT, receiver.url("/hook"))
        for _ in range(2):
            await bench.attempt_events(await bench.emit(EVENT, "{}"))
        first, second = await bench.waiting()
        sending = asyncio.create_task(bench.deliver_webhook(first))
        await receiver.wait_for(3)
        async with bench.database.transaction() as connection:
            await hold(connection, second, Reason.OVERLOAD, f"subscription/{subscription_id}")
        bench.dispatcher.begin(replace(await bench.load(second), hold_again_as=Reason.RETRY), "automatic")
        if activity == "deliver-webhook":
            joining = asyncio.create_task(bench.deliver_webhook(second, retry_id=f"{second}/1", due=False))
        else:
            joining = asyncio.create_task(bench.attempt_once(second, activity))

        async def withdrawn() -> bool:
            bench.dispatcher.queues.withdraw(subscription_id, [second])
            return joining.done()

        await eventually(withdrawn, 30, "the activity's attempt is withdrawn")
        if activity == "deliver-webhook":
            assert (await joining).status == "held"
        else:
            with pytest.raises(ApplicationError) as raised:
                await joining
            assert (raised.value.type, raised.value.category) == ("Withdrawn", ApplicationErrorCategory.BENIGN)
        answered.set()
        await sending


async def is_queued(bench: Workbench, message_id: UUID) -> bool:
    return bench.dispatcher.queued(message_id)


async def test_send_now_is_attempted_while_the_breaker_is_open(bench: Workbench, receiver: Receiver) -> None:
    message_id = await fail_once(bench, receiver)
    [subscription_id] = [one.id for one in await bench.execute("SELECT id FROM subscription")]
    await break_subscription(bench, subscription_id)
    async with bench.database.transaction() as connection:
        await hold(connection, message_id, Reason.BREAKER_OPEN, f"subscription/{subscription_id}")
    assert (await bench.attempt_once(message_id, "send-now")).status == "delivered"
    assert bench.woken == [subscription_id]


async def test_redelivering_sends_once_more_and_only_success_changes_the_status(
    cleared_url: str, receiver: Receiver
) -> None:
    async with workbench(cleared_url, retry_schedule_seconds=()) as bench:
        message_id = await fail_once(bench, receiver, status(500), status(500), status(200), status(500))
        assert (await row(bench)).status == "exhausted"
        await bench.attempt_once(message_id, "redeliver")
        after = await row(bench)
        assert (after.status, after.reason, after.attempts) == ("exhausted", "schedule_used_up", 2)
        assert (await bench.attempt_once(message_id, "redeliver")).status == "delivered"
        await bench.attempt_once(message_id, "redeliver")
        after = await row(bench)
        assert (after.status, after.attempts, after.last_status_code) == ("delivered", 4, 500)
        triggers = [attempt.trigger for attempt in await bench.attempts(message_id)]
        assert triggers == ["automatic", "manual", "manual", "manual"]


@pytest.mark.parametrize(("action", "replies"), [("redeliver", (410, 200)), ("send-now", (503, 503))])
async def test_a_manual_attempt_that_temporal_repeats_after_its_outcome_is_not_made_again(
    bench: Workbench, receiver: Receiver, action: str, replies: tuple[int, int]
) -> None:
    message_id = await fail_once(bench, receiver, *[status(code) for code in replies])
    if action == "redeliver":
        await bench.execute("UPDATE subscription SET status = 'active'")
    await bench.attempt_once(message_id, action, recorded=1)
    after = await row(bench)
    assert (await bench.attempt_once(message_id, action, recorded=1)).reason == "another attempt has come first"
    assert len(receiver.requests) == 2
    assert (await row(bench)).attempts == after.attempts == 2


async def test_a_drain_that_cannot_be_woken_does_not_repeat_a_manual_attempt(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = await fail_once(bench, receiver, status(503), status(200))
    subscription_id = (await row(bench)).subscription_id
    await break_subscription(bench, subscription_id)

    async def away(*_: object) -> None:
        raise RPCError("unavailable", RPCStatusCode.UNAVAILABLE, b"")

    monkeypatch.setattr(NotedDrains, "probe_now", away)
    assert (await bench.attempt_once(message_id, "send-now")).status == "delivered"
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("action", ["redeliver", "send-now"])
async def test_a_manual_attempt_whose_worker_dies_is_made_by_another_when_the_lease_lapses(
    cleared_url: str, bench: Workbench, receiver: Receiver, action: str
) -> None:
    message_id = await fail_once(bench, receiver, status(410 if action == "redeliver" else 503))
    await bench.execute("UPDATE subscription SET status = 'active'")
    unanswered = asyncio.Event()
    receiver.script(when(unanswered, status(500)), status(200))
    async with workbench(cleared_url, request_timeout_seconds=30) as dying:
        lost = asyncio.create_task(dying.attempt_once(message_id, action, recorded=1))
        await receiver.wait_for(2)
        repeated = asyncio.create_task(bench.attempt_once(message_id, action, recorded=1))
        await asyncio.wait([repeated], timeout=3 * LEASE_POLL_SECONDS)
        assert not repeated.done(), "the lease may be that of a live worker"

        async def sent_again() -> bool:
            await dying.die()  # again and again, since this one renews its lease
            return len(receiver.requests) == 3

        await eventually(sent_again, 20, "the attempt is made")
        assert (await repeated).status == "delivered"
        unanswered.set()
        await asyncio.wait([lost])


@pytest.mark.parametrize("change", ["paused", "deleted"])
async def test_a_manual_attempt_is_not_made_once_its_subscription_does_not_send(
    bench: Workbench, receiver: Receiver, change: str
) -> None:
    message_id = await fail_once(bench, receiver, status(410))
    statement = "status = 'paused'" if change == "paused" else "status = 'active', deleted_at = clock_timestamp()"
    await bench.execute(f"UPDATE subscription SET {statement}")
    assert (await bench.attempt_once(message_id, "redeliver")).reason == "its subscription does not send"
    assert len(receiver.requests) == 1
