"""An attempt whose instant has not come is not made because a worker died; it is made when a person asks."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.deliver import LEASE_POLL_SECONDS
from temporal.messages import DeliveryEnd, DeliveryRef
from tests.deadlines import eventually
from tests.receiver import Receiver, after, status, when
from tests.workbench import Workbench, workbench

DELAY_SECONDS = 60


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, retry_schedule_seconds=(DELAY_SECONDS, DELAY_SECONDS)) as bench:
        yield bench


@pytest.fixture
async def message_id(bench: Workbench, receiver: Receiver) -> str:
    """A delivery that has failed once and whose next attempt is a minute off."""
    receiver.script(status(500))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    [waiting] = (await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))).waiting
    return waiting.message_id


async def deliver(
    bench: Workbench, message_id: str, *, attempt: int, asked: bool = False, ahead: timedelta = timedelta()
) -> DeliveryEnd:
    """The activity as Temporal asks for it: begun anew (attempt 1) or tried again, by a clock that may be ahead."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=attempt, started_time=datetime.now(UTC) + ahead)
    end: DeliveryEnd = await environment.run(bench.activities.deliver_webhook, DeliveryRef(message_id, asked))
    return end


async def test_a_try_after_a_worker_died_waits_for_the_instant_that_the_written_outcome_named(
    bench: Workbench, receiver: Receiver, message_id: str
) -> None:
    with pytest.raises(ApplicationError) as early:
        await deliver(bench, message_id, attempt=2)
    assert early.value.type == "NotDueYet"
    delay = early.value.next_retry_delay
    assert delay is not None
    assert 0 < delay.total_seconds() <= DELAY_SECONDS * 1.1
    assert len(receiver.requests) == 1
    await bench.execute("UPDATE delivery SET next_attempt_at = clock_timestamp()")
    assert (await deliver(bench, message_id, attempt=3)).status == "delivered"


async def test_an_activity_begun_because_a_person_asked_attempts_at_once(
    bench: Workbench, receiver: Receiver, message_id: str
) -> None:
    assert (await deliver(bench, message_id, attempt=1, asked=True)).status == "delivered"
    assert len(receiver.requests) == 2


async def test_what_a_person_asked_for_is_not_made_twice_because_a_worker_died(
    bench: Workbench, receiver: Receiver, message_id: str
) -> None:
    receiver.script(status(500))
    with pytest.raises(ApplicationError):
        await deliver(bench, message_id, attempt=1, asked=True)
    with pytest.raises(ApplicationError) as early:
        await deliver(bench, message_id, attempt=2, asked=True)
    assert early.value.type == "NotDueYet"
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("retry_after", [False, True], ids=["the schedule", "Retry-After"])
async def test_an_attempt_that_fails_between_its_batch_and_its_workflow_is_made_again_when_it_is_due_by(
    bench: Workbench, receiver: Receiver, retry_after: bool
) -> None:
    answered = asyncio.Event()
    headers = (("Retry-After", "300"),) if retry_after else ()
    receiver.script(when(answered, status(503, headers=headers)))
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    [waiting] = (await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))).waiting
    assert waiting.delay_seconds == 0, "it is on the wire"
    answered.set()
    await eventually(lambda: has_failed(bench), 10, "the outcome is written")
    with pytest.raises(ApplicationError) as early:
        await deliver(bench, waiting.message_id, attempt=1)
    assert early.value.type == "NotDueYet"
    delay = early.value.next_retry_delay
    assert delay is not None
    assert (delay.total_seconds() > 2 * DELAY_SECONDS) == retry_after
    assert len(receiver.requests) == 1


async def has_failed(bench: Workbench) -> bool:
    return bool(await bench.scalar("SELECT next_attempt_at IS NOT NULL FROM delivery"))


async def test_temporals_clock_says_too_that_an_attempt_is_due(bench: Workbench, message_id: str) -> None:
    assert (await deliver(bench, message_id, attempt=2, ahead=timedelta(seconds=70))).status == "delivered"


async def test_what_has_ended_meanwhile_is_not_waited_for(bench: Workbench, message_id: str) -> None:
    await bench.execute("UPDATE delivery SET status = 'cancelled'")
    assert (await deliver(bench, message_id, attempt=2)).status == "cancelled"


async def test_the_attempt_another_worker_is_making_is_the_one_that_an_activity_was_begun_for(
    cleared_url: str, bench: Workbench, receiver: Receiver
) -> None:
    answered = asyncio.Event()
    receiver.script(when(answered, status(500)))
    async with workbench(cleared_url, retry_schedule_seconds=(DELAY_SECONDS,)) as other:
        await other.subscribe("CustomerUpdated", receiver.url("/hook"))
        first = asyncio.create_task(other.attempt_events(await other.emit("CustomerUpdated", "{}")))
        await receiver.wait_for(1)
        ours = asyncio.create_task(
            deliver(bench, str(await bench.scalar("SELECT message_id FROM delivery")), attempt=1)
        )
        await asyncio.wait([ours], timeout=2 * LEASE_POLL_SECONDS)
        answered.set()
        await first
        with pytest.raises(ApplicationError) as early:
            await ours
    assert early.value.type == "NotDueYet"
    assert len(receiver.requests) == 1


async def test_what_fails_early_in_a_batch_waits_no_longer_because_others_were_slow(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.script(status(503), path="/failing")
    receiver.script(after(1.0, status(200)), path="/slow")
    await bench.subscribe("CustomerUpdated", receiver.url("/failing"), retry_schedule=[60])
    await bench.subscribe("CustomerUpdated", receiver.url("/slow"))
    [waiting] = (await bench.attempt_events(await bench.emit("CustomerUpdated", '{"customer":{}}'))).waiting
    due_in = await bench.scalar(
        "SELECT extract(epoch FROM next_attempt_at - clock_timestamp()) FROM delivery WHERE next_attempt_at IS NOT NULL"
    )
    assert waiting.delay_seconds == pytest.approx(float(due_in), abs=0.5)
