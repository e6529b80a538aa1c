"""Later attempts are standalone activities on the real server: started once, found by an operator, repeated after every
fault, and ended with their delivery."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from temporalio.client import ActivityExecutionDescription, ActivityExecutionStatus, Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import event_workflow_id
from domain.delivery.retry import JITTER
from storage.deliveries.retries import WaitingRetry
from storage.deliveries.transitions import cancel, own_retries
from temporal.codec import data_converter
from temporal.retries import RETRY_PRIORITY, STARTS_AT_ONCE, OverdueRounds, Retries, watch_overdue
from temporal.starts import ActionStarts
from temporal.visibility import EVENT_IDS, EVENT_NAME, RECEIVER_HOSTS, STORE_CODE
from tests.bulk_actions import fail_many
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, status
from tests.tcp_proxy import tcp_proxy
from tests.temporal_server import activity_is_there
from tests.workbench import NotedRetries, Workbench, workbench

EVENT = "CustomerUpdated"
HOUR = 3600
OURS = {"activities", "relay", "sending", "storage", "temporal", "temporalio", "workflows", "worker"}
"""First parts of the names of the loggers whose tracebacks count."""


async def waiting_activity(running: Pipeline, attempts: int = 1) -> tuple[UUID, ActivityExecutionDescription]:
    """Wait until the only delivery's activity waits; (message id, its description)."""

    async def waits() -> bool:
        rows = await running.execute("SELECT retry_id FROM delivery WHERE attempts = :made", made=attempts)
        return bool(rows) and await activity_is_there(running.client, rows[0].retry_id)

    await eventually(waits, 20, "an activity that waits")
    [delivery] = await running.deliveries()
    return delivery.message_id, await running.client.get_activity_handle(delivery.retry_id).describe()


async def test_retries_are_attempts_of_one_activity_at_the_instants_of_the_schedule(
    database_url: str, temporal: WorkflowEnvironment, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    schedule = (2, 1)
    async with pipeline(database_url, temporal.client, retry_schedule_seconds=schedule) as running:
        receiver.script(status(503), status(500), path="/failing")
        await running.subscribe(EVENT, receiver.url("/failing"))
        await running.emit(EVENT, "{}")
        await running.until_statuses({"delivered": 1})
        [delivery] = await running.deliveries()
        attempts = await running.attempts(delivery.message_id)
        assert [attempt.status_code for attempt in attempts] == [503, 500, 200]
        assert len({attempt.request_id for attempt in attempts}) == 3
        for before, after, delay in zip(attempts, attempts[1:], schedule, strict=False):
            assert (after.started_at - before.outcome_at).total_seconds() >= delay * (1 - JITTER) - 0.5
        handle = running.client.get_activity_handle(f"{delivery.message_id}/1")
        assert (await handle.result())["status"] == "delivered"
        assert (await handle.describe()).attempt == 2, "the first attempt was the workflow's"
    ours = [record for record in caplog.records if record.exc_info and record.name.partition(".")[0] in OURS]
    assert [record.getMessage() for record in ours] == [], "an expected failure logs no traceback"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING and "ctivity" in record.name]


@pytest.mark.usefixtures("patient_batches")
async def test_an_operator_finds_the_activity_that_waits(
    database_url: str, temporal: WorkflowEnvironment, receiver: Receiver
) -> None:
    async with pipeline(database_url, temporal.client, retry_schedule_seconds=(HOUR,)) as running:
        receiver.script(status(503))
        await running.subscribe(EVENT, receiver.url("/hook?token=secret"))
        [event_id] = await running.emit(EVENT, "{}")
        message_id, found = await waiting_activity(running)
        assert (found.activity_id, found.activity_type) == (f"{message_id}/1", "deliver-webhook")
        assert found.status is ActivityExecutionStatus.RUNNING
        assert (found.priority.priority_key, found.priority.fairness_key) == (RETRY_PRIORITY, STORE)
        attributes = {pair.key.name: pair.value for pair in found.typed_search_attributes}
        assert attributes == {
            STORE_CODE.name: [STORE],
            EVENT_NAME.name: [EVENT],
            EVENT_IDS.name: [str(event_id)],
            RECEIVER_HOSTS.name: "127.0.0.1",
        }
        summary = await running.client.data_converter.decode([found.raw_info.user_metadata.summary])
        assert summary == [f"{receiver.url('/hook').removeprefix('http://')} · {EVENT} · {STORE}"]
        assert found.start_delay is not None
        assert HOUR * 0.8 < found.start_delay.total_seconds() < HOUR * 1.2
        workflow = running.client.get_workflow_handle(event_workflow_id(STORE, event_id))
        assert (await workflow.result())["retrying"] == 1, "the workflow does not wait"

        async def listed() -> bool:
            query = f"{RECEIVER_HOSTS.name} = '127.0.0.1' AND {EVENT_IDS.name} = '{event_id}'"
            return [one.activity_id async for one in running.client.list_activities(query)] == [found.activity_id]

        await eventually(listed, 20, "the activity in a list")


async def test_starting_retries_again_starts_nothing_twice(
    database_url: str, temporal: WorkflowEnvironment, receiver: Receiver
) -> None:
    async with pipeline(database_url, temporal.client, retry_schedule_seconds=(HOUR,)) as running:
        receiver.script(status(503))
        await running.subscribe(EVENT, receiver.url("/hook"))
        await running.emit(EVENT, "{}")
        message_id, before = await waiting_activity(running)
        async with running.database.transaction() as connection:
            waiting = await own_retries(connection, [message_id])
        assert await Retries(running.client, running.settings.task_queue).start_all(waiting) == 0
        again = await running.client.get_activity_handle(before.activity_id).describe()
        assert again.activity_run_id == before.activity_run_id
        assert len(receiver.requests) == 1


def unstarted(retry_id: str) -> WaitingRetry:
    """A retry that nobody works on: its task queue has no worker."""
    return WaitingRetry(uuid4(), retry_id, "s" * 63, uuid4(), EVENT, "http://127.0.0.1:9/", 60.0)


async def test_a_start_that_temporal_refuses_is_counted_and_holds_up_no_other(temporal: WorkflowEnvironment) -> None:
    faults: list[int] = []
    retries = Retries(temporal.client, f"nobody-{uuid4()}", lambda: faults.append(1))
    good = [unstarted(f"{uuid4()}/1") for _ in range(3)]
    too_long = unstarted("x" * 1001)
    assert await retries.start_all([good[0], too_long, *good[1:]]) == 1
    assert len(faults) == 1
    for one in good:
        assert await activity_is_there(temporal.client, one.retry_id)
        await temporal.client.get_activity_handle(one.retry_id).terminate(reason="the test is over")


async def test_starts_end_with_the_first_one_that_temporal_does_not_answer(
    temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporal.retries.START_TIMEOUT", timedelta(seconds=0.5))
    host, port = temporal.client.service_client.config.target_host.split(":")
    faults: list[int] = []
    async with tcp_proxy(host, int(port)) as proxy:
        client = await Client.connect(f"127.0.0.1:{proxy.port}", data_converter=data_converter(()))
        retries = Retries(client, f"nobody-{uuid4()}", lambda: faults.append(1))
        before = asyncio.all_tasks()
        proxy.freeze()
        with pytest.raises(RPCError):
            await retries.start_all(unstarted(f"{uuid4()}/1") for _ in range(50))
        assert {one for one in asyncio.all_tasks() - before if "start" in repr(one.get_coro())} == set()
        assert len(faults) <= STARTS_AT_ONCE


async def test_a_worker_replaced_between_two_attempts_changes_nothing(
    database_url: str, temporal: WorkflowEnvironment, receiver: Receiver
) -> None:
    receiver.script(status(503), status(503))
    same = {"task_queue": f"replaced-{uuid4()}", "retry_schedule_seconds": (8, 1)}
    async with pipeline(database_url, temporal.client, **same) as before:
        await before.subscribe(EVENT, receiver.url("/hook"))
        await before.emit(EVENT, "{}")
        await waiting_activity(before)
    async with pipeline(database_url, temporal.client, **same) as after:
        await after.until_statuses({"delivered": 1}, 60)
        [delivery] = await after.deliveries()
        attempts = await after.attempts(delivery.message_id)
    assert [attempt.status_code for attempt in attempts] == [503, 503, 200]
    assert attempts[0].worker_id == before.worker_id
    assert attempts[1].worker_id == attempts[2].worker_id == after.worker_id


async def test_cancelling_ends_the_activity_that_waits(
    database_url: str, temporal: WorkflowEnvironment, receiver: Receiver
) -> None:
    async with pipeline(database_url, temporal.client, retry_schedule_seconds=(HOUR,)) as running:
        receiver.script(status(503))
        await running.subscribe(EVENT, receiver.url("/hook"))
        await running.emit(EVENT, "{}")
        message_id, waiting = await waiting_activity(running)
        async with running.database.transaction() as connection:
            assert await cancel(connection, message_id)
            assert not await cancel(connection, message_id)
        acting = ActionStarts(running.client, running.settings.task_queue)
        await acting.end_retry(waiting.activity_id)
        described = await running.client.get_activity_handle(waiting.activity_id).describe()
        assert described.status is ActivityExecutionStatus.TERMINATED
        await acting.end_retry(waiting.activity_id)  # one that has ended is no fault
        await acting.end_retry(f"{message_id}/99")
        assert len(receiver.requests) == 1


class TestRestart:
    """A crash between the commit of an activity's id and its start leaves a row that no activity works on."""

    @pytest.fixture
    async def bench(self, cleared_url: str) -> AsyncIterator[Workbench]:
        async with workbench(cleared_url, retry_schedule_seconds=(HOUR,), breaker_failures=1000) as bench:
            yield bench

    async def fail(self, bench: Workbench, receiver: Receiver, count: int = 1) -> list[UUID]:
        """Fail so many deliveries whose activities are not started."""
        receiver.script(*[status(503)] * count)
        await bench.subscribe(EVENT, receiver.url("/hook"))
        await bench.attempt_events(await bench.emit(EVENT, "{}", count))

        async def all_written() -> bool:
            return bool(await bench.scalar("SELECT count(*) >= :count FROM delivery WHERE attempts = 1", count=count))

        await eventually(all_written, 20, "the outcomes are written")
        return await bench.waiting()

    async def test_a_delivery_overdue_by_a_minute_is_started_once(
        self, bench: Workbench, temporal: WorkflowEnvironment, receiver: Receiver
    ) -> None:
        late, soon = await self.fail(bench, receiver, 2)
        due = "UPDATE delivery SET next_attempt_at = now() - make_interval(secs => :ago) WHERE message_id = :id"
        await bench.execute(due, ago=90, id=late)
        await bench.execute(due, ago=20, id=soon)
        retries = Retries(temporal.client, f"nobody-{uuid4()}")
        assert await OverdueRounds(bench.database, retries).restart() == 1
        first = await temporal.client.get_activity_handle(f"{late}/1").describe()
        assert first.start_delay in (None, timedelta())
        assert not await activity_is_there(temporal.client, f"{soon}/1")
        await OverdueRounds(bench.database, retries).restart()
        again = await temporal.client.get_activity_handle(f"{late}/1").describe()
        assert again.activity_run_id == first.activity_run_id

        # One that has ended is no hindrance: a restored database can hold a row whose activity is over.
        await temporal.client.get_activity_handle(f"{late}/1").terminate(reason="as of a restored database")

        async def started_anew() -> bool:
            await OverdueRounds(bench.database, retries).restart()
            described = await temporal.client.get_activity_handle(f"{late}/1").describe()
            return described.activity_run_id != first.activity_run_id

        await eventually(started_anew, 20, "the same id has another run")
        await temporal.client.get_activity_handle(f"{late}/1").terminate(reason="the test is over")

    async def test_a_delivery_without_an_instant_counts_by_its_age(
        self, bench: Workbench, temporal: WorkflowEnvironment, receiver: Receiver
    ) -> None:
        subscription_id = await bench.subscribe(EVENT, receiver.url("/hook"))
        [event_id] = await bench.emit(EVENT, "{}")
        await fail_many(bench, subscription_id, event_id, 2, status="pending", reason=None)
        old, _ = await bench.waiting()
        retries = Retries(temporal.client, f"nobody-{uuid4()}")
        assert await OverdueRounds(bench.database, retries).restart() == 0
        await bench.execute(
            "UPDATE delivery SET created_at = now() - interval '2 minutes' WHERE message_id = :id", id=old
        )
        assert await OverdueRounds(bench.database, retries).restart() == 1
        assert await bench.scalar("SELECT retry_id FROM delivery WHERE message_id = :id", id=old) == f"{old}/0"
        assert await activity_is_there(temporal.client, f"{old}/0")
        await temporal.client.get_activity_handle(f"{old}/0").terminate(reason="the test is over")

    async def test_a_round_starts_the_longest_overdue_and_no_more_than_it_may(
        self, bench: Workbench, temporal: WorkflowEnvironment, receiver: Receiver
    ) -> None:
        message_ids = await self.fail(bench, receiver, 5)
        for minutes, message_id in enumerate(message_ids, start=2):
            await bench.execute(
                "UPDATE delivery SET next_attempt_at = now() - make_interval(mins => :ago) WHERE message_id = :id",
                ago=minutes,
                id=message_id,
            )
        retries = Retries(temporal.client, f"nobody-{uuid4()}")
        assert await OverdueRounds(bench.database, retries).restart(most=3) == 3
        there = [await activity_is_there(temporal.client, f"{message_id}/1") for message_id in message_ids]
        assert there == [False, False, True, True, True]
        for message_id in message_ids[2:]:
            await temporal.client.get_activity_handle(f"{message_id}/1").terminate(reason="the test is over")

    async def test_rounds_go_on_behind_the_last_one_and_begin_anew(self, bench: Workbench, receiver: Receiver) -> None:
        message_ids = await self.fail(bench, receiver, 5)
        for minutes, message_id in enumerate(message_ids, start=2):
            await bench.execute(
                "UPDATE delivery SET created_at = now() - make_interval(mins => :ago), next_attempt_at = "
                "CASE WHEN :known THEN now() - make_interval(mins => :ago) END WHERE message_id = :id",
                ago=minutes,
                known=minutes % 2 == 0,
                id=message_id,
            )
        retries = NotedRetries()
        rounds = OverdueRounds(bench.database, retries)
        assert [await rounds.restart(most=2) for _ in range(4)] == [2, 2, 1, 2]
        started = [one.message_id for one in retries.started]
        assert [set(started[:2]), set(started[2:4])] == [set(message_ids[3:]), set(message_ids[1:3])]
        assert (started[4], set(started[5:])) == (message_ids[0], set(message_ids[3:]))

    async def test_a_round_ends_while_temporal_is_away(self, bench: Workbench, receiver: Receiver) -> None:
        await self.fail(bench, receiver)
        await bench.execute("UPDATE delivery SET next_attempt_at = now() - interval '2 minutes'")
        away = await Client.connect("127.0.0.1:9", data_converter=data_converter(()), lazy=True)
        with pytest.raises((RPCError, RuntimeError)):
            await OverdueRounds(bench.database, Retries(away, "nobody")).restart()

    async def test_a_worker_cut_off_from_temporal_does_not_stop_the_rounds_of_the_others(
        self, bench: Workbench, cleared_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("temporal.retries.RECONCILE_SECONDS", 0.3)
        await self.fail(bench, receiver)
        await bench.execute("UPDATE delivery SET next_attempt_at = now() - interval '2 minutes'")
        away = await Client.connect("127.0.0.1:9", data_converter=data_converter(()), lazy=True)
        async with workbench(cleared_url) as other:
            cut_off, connected = sorted((bench, other), key=lambda one: one.worker_id)
            noted = NotedRetries()
            looking = [
                asyncio.create_task(watch_overdue(worker.database, retries, worker.worker_id))
                for worker, retries in ((cut_off, Retries(away, "nobody")), (connected, noted))
            ]

            async def started() -> bool:
                return bool(noted.started)

            try:
                await eventually(started, 20, "a round of the other worker")
            finally:
                for task in looking:
                    task.cancel()

    async def test_what_is_restarted_is_delivered_once(
        self, database_url: str, temporal: WorkflowEnvironment, receiver: Receiver
    ) -> None:
        async with workbench(database_url, retry_schedule_seconds=(HOUR,)) as crashed:
            [message_id] = await self.fail(crashed, receiver)
            await crashed.execute("UPDATE delivery SET next_attempt_at = now() - interval '2 minutes'")
        async with pipeline(database_url, temporal.client, relaying=False) as running:
            retries = Retries(running.client, running.settings.task_queue)
            for _ in range(2):
                await OverdueRounds(running.database, retries).restart()
            await running.until_statuses({"delivered": 1})
            assert await OverdueRounds(running.database, retries).restart() == 0
            assert [row.number for row in await running.attempts(message_id)] == [1, 2]
        assert len(receiver.requests) == 2
