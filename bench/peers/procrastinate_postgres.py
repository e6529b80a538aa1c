"""Procrastinate on PostgreSQL: a job a delivery, deferred in bulk, taken by one asynchronous worker."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import procrastinate

from bench.peers.senders import LoopSender
from bench.peers.work import Event, subscriptions

CONCURRENCY = 30
"""Jobs at once in the worker; its pool has a connection for most of them."""

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"], max_size=20))
sender = LoopSender()


@app.task(name="deliver", retry=procrastinate.RetryStrategy(max_attempts=5, wait=5))
async def deliver(event: Event, subscription_id: str) -> None:
    """One delivery."""
    await sender.deliver(event, subscription_id)


@asynccontextmanager
async def emitting() -> AsyncIterator[Callable[[Sequence[Event]], Awaitable[None]]]:
    """What defers events, a batch in one statement."""

    async def emit(events: Sequence[Event]) -> None:
        jobs = [
            {"event": event, "subscription_id": str(one.id)}
            for event in events
            for one in subscriptions(str(event["eventName"]))
        ]
        await deliver.batch_defer_async(*jobs)

    async with app.open_async():
        yield emit


async def work() -> None:
    """Run jobs until ended."""
    async with app.open_async():
        await app.run_worker_async(concurrency=CONCURRENCY, delete_jobs="successful")


if __name__ == "__main__":
    asyncio.run(work())
