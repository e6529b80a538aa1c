"""The drain's rounds by themselves: what may come between two readings of an ordered subscription."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.ordering import ordering_key_of
from sending.drain import sources
from sending.drain.sources import LOOK_SECONDS
from storage.deliveries.held import subscriptions_to_drain
from storage.deliveries.open import DUE_SOON_SECONDS
from storage.deliveries.ordering import first_unmatched
from storage.deliveries.transitions import ENDED_AT_ONCE, exhaust_outwaited
from storage.subscriptions.queries import pause, resume
from tests.bulk_actions import fail_many
from tests.ground import STORE
from tests.receiver import Receiver, status, when
from tests.sending.drain.rounds import round_of
from tests.workbench import Workbench, workbench


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url) as bench:
        yield bench


def event_of(customer: str, phone: str) -> str:
    """An event's data."""
    return json.dumps({"customer": {"customerId": customer, "phone": phone}})


@pytest.mark.parametrize("order_key", ["subscription", "customer"])
async def test_an_event_matched_between_two_readings_is_not_overtaken(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, order_key: str
) -> None:
    url = receiver.url("/hook")
    subscription_id = await bench.subscribe("CustomerUpdated", url, ordered=True, order_key=order_key)
    first = await bench.emit("CustomerUpdated", event_of("a customer", "first"))
    second = await bench.emit("CustomerUpdated", event_of("a customer", "second"))
    await bench.attempt_events(second)
    pending = [first]

    async def with_a_match_before(connection: AsyncConnection, identity: UUID, before: int) -> int | None:
        if pending:
            await bench.attempt_events(pending.pop())
        return await first_unmatched(connection, identity, before)

    monkeypatch.setattr(sources, "first_unmatched", with_a_match_before)
    await round_of(bench, subscription_id)
    arrived = [json.loads(request.body)["data"]["customer"]["phone"] for request in receiver.requests]
    assert arrived == ["first", "second"]


@pytest.mark.parametrize("order_key", ["subscription", "customer"])
async def test_an_event_that_is_not_matched_yet_holds_back_what_was_accepted_later(
    bench: Workbench, receiver: Receiver, order_key: str
) -> None:
    url = receiver.url("/hook")
    subscription_id = await bench.subscribe("CustomerUpdated", url, ordered=True, order_key=order_key)
    [first] = await bench.emit("CustomerUpdated", event_of("a customer", "first"))
    second = await bench.emit("CustomerUpdated", event_of("a customer", "second"))
    await bench.attempt_events(second)
    waiting = asyncio.create_task(round_of(bench, subscription_id))
    await asyncio.sleep(4 * LOOK_SECONDS)  # some looks, of which none may find anything
    assert receiver.requests == []
    await bench.attempt_events([first])
    await waiting
    arrived = [json.loads(request.body)["data"]["customer"]["phone"] for request in receiver.requests]
    assert arrived == ["first", "second"]


async def test_an_event_matched_without_a_line_is_not_overtaken(bench: Workbench, receiver: Receiver) -> None:
    """The subscription was ordered by customer while its event was being matched."""
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"), ordered=True)
    await bench.attempt_events(await bench.emit("CustomerUpdated", event_of("a customer", "first")))
    await bench.edit(subscription_id, order_key="customer")
    await bench.attempt_events(await bench.emit("CustomerUpdated", event_of("a customer", "second")))
    lines = [row.ordering_key for row in await bench.deliveries()]
    assert lines == [None, ordering_key_of(subscription_id, event_of("a customer", ""))]
    await round_of(bench, subscription_id)
    arrived = [json.loads(request.body)["data"]["customer"]["phone"] for request in receiver.requests]
    assert arrived == ["first", "second"]


async def test_of_a_large_backlog_a_410_ends_one_page_at_once_and_the_drain_ends_the_rest(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.script(status(410))
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    events = await bench.emit("CustomerUpdated", "{}")
    for waiting in ("held", "pending"):
        await fail_many(bench, subscription_id, events[0], 2 * ENDED_AT_ONCE + 5, status=waiting, reason=None)
    await bench.attempt_events(events)
    backlog = 4 * ENDED_AT_ONCE + 10
    assert (await bench.statuses())["exhausted"] == ENDED_AT_ONCE + 1
    while (await round_of(bench, subscription_id)).next_in_seconds is not None:
        pass
    assert await bench.statuses() == {"exhausted": backlog + 1}
    told = "SELECT CAST(sum(count) AS int) FROM notice WHERE kind = 'delivery.exhausted'"
    assert await bench.scalar(told) == backlog + 1


async def failing_for_a_month(bench: Workbench, receiver: Receiver, held: int) -> UUID:
    """A subscription behind an open breaker, with as many deliveries that have been held all the time."""
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    [event_id] = await bench.emit("CustomerUpdated", "{}")
    month_ago = datetime.now(UTC) - timedelta(days=30)
    await fail_many(bench, subscription_id, event_id, held, status="held", reason="breaker_open", created_at=month_ago)
    await bench.execute("UPDATE subscription SET status_since = :at", at=month_ago)
    await bench.execute(
        "INSERT INTO subscription_health (subscription_id, failures_in_row, breaker_opened_at, probe_at) "
        "VALUES (:id, 9, :at, now() + interval '1 hour')",
        id=subscription_id,
        at=month_ago,
    )
    return subscription_id


@pytest.mark.parametrize("event", ["a pause ends", "the breaker opens"])
async def test_the_retry_schedule_of_held_deliveries_runs_only_while_their_receiver_is_probed(
    bench: Workbench, receiver: Receiver, event: str
) -> None:
    """Older deliveries were held by a pause, a limit or a bulk action, and nobody asked the receiver for them."""
    subscription_id = await failing_for_a_month(bench, receiver, held=3)
    async with bench.database.transaction() as connection:
        if event == "a pause ends":
            assert await pause(connection, subscription_id, reason="by hand")
            assert await resume(connection, subscription_id)
    if event == "the breaker opens":
        await bench.execute("UPDATE subscription_health SET breaker_opened_at = now()")
    await bench.execute("UPDATE subscription_health SET probe_at = now()")
    await round_of(bench, subscription_id)
    assert await bench.statuses() == {"delivered": 3}


async def test_what_outwaited_its_schedule_ends_page_by_page(bench: Workbench, receiver: Receiver) -> None:
    subscription_id = await failing_for_a_month(bench, receiver, held=2 * ENDED_AT_ONCE + 5)
    async with bench.database.transaction() as connection:
        assert await exhaust_outwaited(connection, subscription_id, 86_400) == ENDED_AT_ONCE
    await round_of(bench, subscription_id)
    assert await bench.statuses() == {"exhausted": 2 * ENDED_AT_ONCE + 5}


@pytest.mark.parametrize(
    ("status", "breaker", "probe_in", "due_in", "woken"),
    [
        ("active", "closed", None, None, True),
        ("active", "closed", None, -1, True),
        ("active", "closed", None, DUE_SOON_SECONDS - 5, True),
        ("active", "closed", None, DUE_SOON_SECONDS + 60, False),
        ("active", "open", 3600, None, False),
        ("active", "open", -1, 3600, True),
        ("paused", "open", -1, None, False),
        ("disabled", "open", 3600, 3600, True),
    ],
)
async def test_a_drain_is_woken_when_its_held_deliveries_are_due(
    bench: Workbench, status: str, breaker: str, probe_in: float | None, due_in: float | None, woken: bool
) -> None:
    subscription_id = await bench.subscribe("CustomerUpdated", "http://receiver.example.com/hook", max_concurrency=1)
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    await bench.execute("UPDATE delivery SET next_attempt_at = now() + make_interval(secs => :due_in)", due_in=due_in)
    await bench.execute(f"UPDATE subscription SET status = '{status}', status_since = now() - interval '1 day'")
    await bench.execute(
        "INSERT INTO subscription_health (subscription_id, failures_in_row, breaker_opened_at, probe_at) "
        "VALUES (:id, 9, CASE WHEN :open THEN now() END, now() + make_interval(secs => :probe_in))",
        id=subscription_id,
        open=breaker == "open",
        probe_in=probe_in,
    )
    async with bench.database.transaction() as connection:
        assert [one[0] for one in await subscriptions_to_drain(connection)] == [subscription_id] * woken


@pytest.mark.parametrize("ends", ["status = 'disabled', status_since", "deleted_at"])
async def test_the_drain_of_a_disabled_or_deleted_subscription_is_woken_although_nothing_is_held(
    bench: Workbench, ends: str
) -> None:
    url = "http://receiver.example.com/hook"
    subscription_id = await bench.subscribe("CustomerUpdated", url)
    looks = []
    for seconds_ago in (None, 1, 3600):
        if seconds_ago is not None:
            await bench.execute(f"UPDATE subscription SET {ends} = now() - make_interval(secs => {seconds_ago})")
        async with bench.database.transaction() as connection:
            looks.append(await subscriptions_to_drain(connection))
    assert looks == [[], [(subscription_id, STORE, "CustomerUpdated", url)], []]


async def test_many_customers_are_sent_to_at_once_but_no_more_than_may_be(bench: Workbench, receiver: Receiver) -> None:
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    fields = {"ordered": True, "order_key": "customer", "max_concurrency": 3}
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"), **fields)
    for number in range(2):
        for customer in range(8):
            await bench.attempt_events(await bench.emit("CustomerUpdated", event_of(f"{customer}", f"{number}")))
    sending = asyncio.create_task(round_of(bench, subscription_id))
    await receiver.wait_for(3)
    await asyncio.sleep(4 * LOOK_SECONDS)  # some looks, of which none may begin anything
    assert len(receiver.requests) == 3
    gate.set()
    done = await sending
    assert done.delivered == 16
    for customer in range(8):
        customers = [json.loads(request.body)["data"]["customer"] for request in receiver.requests]
        assert [one["phone"] for one in customers if one["customerId"] == f"{customer}"] == ["0", "1"]


async def test_nothing_goes_before_what_a_worker_that_died_has_left_undone(
    bench: Workbench, receiver: Receiver
) -> None:
    subscription_id = await bench.subscribe("CustomerUpdated", receiver.url("/hook"), ordered=True)
    for number in range(3):
        await bench.attempt_events(await bench.emit("CustomerUpdated", event_of("a customer", f"{number}")))
    first = (await bench.deliveries())[0]
    another = uuid4()
    await bench.execute("INSERT INTO worker (id, host, pid) VALUES (:id, 'another', 1)", id=another)
    await bench.execute(
        """
        INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
        VALUES (:day, :message_id, 1, gen_random_uuid(), 'automatic', :worker_id, false)
        """,
        day=first.accepted_on,
        message_id=first.message_id,
        worker_id=another,
    )
    sending = asyncio.create_task(round_of(bench, subscription_id))
    await asyncio.sleep(2 * LOOK_SECONDS)  # some looks, of which none may begin anything
    assert receiver.requests == []
    await bench.execute("DELETE FROM worker WHERE id = :id", id=another)
    await sending
    arrived = [json.loads(request.body)["data"]["customer"]["phone"] for request in receiver.requests]
    assert arrived == ["0", "1", "2"]
