"""Intents and outcomes are written together, survive a database that goes away, and one bad row stops nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.exceptions import ApplicationError

import worker
from sending import recorder
from storage.database import SERVER_SETTINGS
from storage.deliveries.attempts import Intent, Outcome, intend
from storage.deliveries.transitions import record
from tests.deadlines import eventually
from tests.ground import Ground
from tests.receiver import Receiver, status, when
from tests.tcp_proxy import TcpProxy, database_behind_proxy
from tests.workbench import Workbench, workbench

SCHEDULE = (60, 60)


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, retry_schedule_seconds=SCHEDULE) as bench:
        yield bench


@asynccontextmanager
async def behind_proxy(database_url: str) -> AsyncIterator[tuple[Workbench, TcpProxy]]:
    """A worker whose database can be taken away."""
    async with (
        database_behind_proxy(database_url) as (url, proxy),
        workbench(url, retry_schedule_seconds=SCHEDULE) as bench,
    ):
        try:
            yield bench, proxy
        finally:
            proxy.mend()


def flushes(bench: Workbench) -> int:
    """Transactions in which rows were written so far."""
    count = bench.metrics.registry.get_sample_value("loyalty_webhooks_flush_rows_count")
    return int(count or 0)


async def until_recorded(ground: Ground, count: int) -> None:
    async def recorded() -> bool:
        return bool(await ground.scalar("SELECT count(*) FROM attempt WHERE outcome_at IS NOT NULL") == count)

    await eventually(recorded, 60, f"{count} outcomes")


async def test_many_attempts_share_few_transactions(cleared_url: str, receiver: Receiver) -> None:
    receiver.script(*[status(500)] * 400)
    async with workbench(cleared_url, breaker_failures=1000, retry_schedule_seconds=(6000,)) as bench:
        for number in range(4):
            await bench.subscribe("CustomerUpdated", receiver.url(f"/{number}"))
        first = await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 100))
        assert first.retrying == 400
        assert flushes(bench) < 100, "outcomes"
        before = flushes(bench)
        ends = await asyncio.gather(*(bench.deliver_webhook(message_id) for message_id in await bench.waiting()))
        assert {end.status for end in ends} == {"delivered"}
        assert flushes(bench) - before < 200, "intents and outcomes"
        assert await bench.scalar("SELECT count(*) FROM attempt WHERE outcome_at IS NOT NULL") == 800


@pytest.mark.parametrize("fault", ["refused", "frozen"])
async def test_outcomes_are_kept_while_the_database_is_away_and_written_when_it_is_back(
    ground: Ground, cleared_url: str, receiver: Receiver, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STATEMENT_SECONDS", 5)
    monkeypatch.setattr("activities.deliver.STALL_SECONDS", 1.0)
    gate = asyncio.Event()
    receiver.otherwise = when(gate, status(200))
    async with behind_proxy(cleared_url) as (bench, proxy):
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        event_ids = await bench.emit("CustomerUpdated", "{}", 10)
        asked = asyncio.create_task(bench.attempt_events(event_ids))
        await receiver.wait_for(10)
        if fault == "refused":
            proxy.cut(refuse=True)
        else:
            proxy.freeze()
        gate.set()
        first = await asked
        if fault == "frozen":

            async def given_up() -> bool:
                return (bench.metrics.registry.get_sample_value("loyalty_webhooks_flush_faults_total") or 0) > 0

            await eventually(given_up, 30, "a statement that took too long")
        assert first.retrying == 10, "nothing counts as delivered that is not written"
        assert await ground.scalar("SELECT count(*) FROM attempt WHERE outcome_at IS NOT NULL") == 0
        proxy.mend()
        await until_recorded(ground, 10)
        assert await ground.statuses() == {"delivered": 10}
        assert await ground.scalar("SELECT max(number) FROM attempt") == 1
    assert len(receiver.requests) == 10


async def test_without_the_database_nothing_is_sent_and_the_fault_is_ours(
    ground: Ground, cleared_url: str, receiver: Receiver
) -> None:
    receiver.script(status(500))
    async with behind_proxy(cleared_url) as (bench, proxy):
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
        [message_id] = await bench.waiting()
        proxy.cut(refuse=True)
        with pytest.raises(ApplicationError) as raised:
            await bench.deliver_webhook(message_id, retry_id=f"{message_id}/1", due=False)
        assert raised.value.type == "Unavailable"
        assert raised.value.next_retry_delay is None, "the plain back-off, not the receiver's schedule"
        proxy.mend()
        assert len(receiver.requests) == 1
        assert (await bench.deliver_webhook(message_id)).status == "delivered"
    [delivery] = await ground.deliveries()
    assert (delivery.attempts, delivery.failures) == (2, 1)


async def test_killed_database_sessions_in_mid_burst_lose_no_outcome(
    bench: Workbench, ground: Ground, receiver: Receiver
) -> None:
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}", 200)
    asked = asyncio.create_task(bench.attempt_events(event_ids))
    for reached in (20, 60, 120):
        await receiver.wait_for(reached)
        await ground.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await asked
    await bench.database.repeated(bench.database.ping)  # nothing may have used the pool since the last kill
    for message_id in await bench.waiting():
        assert (await bench.deliver_webhook(message_id)).status == "delivered"
    assert await ground.statuses() == {"delivered": 200}
    assert await ground.scalar("SELECT count(*) FROM attempt WHERE outcome_at IS NULL") == 0
    sent = await ground.scalar("SELECT count(*) FROM attempt WHERE status_code = 200")
    assert len(receiver.requests) == sent


@pytest.fixture
async def poisoned(ground: Ground) -> AsyncIterator[None]:
    """The database refuses rows with this excerpt, and those with this trigger."""
    await ground.execute("ALTER TABLE attempt ADD CONSTRAINT poison CHECK (response_excerpt IS DISTINCT FROM 'poison')")
    await ground.execute("ALTER TABLE attempt ADD CONSTRAINT trap CHECK (trigger <> 'poison')")
    yield
    await ground.execute("ALTER TABLE attempt DROP CONSTRAINT poison, DROP CONSTRAINT trap")


@pytest.mark.usefixtures("poisoned")
async def test_a_refused_outcome_is_written_without_its_texts_and_holds_up_no_other(
    bench: Workbench, receiver: Receiver
) -> None:
    gate = asyncio.Event()
    replies = [when(gate, status(200, body=b"poison" if number == 7 else b"fine")) for number in range(10)]
    receiver.script(*replies)
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    asked = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 10)))
    await receiver.wait_for(10)
    gate.set()
    assert (await asked).delivered == 10
    excerpts = await bench.execute("SELECT response_excerpt, count(*) FROM attempt GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in excerpts] == [("fine", 9), (None, 1)]
    assert not bench.writing.done()


@pytest.mark.usefixtures("poisoned")
async def test_a_refused_intent_is_a_fault_of_ours_and_holds_up_no_other(bench: Workbench, receiver: Receiver) -> None:
    receiver.script(*[status(500)] * 10)
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 10))
    ids = await bench.waiting()
    loaded = [await bench.load(message_id) for message_id in ids]
    attempts = [
        bench.dispatcher.begin(delivery, "poison" if number == 3 else "automatic")
        for number, delivery in enumerate(loaded)
    ]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert isinstance(results[3], recorder.RecorderUnavailableError)
    assert [step.status for step in results if not isinstance(step, BaseException)] == ["delivered"] * 9
    assert len(receiver.requests) == 19
    assert (await bench.deliver_webhook(ids[3])).status == "delivered"


async def test_an_error_nobody_foresaw_does_not_stop_the_recorder(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = True

    async def mistaken(connection: AsyncConnection, outcomes: list[Outcome]) -> Any:
        if failing and outcomes:
            raise ZeroDivisionError
        return await record(connection, outcomes)

    monkeypatch.setattr(recorder, "record", mistaken)
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    first = await bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 3))
    assert first.retrying == 3
    failing = False
    for message_id in await bench.waiting():
        assert (await bench.deliver_webhook(message_id)).status == "delivered"
    assert not bench.writing.done()


async def test_no_intent_waits_behind_the_outcomes_that_an_outage_keeps(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, kept = True, set[UUID]()

    async def unreachable(connection: AsyncConnection, outcomes: list[Outcome]) -> Any:
        if away and outcomes:
            kept.update(one.message_id for one in outcomes)
            raise ConnectionResetError
        return await record(connection, outcomes)

    async def behind_outcomes() -> bool:
        return len(kept) > 0

    monkeypatch.setattr(recorder, "record", unreachable)
    monkeypatch.setattr(recorder, "MOST_ROWS", 1)
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    attempting = asyncio.create_task(bench.attempt_events(await bench.emit("CustomerUpdated", "{}", 4)))
    await eventually(behind_outcomes, 30, "an outcome that cannot be written")
    intent = Intent(datetime.now(UTC).date(), uuid4(), 1, uuid4(), "automatic", uuid4(), False, "held")
    async with asyncio.timeout(30):
        with pytest.raises(recorder.RecorderUnavailableError):
            await bench.dispatcher.recorder.intend(intent)
    away = False
    await attempting
    assert await bench.statuses() == {"delivered": 4}


async def test_an_intent_alone_takes_no_transaction(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[str | None] = []

    async def noted(connection: AsyncConnection, intents: Sequence[Intent]) -> set[tuple[UUID, int]]:
        if intents:
            levels.append(connection.sync_connection.get_execution_options().get("isolation_level"))
        return await intend(connection, intents)

    receiver.script(status(500))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    monkeypatch.setattr(recorder, "intend", noted)
    [message_id] = await bench.waiting()
    assert (await bench.deliver_webhook(message_id)).status == "delivered"
    assert levels == ["AUTOCOMMIT"]


async def test_an_intent_is_written_only_with_the_end_of_the_one_before(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.script(status(500))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    [message_id] = await bench.waiting()
    await bench.execute("UPDATE delivery SET attempts = 0")
    await bench.execute("UPDATE attempt SET outcome_at = NULL, failure = NULL")  # as its worker left it when it died
    delivery = await bench.load(message_id)
    monkeypatch.setattr("storage.deliveries.attempts._INTERRUPT", text("SELECT 1 / 0"))
    with pytest.raises(recorder.RecorderUnavailableError):
        await bench.dispatcher.begin(delivery, "automatic")
    assert [one.number for one in await bench.attempts(message_id)] == [1]
    assert len(receiver.requests) == 1


async def test_an_intent_whose_number_is_taken_is_told_so(bench: Workbench, receiver: Receiver) -> None:
    receiver.script(status(500))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    [message_id] = await bench.waiting()
    stale = await bench.load(message_id)
    assert (await bench.deliver_webhook(message_id)).status == "delivered"
    with pytest.raises(Exception, match="another sender"):
        await bench.dispatcher.begin(stale, "automatic")
    assert len(receiver.requests) == 2


async def test_an_intent_whose_commit_was_not_answered_leaves_its_delivery_to_other_workers(
    bench: Workbench, receiver: Receiver, cleared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Sequence[Intent]] = []

    async def unanswered(connection: AsyncConnection, intents: Sequence[Intent]) -> set[tuple[UUID, int]]:
        written = await intend(connection, intents)
        if intents and not lost:
            lost.append(intents)
            await connection.exec_driver_sql("COMMIT")
            raise ConnectionResetError
        return written

    receiver.script(status(500))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    [message_id] = await bench.waiting()
    monkeypatch.setattr(recorder, "intend", unanswered)
    with pytest.raises(recorder.RecorderUnavailableError):
        await bench.dispatcher.begin(await bench.load(message_id), "automatic")
    assert len(lost) == 1

    async def nobody_sends_it() -> bool:
        return (await bench.load(message_id)).sender_id is None

    await eventually(nobody_sends_it, 30, "its lease is given up, although its worker lives")
    async with workbench(cleared_url) as other:
        assert (await other.deliver_webhook(message_id)).status == "delivered"
    assert [(attempt.number, attempt.failure) for attempt in await bench.attempts(message_id)] == [
        (1, "http_5xx"),
        (2, None),
    ]


async def test_row_locks_of_a_stopped_process_end(
    ground: Ground, cleared_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as benches:
        with monkeypatch.context() as impatient:  # the other one may be idle for longer
            impatient.setitem(SERVER_SETTINGS, "idle_in_transaction_session_timeout", "400")
            stopped = await benches.enter_async_context(workbench(cleared_url))
        bench = await benches.enter_async_context(workbench(cleared_url))
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        event_ids = await bench.emit("CustomerUpdated", "{}", 3)
        connection = await stopped.database.engine.connect()
        try:
            await connection.exec_driver_sql("SELECT FROM event FOR UPDATE")
            async with asyncio.timeout(20):
                assert (await bench.attempt_events(event_ids)).delivered == 3
        finally:
            await connection.invalidate()  # PostgreSQL has ended it
            await connection.close()
