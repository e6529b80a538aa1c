"""The textbook design on Temporal: a workflow an event, a plain activity a URL, Temporal's own retries."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from bench.peers.senders import LoopSender
    from bench.peers.work import Event, subscriptions

TASK_QUEUE = "textbook"
STARTED_AT_ONCE = 20
"""Workflows whose start is under way."""


class Deliveries:
    """The activities, with their connections."""

    def __init__(self) -> None:
        self._sender = LoopSender()

    @activity.defn(name="deliver")
    async def deliver(self, event: Event, subscription_id: str) -> None:
        """One delivery."""
        await self._sender.deliver(event, subscription_id)


@workflow.defn(name="deliver-one-event")
class DeliverEvent:
    """One event."""

    @workflow.run
    async def run(self, event: Event, subscription_ids: list[str]) -> None:
        """An activity for each subscription, all at once."""
        await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    Deliveries.deliver, args=[event, one], start_to_close_timeout=timedelta(seconds=30)
                )
                for one in subscription_ids
            )
        )


async def connect() -> Client:
    """A client of the server whose address stands in the environment."""
    return await Client.connect(os.environ["BENCH_TEMPORAL"])


@asynccontextmanager
async def emitting() -> AsyncIterator[Callable[[Sequence[Event]], Awaitable[None]]]:
    """What starts workflows."""
    client = await connect()

    async def start(event: Event) -> None:
        ids = [str(one.id) for one in subscriptions(event["eventName"])]
        await client.start_workflow(
            DeliverEvent.run, args=[event, ids], id=f"event/{event['eventId']}", task_queue=TASK_QUEUE
        )

    async def emit(events: Sequence[Event]) -> None:
        for at in range(0, len(events), STARTED_AT_ONCE):
            await asyncio.gather(*map(start, events[at : at + STARTED_AT_ONCE]))

    yield emit


async def work() -> None:
    """Run workflows and activities until ended."""
    deliveries = Deliveries()
    async with Worker(
        await connect(),
        task_queue=TASK_QUEUE,
        workflows=[DeliverEvent],
        activities=[deliveries.deliver],
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work())
