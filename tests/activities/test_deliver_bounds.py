"""What a batch may cost others: its history, its neighbours, and what our own faults may say."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from activities import deliver
from temporal.messages import FirstAttempts
from tests.receiver import Receiver, hang, status
from tests.workbench import Workbench, workbench


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, retry_schedule_seconds=(60, 60), breaker_failures=10_000) as bench:
        yield bench


async def test_a_huge_batch_of_failures_fits_into_a_workflows_history(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "FIRST_ATTEMPTS_SECONDS_WITH_FAILURES", 20.0)
    monkeypatch.setattr(deliver, "STALL_SECONDS", 20.0)
    for number in range(20):
        await bench.subscribe("CustomerUpdated", f"http://127.0.0.1:1/{'long/' * 300}{number}")  # nobody listens
    event_ids = await bench.emit("CustomerUpdated", "{}", 200)
    first = await bench.attempt_events(event_ids)
    assert first.going_on == 4000
    assert 0 < len(first.waiting) <= deliver.MOST_LISTED
    assert len(encoded(first)) < 512 * 1024
    listed = {waiting.event_id for waiting in first.waiting}
    assert listed.isdisjoint(first.unlisted)
    assert listed | set(first.unlisted) == {str(event_id) for event_id in event_ids}


def encoded(value: FirstAttempts) -> bytes:
    """As it crosses the boundary."""
    [payload] = pydantic_data_converter.payload_converter.to_payloads([value])
    return payload.SerializeToString()


async def test_one_hanging_receiver_holds_up_neither_neighbours_nor_their_retries(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.script(*[hang()] * 40, path="/hanging")
    receiver.script(*[status(500)] * 20, path="/failing")
    for path in ("/hanging", "/failing", "/healthy"):
        await bench.subscribe("CustomerUpdated", receiver.url(path))
    event_ids = await bench.emit("CustomerUpdated", "{}", 20)
    began = asyncio.get_running_loop().time()
    first = await bench.attempt_events(event_ids)
    took = asyncio.get_running_loop().time() - began
    assert first.delivered == 20
    assert took < 2.5, "the hanging receiver was waited for"
    assert {waiting.target.rpartition("/")[2] for waiting in first.waiting} == {"hanging", "failing"}
    failed = [w for w in first.waiting if w.target.endswith("/failing")]
    assert len(failed) == 20
    assert all(w.delay_seconds > 0 for w in failed)
    # The hanging attempts go on meanwhile, and others are made beside them.
    assert (await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))).delivered >= 1


async def test_own_faults_reach_temporal_without_their_text(bench: Workbench) -> None:
    event_ids = await bench.emit("CustomerUpdated", "{}")
    await bench.execute("ALTER TABLE subscription_health RENAME TO subscription_health_elsewhere")
    try:
        with pytest.raises(ApplicationError) as raised:
            await bench.attempt_events(event_ids)
    finally:
        await bench.execute("ALTER TABLE subscription_health_elsewhere RENAME TO subscription_health")
    assert raised.value.type == "OwnFault"
    assert raised.value.__cause__ is None
    assert "subscription_health" not in str(raised.value)
