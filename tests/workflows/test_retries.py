"""A failing receiver is tried again when the schedule says, over days, without anything waiting in a process."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import event_workflow_id, message_id
from domain.delivery.retry import JITTER, retry_delay
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Exchange, Receiver, Reply, status

SLACK_SECONDS = 1.5
"""The skipping clock runs on in real time while an attempt is made."""

DEFAULT_SCHEDULE = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)


class Clock:
    """Notes the server's time at each request, and answers by it."""

    def __init__(self, environment: WorkflowEnvironment) -> None:
        self._environment = environment
        self.arrivals: list[datetime] = []

    def until(self, instant: datetime, first: Reply, then: Reply) -> Reply:
        """Answer `first` before the instant, `then` from it on."""

        async def reply(exchange: Exchange) -> None:
            now = await self._environment.get_current_time()
            self.arrivals.append(now)
            await (first if now < instant else then)(exchange)

        return reply

    def gaps(self) -> list[float]:
        """Seconds between requests."""
        return [
            (after - before).total_seconds() for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)
        ]


async def finish(running: Pipeline, event_id: UUID, skipping: WorkflowEnvironment) -> None:
    """Let time skip until the event's workflow has ended; a week is more than any retry schedule here."""
    handle = running.client.get_workflow_handle(event_workflow_id(STORE, event_id))
    for _ in range(7 * 24):
        if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
            return
        await skipping.sleep(timedelta(hours=1))
    pytest.fail("the workflow did not end within a week")


async def begun(running: Pipeline, deliveries: int) -> None:
    """Wait until the first attempts are recorded, so that the workflow exists."""
    async with asyncio.timeout(20):
        while len([row for row in await running.deliveries() if row.attempts]) < deliveries:
            await asyncio.sleep(0.02)


async def test_503_for_an_hour_is_retried_at_the_schedules_times_and_holds_up_nobody(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    clock = Clock(skipping)
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        hour = await skipping.get_current_time() + timedelta(hours=1)
        failing = clock.until(hour, status(503), status(200))
        receiver.script(*[failing] * 10, path="/failing")
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/failing"))
        await running.subscribe("CustomerUpdated", receiver.url("/healthy"))
        [event_id] = await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"pending": 1, "delivered": 1})
        await finish(running, event_id, skipping)

        identity = message_id(event_id, subscription_id, "main")
        attempts = await running.attempts(identity)
        assert [attempt.status_code for attempt in attempts] == [503, 503, 503, 503, 200]
        expected = [retry_delay(DEFAULT_SCHEDULE, failure, identity, None) for failure in range(1, 5)]
        assert clock.gaps() == pytest.approx(expected, abs=SLACK_SECONDS)
        for gap, delay in zip(clock.gaps(), DEFAULT_SCHEDULE, strict=False):
            assert delay * (1 - JITTER) - SLACK_SECONDS <= gap <= delay * (1 + JITTER) + SLACK_SECONDS


async def test_retry_after_wins_over_the_schedule(database_url: str, skipping: WorkflowEnvironment) -> None:
    clock = Clock(skipping)
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        start = await skipping.get_current_time()
        busy = clock.until(start + timedelta(minutes=70), status(429, headers=[("Retry-After", "3600")]), status(200))
        receiver.script(*[busy] * 5, path="/busy")
        await running.subscribe("CustomerUpdated", receiver.url("/busy"))
        [event_id] = await running.emit("CustomerUpdated", "{}")
        await begun(running, 1)
        await finish(running, event_id, skipping)
        assert clock.gaps() == pytest.approx([3600, 3600], abs=SLACK_SECONDS)


async def test_a_delivery_is_exhausted_after_the_whole_schedule(
    database_url: str, skipping: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, skipping.client) as running:
        receiver.otherwise = status(500)
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        [event_id] = await running.emit("CustomerUpdated", "{}")
        await begun(running, 1)
        await finish(running, event_id, skipping)
        [delivery] = await running.deliveries()
        assert (delivery.status, delivery.reason, delivery.attempts) == ("exhausted", "schedule_used_up", 10)
        assert (delivery.last_status_code, delivery.next_attempt_at) == (500, None)


async def test_a_worker_replaced_between_two_attempts_changes_nothing(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver:
        receiver.script(status(503), status(503), status(200))
        same = {"task_queue": f"replaced-{uuid4()}", "retry_schedule_seconds": (2, 1)}
        async with pipeline(database_url, temporal.client, **same) as before:
            await before.subscribe("CustomerUpdated", receiver.url("/hook"))
            await before.emit("CustomerUpdated", "{}")
            await begun(before, 1)
        async with pipeline(database_url, temporal.client, **same) as after:
            await after.until_statuses({"delivered": 1}, 30)
            [delivery] = await after.deliveries()
            attempts = await after.attempts(delivery.message_id)
            assert [attempt.status_code for attempt in attempts] == [503, 503, 200]
            assert attempts[0].worker_id == before.worker_id
            assert attempts[1].worker_id == attempts[2].worker_id == after.worker_id
