"""An attempt is made at its instant, once, whatever Temporal knows of the instant; a manual attempt is made at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, tzinfo
from typing import Self
from uuid import UUID

import pytest
from temporalio.exceptions import ApplicationError

from sending.dispatcher import LEASE_POLL_SECONDS
from tests.deadlines import eventually
from tests.receiver import Receiver, after, status, when
from tests.workbench import Workbench, workbench

pytestmark = pytest.mark.usefixtures("patient_batches")

DELAY_SECONDS = 60


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, retry_schedule_seconds=(DELAY_SECONDS, DELAY_SECONDS)) as bench:
        yield bench


@pytest.fixture
async def message_id(bench: Workbench, receiver: Receiver) -> UUID:
    """A delivery that has failed once and whose next attempt is a minute off."""
    receiver.script(status(500))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    [message_id] = await bench.waiting()
    return message_id


async def due_in(bench: Workbench) -> float:
    """Return the seconds until the retry of the only delivery that waits for one."""
    return float(
        await bench.scalar(
            "SELECT extract(epoch FROM next_attempt_at - clock_timestamp()) FROM delivery "
            "WHERE next_attempt_at IS NOT NULL"
        )
    )


async def test_an_activity_that_runs_too_early_waits_for_the_instant_in_the_row(
    bench: Workbench, receiver: Receiver, message_id: UUID
) -> None:
    """A worker died after it had written the outcome, and Temporal repeats the activity at once."""
    with pytest.raises(ApplicationError) as early:
        await bench.deliver_webhook(message_id, due=False)
    assert early.value.type == "NotDueYet"
    delay = early.value.next_retry_delay
    assert delay is not None
    assert delay.total_seconds() == pytest.approx(await due_in(bench), abs=15)
    assert len(receiver.requests) == 1
    assert (await bench.deliver_webhook(message_id)).status == "delivered"


@pytest.mark.parametrize("retry_after", [False, True], ids=["the schedule", "Retry-After"])
async def test_a_first_attempt_that_fails_after_its_batch_ended_is_repeated_when_it_is_due(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, retry_after: bool
) -> None:
    monkeypatch.setattr("activities.deliver.STALL_SECONDS", 0.1)
    answered = asyncio.Event()
    headers = (("Retry-After", "300"),) if retry_after else ()
    receiver.script(when(answered, status(503, headers=headers)))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}")
    assert (await bench.attempt_events(event_ids)).retrying == 1
    [waiting] = await bench.schedule_retries(event_ids)
    assert (waiting.retry_id, waiting.due_in_seconds) == (f"{waiting.message_id}/0", 0), "it is on the wire"
    answered.set()
    await eventually(lambda: has_failed(bench), 30, "the outcome is written")
    with pytest.raises(ApplicationError) as early:
        await bench.deliver_webhook(waiting.message_id, retry_id=waiting.retry_id, due=False)
    assert early.value.type == "NotDueYet"
    delay = early.value.next_retry_delay
    assert delay is not None
    assert (delay.total_seconds() > 2 * DELAY_SECONDS) == retry_after
    assert len(receiver.requests) == 1


async def has_failed(bench: Workbench) -> bool:
    return bool(await bench.scalar("SELECT next_attempt_at IS NOT NULL FROM delivery"))


async def test_an_attempt_is_due_as_well_when_temporals_clock_is_ahead(bench: Workbench, message_id: UUID) -> None:
    end = await bench.deliver_webhook(message_id, due=False, clock_ahead=timedelta(seconds=70))
    assert end.status == "delivered"


async def test_a_workers_clock_that_is_hours_behind_makes_no_attempt_due(
    bench: Workbench, receiver: Receiver, message_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) - timedelta(hours=2)

    monkeypatch.setattr("activities.retry.datetime", Behind, raising=False)
    with pytest.raises(ApplicationError) as early:
        await bench.deliver_webhook(message_id, due=False)
    assert early.value.type == "NotDueYet"
    assert len(receiver.requests) == 1


async def test_no_attempt_precedes_the_receivers_instant_when_temporals_clock_is_ahead(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.script(status(503, headers=(("Retry-After", "60"),)))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    [message_id] = await bench.waiting()
    with pytest.raises(ApplicationError) as early:
        await bench.deliver_webhook(message_id, due=False, clock_ahead=timedelta(seconds=70))
    assert early.value.type == "NotDueYet"
    assert early.value.next_retry_delay is not None
    assert early.value.next_retry_delay.total_seconds() == pytest.approx(await due_in(bench), abs=15)
    assert len(receiver.requests) == 1


async def test_the_attempt_of_another_worker_counts_as_the_one_that_was_due(
    cleared_url: str, bench: Workbench, receiver: Receiver
) -> None:
    answered = asyncio.Event()
    receiver.script(when(answered, status(500)))
    async with workbench(cleared_url, retry_schedule_seconds=(DELAY_SECONDS,)) as other:
        await other.subscribe("CustomerUpdated", receiver.url("/hook"))
        first = asyncio.create_task(other.attempt_events(await other.emit("CustomerUpdated", "{}")))
        await receiver.wait_for(1)
        [message_id] = await bench.waiting()
        ours = asyncio.create_task(bench.deliver_webhook(message_id, due=False))
        await asyncio.wait([ours], timeout=2 * LEASE_POLL_SECONDS)
        answered.set()
        await first
        with pytest.raises(ApplicationError) as early:
            await ours
    assert early.value.type == "NotDueYet"
    assert len(receiver.requests) == 1


async def test_a_failure_early_in_a_batch_is_repeated_no_later_because_others_are_slow(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.script(status(503), path="/failing")
    receiver.script(after(1.0, status(200)), path="/slow")
    await bench.subscribe("CustomerUpdated", receiver.url("/failing"), retry_schedule=[60])
    await bench.subscribe("CustomerUpdated", receiver.url("/slow"))
    event_ids = await bench.emit("CustomerUpdated", '{"customer":{}}')
    await bench.attempt_events(event_ids)
    before = await due_in(bench)
    [waiting] = await bench.schedule_retries(event_ids)
    assert await due_in(bench) <= waiting.due_in_seconds <= before
