"""An unwell receiver is asked ever more seldom, and given up after days without one success.

Retries wait, and never fall due, on a server that knows standalone activities.
"""

from uuid import UUID

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import drain_workflow_id
from tests.deadlines import eventually
from tests.pipeline import Pipeline, pipeline
from tests.receiver import Receiver, status
from tests.skipped_time import DAY, skip, timer_of

EVENT = "CustomerUpdated"
FAILURES = 10
"""In a row, which open the breaker."""

PROBES = [600, 1200, 2400, 4800, 7200, 7200]

SELDOM = {"breaker_first_probe_seconds": PROBES[0], "breaker_longest_probe_seconds": PROBES[-1]}
"""Intervals of which a busy machine's seconds are a small part. Skipped time costs nothing."""

DAILY = {"breaker_first_probe_seconds": DAY, "breaker_longest_probe_seconds": DAY}
"""A probe a day: five days of one a minute are 7,200."""

NEARLY_A_DAY = DAY - 60
"""The wait for a daily probe, less what passed since it was set; a drain that has just let go lingers for seconds."""

PATIENT = [10 * DAY] * 9
"""A retry schedule that nothing here outlasts."""


async def open_breaker(running: Pipeline, receiver: Receiver, subscription_id: UUID, held: int) -> None:
    """Let the receiver fail just as often as it takes, and some deliveries wait behind it."""
    receiver.otherwise = status(500)
    await running.emit(EVENT, "{}", count=FAILURES - 1)
    await eventually(lambda: failed_in_a_row(running, FAILURES - 1), 20, "all failures but one")
    assert not await breaker_is_open(running, subscription_id)
    await running.emit(EVENT, "{}")
    await eventually(lambda: failed_in_a_row(running, FAILURES), 20, "the last failure")
    assert await breaker_is_open(running, subscription_id)
    await running.emit(EVENT, "{}", count=held)

    async def waiting() -> bool:
        return (await running.statuses()).get("held") == held

    await eventually(waiting, 20, "held deliveries")


async def failed_in_a_row(running: Pipeline, failures: int) -> bool:
    return bool(await running.scalar("SELECT coalesce(max(failures_in_row), 0) FROM subscription_health") == failures)


async def breaker_is_open(running: Pipeline, subscription_id: UUID) -> bool:
    opened = (
        "SELECT count(*) = 1 FROM subscription_health WHERE subscription_id = :id AND breaker_opened_at IS NOT NULL"
    )
    return bool(await running.scalar(opened, id=subscription_id))


async def probe(
    running: Pipeline,
    skipping: WorkflowEnvironment,
    receiver: Receiver,
    subscription_id: UUID,
    at_least: float = 0.0,
) -> float:
    """Let the drain's wait of so many seconds at least pass, and its probe go out; how long it waited."""
    waits = await timer_of(running, drain_workflow_id(subscription_id), at_least)
    before = len(receiver.requests)
    await skip(running, skipping, waits)
    await receiver.wait_for(before + 1)
    return waits


async def fail_daily(
    running: Pipeline, skipping: WorkflowEnvironment, receiver: Receiver, subscription_id: UUID, days: int
) -> None:
    """Let so many of the daily probes fail, each day's recorded and the next one waited for."""
    for _ in range(days):
        await probe(running, skipping, receiver, subscription_id, at_least=NEARLY_A_DAY)
    await timer_of(running, drain_workflow_id(subscription_id), at_least=NEARLY_A_DAY)


async def test_an_unwell_receiver_is_asked_ever_more_seldom_and_its_first_success_lets_what_waited_go(
    database_url: str, skipping: WorkflowEnvironment, temporal: WorkflowEnvironment
) -> None:
    async with (
        Receiver() as receiver,
        pipeline(database_url, skipping.client, retries_through=temporal.client, **SELDOM) as running,
    ):
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=PATIENT)
        await open_breaker(running, receiver, subscription_id, held=3)
        waits = [await probe(running, skipping, receiver, subscription_id) for _ in PROBES[:-1]]
        assert await timer_of(running, drain_workflow_id(subscription_id)) == pytest.approx(PROBES[-1], abs=60)
        assert len(receiver.requests) == FAILURES + len(waits), "one probe an interval, and nothing else"
        assert 0 < waits[0] <= PROBES[0], "from the failure on that opened it"
        assert waits[1:] == pytest.approx(PROBES[1:-1], abs=60)
        held = [row.attempts for row in await running.deliveries() if row.status == "held"]
        assert sorted(held) == [0, 0, len(waits)], "a probe is an attempt of the oldest, and waiting is none"

        receiver.otherwise = status(200)
        await probe(running, skipping, receiver, subscription_id)
        await running.until_statuses({"pending": FAILURES, "delivered": 3})
        assert not await breaker_is_open(running, subscription_id)
        await running.emit(EVENT, "{}")
        await running.until_statuses({"pending": FAILURES, "delivered": 4})


async def test_five_days_without_one_success_disable_a_subscription_and_four_do_not(
    database_url: str, skipping: WorkflowEnvironment, temporal: WorkflowEnvironment
) -> None:
    async with (
        Receiver() as receiver,
        pipeline(database_url, skipping.client, retries_through=temporal.client, **DAILY) as running,
    ):
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=PATIENT)
        await open_breaker(running, receiver, subscription_id, held=1)
        await fail_daily(running, skipping, receiver, subscription_id, days=4)
        assert await running.scalar("SELECT status FROM subscription") == "active"
        await probe(running, skipping, receiver, subscription_id)
        await running.until_statuses({"exhausted": FAILURES + 1})
        [row] = await running.execute("SELECT status, status_reason FROM subscription")
        assert (row.status, row.status_reason) == ("disabled", "failing")
        assert {one.reason for one in await running.deliveries()} == {"subscription_disabled"}
        await skip(running, skipping, 7 * DAY)
        assert len(receiver.requests) == FAILURES + 5, "nothing was sent any more"


async def test_one_success_within_the_five_days_begins_them_anew(
    database_url: str, skipping: WorkflowEnvironment, temporal: WorkflowEnvironment
) -> None:
    async with (
        Receiver() as receiver,
        pipeline(database_url, skipping.client, retries_through=temporal.client, **DAILY) as running,
    ):
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=PATIENT)
        await open_breaker(running, receiver, subscription_id, held=1)
        await fail_daily(running, skipping, receiver, subscription_id, days=3)
        receiver.otherwise = status(200)
        await probe(running, skipping, receiver, subscription_id)
        await running.until_statuses({"pending": FAILURES, "delivered": 1})
        await open_breaker(running, receiver, subscription_id, held=1)
        await fail_daily(running, skipping, receiver, subscription_id, days=4)
        assert await running.scalar("SELECT status FROM subscription") == "active", "eight days, but not in a row"
