"""Dramatiq over Redis: an actor a delivery, acknowledged after it ran, its own retries; threads, as is its way."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers.senders import ThreadSender
from bench.peers.work import Event, subscriptions

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))
sender = ThreadSender()


@dramatiq.actor(max_retries=5)
def deliver(event: Event, subscription_id: str) -> None:
    """One delivery."""
    sender.deliver(event, subscription_id)


@asynccontextmanager
async def emitting() -> AsyncIterator[Callable[[Sequence[Event]], None]]:
    """What puts events into the queue."""

    def emit(events: Sequence[Event]) -> None:
        for event in events:
            for one in subscriptions(str(event["eventName"])):
                deliver.send(event, str(one.id))

    yield emit
