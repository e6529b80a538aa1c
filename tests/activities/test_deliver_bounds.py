"""What a batch may cost others: its history, its neighbours, and what internal errors may say."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from domain.events.catalogue import CATALOGUE
from sending.concurrency import FIRST_REQUESTS
from temporal.messages import EventRef, FirstAttempts
from tests.receiver import Receiver, hang, status
from tests.workbench import Workbench, workbench

pytestmark = pytest.mark.usefixtures("patient_batches")

LARGEST_BATCH = 1000
"""Most events a workflow may be configured to take (`settings.batch_events`)."""


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url, retry_schedule_seconds=(60, 60), breaker_failures=10_000) as bench:
        yield bench


def test_the_result_of_a_batch_that_fails_altogether_fits_into_a_workflows_history() -> None:
    largest = [EventRef("s" * 63, str(UUID(int=number)), max(CATALOGUE, key=len)) for number in range(LARGEST_BATCH)]
    [payload] = pydantic_data_converter.payload_converter.to_payloads([FirstAttempts(unsettled=largest)])
    assert len(payload.SerializeToString()) < 512 * 1024


async def test_one_hanging_receiver_holds_up_neither_neighbours_nor_their_retries(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.deliver.STALL_SECONDS", 1.0)
    for bound in ("FIRST_ATTEMPTS_SECONDS", "FIRST_ATTEMPTS_SECONDS_WITH_FAILURES"):
        monkeypatch.setattr(f"activities.deliver.{bound}", 60)
    receiver.script(*[hang()] * 40, path="/hanging")
    receiver.script(*[status(500)] * 20, path="/failing")
    for path in ("/hanging", "/failing", "/healthy"):
        await bench.subscribe("CustomerUpdated", receiver.url(path))
    event_ids = await bench.emit("CustomerUpdated", "{}", 20)
    async with asyncio.timeout(bench.settings.request_timeout_seconds - 1):  # the hanging receiver is not waited for
        first = await bench.attempt_events(event_ids)
    assert first.delivered == 20
    assert first.retrying == 20 + FIRST_REQUESTS
    waiting = await bench.execute(
        "SELECT url, next_attempt_at IS NOT NULL AS failed FROM delivery WHERE status = 'pending' ORDER BY url"
    )
    assert Counter((row.url, row.failed) for row in waiting) == {
        (receiver.url("/failing"), True): 20,
        (receiver.url("/hanging"), False): FIRST_REQUESTS,
    }
    # The hanging attempts go on meanwhile, and others are made beside them.
    assert (await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))).delivered >= 1


async def test_internal_errors_are_logged_and_quote_no_statement(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    event_ids = await bench.emit("CustomerUpdated", "{}")
    await bench.execute("ALTER TABLE subscription_health RENAME TO subscription_health_elsewhere")
    try:
        with pytest.raises(ApplicationError) as raised:
            await bench.attempt_events(event_ids)
    finally:
        await bench.execute("ALTER TABLE subscription_health_elsewhere RENAME TO subscription_health")
    assert raised.value.type == "InternalError"
    assert raised.value.__cause__ is None
    assert "subscription_health" not in str(raised.value)
    logged = "".join(caplog.text.splitlines())
    assert re.search(
        r"activity \w+ failed with an internal error \(PostgreSQL: a table is missing; run .*\), Temporal retries it",
        logged,
    )
