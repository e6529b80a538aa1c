"""Celery over Redis: a task a delivery, acknowledged late, so that a killed worker loses none.

Ignored results, no gossip, a larger prefetch for short tasks: the optimising guide of its documentation. Prefork, as it
advises where a task computes; blocking HTTP with kept connections in each child.
"""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from celery import Celery

from bench.peers.senders import ThreadSender
from bench.peers.work import Event, subscriptions

app = Celery("deliveries", broker=os.environ["BENCH_REDIS"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
sender = ThreadSender()


@app.task(name="deliver", max_retries=5)
def deliver(event: Event, subscription_id: str) -> None:
    """One delivery."""
    try:
        sender.deliver(event, subscription_id)
    except Exception as error:
        raise deliver.retry(exc=error, countdown=5) from error


@asynccontextmanager
async def emitting() -> AsyncIterator[Callable[[Sequence[Event]], None]]:
    """What puts events into the queue, over one connection."""
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:

        def emit(events: Sequence[Event]) -> None:
            for event in events:
                for one in subscriptions(str(event["eventName"])):
                    deliver.apply_async((event, str(one.id)), producer=producer)

        yield emit
