"""TaskIQ over Redis streams: a coroutine a delivery, acknowledged when it has run; a consumer group of two workers."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from taskiq import SimpleRetryMiddleware, TaskiqEvents
from taskiq_redis import RedisStreamBroker

from bench.peers.senders import LoopSender
from bench.peers.work import Event, subscriptions

KICKED_AT_ONCE = 50
"""Messages on their way to Redis: one connection each."""

broker = RedisStreamBroker(os.environ["BENCH_REDIS"], consumer_id="0").with_middlewares(
    SimpleRetryMiddleware(default_retry_count=5)
)
sender = LoopSender()
broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, lambda _: sender.close())


@broker.task(task_name="deliver", retry_on_error=True)
async def deliver(event: Event, subscription_id: str) -> None:
    """One delivery."""
    await sender.deliver(event, subscription_id)


@asynccontextmanager
async def emitting() -> AsyncIterator[Callable[[Sequence[Event]], Awaitable[None]]]:
    """What puts events into the stream."""
    await broker.startup()

    async def emit(events: Sequence[Event]) -> None:
        kicks = [(event, str(one.id)) for event in events for one in subscriptions(str(event["eventName"]))]
        for at in range(0, len(kicks), KICKED_AT_ONCE):
            await asyncio.gather(*(deliver.kiq(*kick) for kick in kicks[at : at + KICKED_AT_ONCE]))

    try:
        yield emit
    finally:
        await broker.shutdown()
