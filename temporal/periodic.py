"""Background loops of a process: a coroutine run every few seconds, surviving outages of PostgreSQL and Temporal."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn
from uuid import UUID

from storage.database import Database
from storage.operations.workers import live_workers
from temporal.outages import OUTAGES, in_words

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Time by which a turn may begin late, and after which another worker takes over the turn of one whose lease lapsed."""


async def run_periodically(
    task: str,
    run: Callable[[], Awaitable[object]],
    *,
    every_seconds: float,
    retry_seconds: float | None = None,
    outages: tuple[type[Exception], ...] = OUTAGES,
    at_once: bool = True,
) -> NoReturn:
    """Run `run` now (`at_once`) and then `every_seconds` after each end, until cancelled. `task` names it in the log,
    for an operator ("partition maintenance"). After an outage it runs again in `retry_seconds` (default:
    `every_seconds`)."""
    retry = every_seconds if retry_seconds is None else retry_seconds
    if not at_once:
        await asyncio.sleep(every_seconds)
    while True:
        pause = every_seconds
        try:
            await run()
        except outages as error:
            pause = retry
            logger.warning("%s failed (%s), retrying in %g s", task, in_words(error), retry)
        await asyncio.sleep(pause)


async def run_in_turns(
    task: str, run: Callable[[], Awaitable[object]], database: Database, worker_id: UUID, *, every_seconds: float
) -> NoReturn:
    """Run `run` `every_seconds`, each time in another of the live workers, until cancelled. A worker that is
    cut off from Temporal keeps its lease, but fails only in its own turns."""
    last = -1

    async def take_turn() -> None:
        nonlocal last
        turn = int(time.time() // every_seconds)
        if turn == last:
            return
        async with database.single_statements() as connection:
            workers = await live_workers(connection)
        if workers and workers[turn % len(workers)].id == worker_id:
            last = turn
            await run()

    look_seconds = min(every_seconds / 10, LOOK_SECONDS)
    await run_periodically(task, take_turn, every_seconds=look_seconds, retry_seconds=every_seconds)
