"""Background loops survive outages, say so in the log, and stop on a bug."""

import asyncio
import errno
import logging
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from temporal.periodic import run_periodically


class Task:
    """Raises each error of `outcomes` in turn (None: succeeds), then ends the loop by cancelling it."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes: Iterator[Exception | None] = iter(outcomes)
        self.runs = 0

    async def __call__(self) -> None:
        try:
            outcome = next(self._outcomes)
        except StopIteration:
            raise asyncio.CancelledError from None
        self.runs += 1
        if outcome is not None:
            raise outcome


async def test_an_outage_is_logged_in_plain_words_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    task = Task(OperationalError("SELECT 1", {}, refused), None, TimeoutError())
    with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
        await run_periodically("partition maintenance", task, every_seconds=0, retry_seconds=0.001)
    assert task.runs == 3
    assert [record.getMessage() for record in caplog.records] == [
        "partition maintenance failed (PostgreSQL: Connection refused), retrying in 0.001 s",
        "partition maintenance failed (PostgreSQL: no answer in time), retrying in 0.001 s",
    ]


async def test_a_success_waits_for_the_interval_and_an_outage_for_the_retry_delay() -> None:
    for outcome, runs in ((None, 1), (OSError(), 2)):
        task = Task(outcome, None, None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run_periodically("task", task, every_seconds=60, retry_seconds=0), 0.05)
        assert task.runs == runs


async def test_a_bug_ends_the_loop() -> None:
    task = Task(ValueError("bug"), None)
    with pytest.raises(ValueError, match="bug"):
        await run_periodically("task", task, every_seconds=0)
    assert task.runs == 1
