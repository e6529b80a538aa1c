"""The relay: hands every event over once, under one name, alone or in batches, whatever goes away meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from sqlalchemy.exc import ProgrammingError
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import batch_workflow_id, event_workflow_id
from relay.backpressure import MAX_IN_FLIGHT, Backpressure, WorkflowKind
from relay.relay import Relay, RelaySettings
from sending.concurrency import FIRST_REQUESTS
from storage.database import STATEMENT_SECONDS, Database
from storage.events.outbox import ClaimLimits, claim
from telemetry.worker_metrics import WorkerMetrics
from temporal.messages import EventBatch, EventRef
from temporal.versions import VersionRouting
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.pipeline import pipeline
from tests.receiver import Receiver, after, hang, status, when
from tests.tcp_proxy import TcpProxy, tcp_proxy

POLL_SECONDS = 0.1
LEASE_SECONDS = 0.6


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.relay.LAPSED_CHECK_SECONDS", 0.2)


@asynccontextmanager
async def relay_of(
    database_url: str, client: Client, *, task_queue: str | None = None, batch_events: int = 300
) -> AsyncIterator[tuple[Relay, asyncio.Task[None]]]:
    """A relay by itself: nobody works on what it starts."""
    database = Database(database_url, pool_size=3, statement_seconds=STATEMENT_SECONDS)
    settings = RelaySettings(task_queue or f"nobody-{uuid4()}", batch_events, POLL_SECONDS, LEASE_SECONDS)
    relay = Relay(database, client, Backpressure(), settings, WorkerMetrics(), VersionRouting(client, None))
    running = asyncio.create_task(relay.run())
    try:
        yield relay, running
    finally:
        relay.stop()
        await asyncio.gather(running, return_exceptions=True)
        await database.close()


async def another_client(temporal: WorkflowEnvironment, address: str | None = None) -> Client:
    """A connection of its own, as of another process."""
    target = address or temporal.client.service_client.config.target_host
    return await Client.connect(target, data_converter=pydantic_data_converter)


@asynccontextmanager
async def through_proxy(address: str) -> AsyncIterator[tuple[str, TcpProxy]]:
    """host:port of a proxy in front of host:port, and the proxy."""
    host, _, port = address.rpartition(":")
    async with tcp_proxy(host, int(port)) as proxy:
        yield f"127.0.0.1:{proxy.port}", proxy


async def started(client: Client, workflow_id: str) -> list[EventRef]:
    """The events with which a workflow was started."""
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
        attributes = event.workflow_execution_started_event_attributes
        [batch] = await pydantic_data_converter.decode(attributes.input.payloads, [EventBatch])
        return list(batch.events)
    raise AssertionError("a history has a first event")


async def workflow_ids(ground: Ground) -> list[str]:
    """The distinct ids that are committed."""
    rows = await ground.execute("SELECT DISTINCT workflow_id FROM event WHERE workflow_id IS NOT NULL")
    return [row.workflow_id for row in rows]


async def test_when_quiet_an_event_has_a_workflow_of_its_own_name(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(cleared_url, temporal.client) as running:
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        [event_id] = await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"delivered": 1})
        workflow_id = event_workflow_id(STORE, event_id)
        assert await workflow_ids(ground) == [workflow_id]
        assert await started(temporal.client, workflow_id) == [EventRef(STORE, str(event_id), "CustomerUpdated")]


async def test_under_backlog_events_share_a_workflow_whose_id_is_in_their_rows(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    event_ids = await ground.emit("CustomerUpdated", "{}", 40)
    async with pipeline(cleared_url, temporal.client):
        await eventually(lambda: all_matched(ground), 20, "all matched")
    [workflow_id] = await workflow_ids(ground)
    assert workflow_id.startswith("events/")
    assert {event.event_id for event in await started(temporal.client, workflow_id)} == {str(one) for one in event_ids}


async def all_matched(ground: Ground) -> bool:
    return bool(await ground.scalar("SELECT count(*) = 0 FROM event WHERE matched_at IS NULL"))


async def test_batches_of_one_are_no_batches(ground: Ground, cleared_url: str, temporal: WorkflowEnvironment) -> None:
    event_ids = await ground.emit("CustomerUpdated", "{}", 40)
    async with pipeline(cleared_url, temporal.client, batch_events=1):
        await eventually(lambda: all_matched(ground), 20, "all matched")
    assert {*await workflow_ids(ground)} == {event_workflow_id(STORE, event_id) for event_id in event_ids}


async def test_three_workers_side_by_side_deliver_every_event_once(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    queue: dict[str, Any] = {"task_queue": f"shared-{uuid4()}", "batch_events": 50}
    async with Receiver() as receiver, AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(pipeline(cleared_url, await another_client(temporal), **queue))
        await ground.subscribe("CustomerUpdated", receiver.url("/hook"))
        for _ in range(6):
            await ground.emit("CustomerUpdated", "{}", 100)
        await ground.until_statuses({"delivered": 600}, 30)
        assert len(receiver.requests) == 600
        attempts = await ground.execute("SELECT worker_id, count(*) FROM attempt GROUP BY worker_id")
        assert sum(row.count for row in attempts) == 600


@pytest.mark.parametrize("was_started", [False, True], ids=["died before the start", "died after the start"])
async def test_another_relay_starts_what_a_dead_one_claimed_under_the_same_id_with_the_same_events(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, was_started: bool
) -> None:
    event_ids = await ground.emit("CustomerUpdated", "{}", 5)
    workflow_id = batch_workflow_id(uuid4())
    async with ground.database.transaction() as connection:
        claimed = await claim(connection, ClaimLimits(0, 300, workflow_id), lease_seconds=0.1)
    refs = [EventRef(event.store_code, str(event.event_id), event.name) for event in claimed.events]
    queue = f"resumed-{uuid4()}"
    if was_started:
        await temporal.client.start_workflow("deliver-events", EventBatch(refs), id=workflow_id, task_queue=queue)
    async with Receiver() as receiver:
        await ground.subscribe("CustomerUpdated", receiver.url("/hook"))
        await ground.execute("UPDATE event SET accepted_at = now()")
        more = await ground.emit("CustomerUpdated", "{}", 3)
        async with pipeline(cleared_url, temporal.client, task_queue=queue):
            await ground.until_statuses({"delivered": 8})
        assert len(receiver.requests) == 8
    assert sorted(await started(temporal.client, workflow_id), key=str) == sorted(refs, key=str)
    rows = await ground.execute("SELECT event_id, workflow_id FROM event")
    names = {row.event_id: row.workflow_id for row in rows}
    assert {names[event_id] for event_id in event_ids} == {workflow_id}
    assert workflow_id not in {names[event_id] for event_id in more}


async def test_a_claim_nobody_takes_is_handed_over_again_and_stays_one_workflow(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    [event_id] = await ground.emit("CustomerUpdated", "{}")
    queue = f"late-{uuid4()}"
    async with relay_of(cleared_url, temporal.client, task_queue=queue):
        handle = temporal.client.get_workflow_handle(event_workflow_id(STORE, event_id))
        await eventually(lambda: exists(temporal.client, handle.id), 30, "started")
        run = (await handle.describe()).run_id
        for _ in range(2):
            claim = await claimed_until(ground)
            await eventually(partial(claimed_later_than, ground, claim), 30, "claimed again")
        assert (await handle.describe()).run_id == run


async def claimed_until(ground: Ground) -> float:
    return float(await ground.scalar("SELECT coalesce(extract(epoch FROM max(claimed_until)), 0) FROM event"))


async def claimed_later_than(ground: Ground, instant: float) -> bool:
    return await claimed_until(ground) > instant


async def test_stores_with_long_codes_share_a_batch(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    codes = [f"{number:03}-{'s' * 59}" for number in range(60)]
    async with Receiver() as receiver:
        for code in codes:
            await ground.add_store(code)
            await ground.subscribe("CustomerUpdated", receiver.url("/hook"), store_code=code)
            await ground.emit("CustomerUpdated", "{}", store=code)
        async with pipeline(cleared_url, temporal.client):
            await ground.until_statuses({"delivered": 60})
    assert len(await workflow_ids(ground)) == 1


async def test_while_temporal_is_away_little_is_claimed_and_nothing_piles_up(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    async with through_proxy(temporal.client.service_client.config.target_host) as (address, proxy):
        client = await another_client(temporal, address)
        proxy.cut(refuse=True)
        async with relay_of(cleared_url, client, batch_events=50) as (relay, running):
            for _ in range(30):
                await ground.emit("CustomerUpdated", "{}", 20)
            await asyncio.sleep(LEASE_SECONDS + 1)  # claims lapse meanwhile, and are not handed over twice
            claimed = await ground.scalar("SELECT count(*) FROM event WHERE workflow_id IS NOT NULL")
            assert 0 < claimed <= MAX_IN_FLIGHT[WorkflowKind.SINGLE] + MAX_IN_FLIGHT[WorkflowKind.BATCH] * 50
            names = await workflow_ids(ground)
            assert len(relay._starts) == len(names) <= sum(MAX_IN_FLIGHT.values())
            relay.stop()
            async with asyncio.timeout(60):
                await running
    async with relay_of(cleared_url, temporal.client, batch_events=50):
        await eventually(lambda: all_claimed(ground), 20, "all claimed")
        for name in names:
            await eventually(partial(exists, temporal.client, name), 20, f"{name} started")


async def all_claimed(ground: Ground) -> bool:
    return bool(await ground.scalar("SELECT count(*) = 0 FROM event WHERE workflow_id IS NULL"))


async def exists(client: Client, workflow_id: str) -> bool:
    try:
        await client.get_workflow_handle(workflow_id).describe()
    except Exception:
        return False
    return True


async def refused(proxy: TcpProxy) -> bool:
    return proxy.refused > 0


async def test_database_connections_that_break_do_not_stop_the_relay(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    parts = urlsplit(cleared_url)
    async with through_proxy(f"{parts.hostname}:{parts.port}") as (address, proxy):
        url = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{address}"))
        async with relay_of(url, temporal.client) as (_, running):
            await eventually(lambda: listening(ground), 30, "listening")
            proxy.cut()
            await ground.emit("CustomerUpdated", "{}")
            await eventually(lambda: all_claimed(ground), 30, "claimed after the cut")
            await eventually(lambda: listening(ground), 30, "listening again")
            proxy.cut(refuse=True)
            await ground.emit("CustomerUpdated", "{}")
            await eventually(lambda: refused(proxy), 30, "a connection refused")
            assert not running.done()
            proxy.mend()
            await eventually(lambda: all_claimed(ground), 30, "claimed when the database is back")
            await eventually(lambda: listening(ground), 30, "listening again")


async def test_a_listener_whose_connection_is_lost_without_a_word_listens_again(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.relay.test_relay.POLL_SECONDS", 60)
    monkeypatch.setattr("relay.relay.LISTENER_CHECK_SECONDS", 0.5)
    parts = urlsplit(cleared_url)
    async with through_proxy(f"{parts.hostname}:{parts.port}") as (address, proxy):
        url = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{address}"))
        async with relay_of(url, temporal.client):
            await eventually(lambda: listening(ground), 30, "listening")
            lost = await ground.scalar(f"SELECT max(pid) {LISTENERS}")
            proxy.lose()
            await eventually(lambda: listening(ground, other_than=lost), 30, "listening anew")


async def test_a_notification_wakes_a_relay_that_polls_seldom(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.relay.test_relay.POLL_SECONDS", 60)
    async with relay_of(cleared_url, temporal.client):
        await eventually(lambda: listening(ground), 30, "listening")
        await ground.emit("CustomerUpdated", "{}")
        await eventually(lambda: all_claimed(ground), 30, "woken")


async def test_what_a_claim_of_the_first_stores_left_is_claimed_though_there_are_none_behind_them(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.relay.test_relay.POLL_SECONDS", 60)
    monkeypatch.setattr("storage.events.outbox.STORES_A_CLAIM", 1)
    monkeypatch.setattr("relay.batching.SMALLEST_SHARE", 1)
    await ground.emit("CustomerUpdated", "{}", MAX_IN_FLIGHT[WorkflowKind.BATCH] * 20)
    async with relay_of(cleared_url, temporal.client, batch_events=20):
        await eventually(lambda: all_claimed(ground), 30, "the second batch claimed")


LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


async def listening(ground: Ground, other_than: int = 0) -> bool:
    return bool(await ground.scalar(f"SELECT count(*) {LISTENERS} AND pid <> :pid", pid=other_than))


@pytest.mark.parametrize("part", ["_claim_waiting", "_claim_lapsed", "_listen"])
async def test_a_relay_of_which_a_part_fails_by_our_mistake_ends(
    cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def mistake(_: Relay) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Relay, part, mistake)
    async with relay_of(cleared_url, temporal.client) as (_, running):
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(30):
                await running


async def test_a_schema_that_is_not_there_yet_is_waited_for(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    await ground.execute("ALTER TABLE event RENAME TO event_elsewhere")
    try:
        async with relay_of(cleared_url, temporal.client) as (_, running):
            await asyncio.sleep(3 * POLL_SECONDS)
            assert not running.done()
            with pytest.raises(ProgrammingError):
                await ground.emit("CustomerUpdated", "{}")
            await ground.execute("ALTER TABLE event_elsewhere RENAME TO event")
            await ground.emit("CustomerUpdated", "{}")
            await eventually(lambda: all_claimed(ground), 30, "claimed once it is there")
    finally:
        await ground.execute("ALTER TABLE IF EXISTS event_elsewhere RENAME TO event")


async def test_a_migration_meanwhile_costs_no_event(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    """Prepared statements whose result changes its type fail once: "cached plan must not change result type"."""
    async with Receiver() as receiver, pipeline(cleared_url, temporal.client, retry_schedule_seconds=(1,)) as running:
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await running.emit("CustomerUpdated", "{}", 3)
        await running.until_statuses({"delivered": 3})
        receiver.script(status(500))
        await ground.execute("ALTER TABLE subscription ALTER COLUMN signature_version TYPE bigint")
        await ground.execute("ALTER TABLE event ALTER COLUMN name TYPE varchar(200)")
        await ground.execute("ALTER TABLE attempt ALTER COLUMN status_code TYPE bigint")
        try:
            await running.emit("CustomerUpdated", "{}", 3)
            await running.until_statuses({"delivered": 6})
            assert len(receiver.requests) == 7
        finally:
            await ground.execute("ALTER TABLE subscription ALTER COLUMN signature_version TYPE int")
            await ground.execute("ALTER TABLE event ALTER COLUMN name TYPE text")
            await ground.execute("ALTER TABLE attempt ALTER COLUMN status_code TYPE int")


async def test_an_event_of_a_quiet_store_is_in_the_next_batch_beside_a_long_backlog(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    await ground.add_store("small")
    async with Receiver() as receiver:
        await ground.subscribe("CustomerUpdated", receiver.url("/noisy"))
        await ground.subscribe("CustomerUpdated", receiver.url("/small"), store_code="small")
        await ground.emit("CustomerUpdated", "{}", 3000)
        async with pipeline(cleared_url, temporal.client, batch_events=100):
            await eventually(lambda: requested(receiver, "/noisy", 100), 20, "the backlog is being delivered")
            claimed = await ground.scalar("SELECT count(*) FROM event WHERE workflow_id IS NOT NULL")
            await ground.emit("CustomerUpdated", "{}", store="small")
            await eventually(lambda: requested(receiver, "/small", 1), 20, "the quiet store's event is delivered")
            assert not await requested(receiver, "/noisy", claimed + 1500)


async def test_an_event_of_a_quiet_store_does_not_wait_for_batches_to_a_receiver_that_is_slow(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow enough to keep the credits of batches, not slow enough for its batch to be left to itself."""
    for reader in ("activities.deliver", "sending.subscription_queues"):
        monkeypatch.setattr(f"{reader}.SLOW_SECONDS", 10.0)
    await ground.add_store("small")
    async with Receiver() as receiver:
        receiver.script(*[after(0.5, status(200))] * 200, path="/noisy")
        await ground.subscribe("CustomerUpdated", receiver.url("/noisy"))
        await ground.subscribe("CustomerUpdated", receiver.url("/small"), store_code="small")
        await ground.emit("CustomerUpdated", "{}", 200)
        async with pipeline(cleared_url, temporal.client, batch_events=20, subscription_concurrency=1):
            claimed = "SELECT count(DISTINCT workflow_id) = :batches FROM event"
            batches = MAX_IN_FLIGHT[WorkflowKind.BATCH]
            await eventually(lambda: ground.scalar(claimed, batches=batches), 20, "all credits in use")
            [event_id] = await ground.emit("CustomerUpdated", "{}", store="small")
            await eventually(lambda: requested(receiver, "/small", 1), 20, "the quiet store's event is delivered")
            assert not await requested(receiver, "/noisy", 20), "the batches take 17 seconds"
        assert event_workflow_id("small", event_id) in await workflow_ids(ground)


async def test_events_share_a_workflow_while_those_of_their_own_take_long(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that is busy: slow enough to keep the credits of single events."""
    for reader in ("activities.deliver", "sending.subscription_queues"):
        monkeypatch.setattr(f"{reader}.SLOW_SECONDS", 10.0)
    alone = MAX_IN_FLIGHT[WorkflowKind.SINGLE]
    may_answer = asyncio.Event()
    async with Receiver() as receiver, pipeline(cleared_url, temporal.client) as running:
        receiver.script(*[when(may_answer, status(200))] * (alone + 3), path="/slow")
        await running.subscribe("CustomerUpdated", receiver.url("/slow"))
        for count in range(1, alone + 1):
            [event_id] = await running.emit("CustomerUpdated", "{}")
            await eventually(partial(requested, receiver, "/slow", count), 20, "the event is on the wire")
            assert event_workflow_id(STORE, event_id) in await workflow_ids(ground)
        await running.emit("CustomerUpdated", "{}", 3)
        await eventually(partial(requested, receiver, "/slow", alone + 3), 20, "all are on the wire")
        may_answer.set()
        await running.until_statuses({"delivered": alone + 3})
        batches = [one for one in await workflow_ids(ground) if one.startswith("events/")]
    assert len(batches) == 1


async def test_a_hanging_receiver_does_not_hold_up_the_events_of_others(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    patient = {"batch_events": 20, "request_timeout_seconds": 30}
    async with Receiver() as receiver, pipeline(cleared_url, temporal.client, **patient) as running:
        receiver.script(*[hang()] * 200, path="/hanging")
        await running.subscribe("CustomerUpdated", receiver.url("/hanging"))
        await running.subscribe("CustomerDeactivated", receiver.url("/healthy"))
        await running.emit("CustomerUpdated", "{}", 60)
        await eventually(lambda: requested(receiver, "/hanging", 20), 30, "the first batch hangs")
        await running.emit("CustomerDeactivated", "{}")
        await eventually(
            lambda: requested(receiver, "/healthy", 1), 15, "the neighbour is delivered, none is waited for"
        )


async def requested(receiver: Receiver, path: str, count: int) -> bool:
    return sum(request.target == path for request in receiver.requests) >= count


async def test_an_orderly_stop_records_what_is_under_way_and_gives_the_leases_up(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    gate = asyncio.Event()
    async with Receiver() as receiver:
        receiver.otherwise = when(gate, status(200))
        async with pipeline(cleared_url, temporal.client) as running:
            await running.subscribe("CustomerUpdated", receiver.url("/hook"))
            await running.emit("CustomerUpdated", "{}", FIRST_REQUESTS)
            await receiver.wait_for(FIRST_REQUESTS)
            asyncio.get_running_loop().call_later(0.5, gate.set)
        assert await ground.statuses() == {"delivered": FIRST_REQUESTS}
        assert await ground.scalar("SELECT count(*) FROM attempt WHERE outcome_at IS NULL") == 0
        assert await ground.scalar("SELECT count(*) FROM worker") == 0
