"""DBOS on PostgreSQL: a durable workflow an event, taken from a queue, with a step a delivery."""

import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions

from bench.peers.senders import ThreadSender
from bench.peers.work import Event, subscriptions

QUEUE = "events"
POLL_SECONDS = 0.05
"""Of its queue: a second by default, which would be its latency."""

AT_ONCE = 50
"""Workflows at once in the process."""

sender = ThreadSender()


@DBOS.step(retries_allowed=True, max_attempts=5)
def deliver(event: Event, subscription_id: str) -> None:
    """One delivery."""
    sender.deliver(event, subscription_id)


@DBOS.workflow(name="deliver-event")
def deliver_event(event: Event) -> None:
    """Every delivery of an event, one after the other."""
    for one in subscriptions(str(event["eventName"])):
        deliver(event, str(one.id))


@asynccontextmanager
async def emitting() -> AsyncIterator[Callable[[Sequence[Event]], None]]:
    """What enqueues workflows."""
    client = DBOSClient(system_database_url=os.environ["BENCH_POSTGRES"])
    options: EnqueueOptions = {"queue_name": QUEUE, "workflow_name": "deliver-event"}

    def emit(events: Sequence[Event]) -> None:
        for event in events:
            client.enqueue(options, event)

    try:
        yield emit
    finally:
        client.destroy()


def launch() -> None:
    """Make the tables that are missing, and take from the queue."""
    configuration: DBOSConfig = {
        "name": "deliveries",
        "system_database_url": os.environ["BENCH_POSTGRES"],
        "max_executor_threads": AT_ONCE,
        "log_level": "WARNING",
    }
    DBOS(config=configuration)
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=AT_ONCE, polling_interval_sec=POLL_SECONDS)


if __name__ == "__main__":
    launch()
    if sys.argv[1:] == ["prepare"]:
        DBOS.destroy()
    else:
        threading.Event().wait()
