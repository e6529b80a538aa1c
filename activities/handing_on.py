"""Hands events on from a batch to workflows of their own, a few at a time, each of which begins when it has to act."""

import asyncio
import time
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

from temporalio import activity
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.guards import heartbeats, own_faults
from activities.messages import EventRef, EventTask, FirstAttempts, HandOn, Waiting
from activities.visibility import details_table, event_summary, memo, search_attributes
from domain.identity import event_workflow_id

STARTS_AT_ONCE = 4
"""Of all batches of a worker together. More are hardly faster (a shard of Temporal writes one after the other), and the
starts of new events would queue behind them: 14 ms behind 4, 130 ms behind 32."""

START_TIMEOUT = timedelta(seconds=5)
"""A start answered later than this is asked for again, under the same id."""

HEARTBEAT_SECONDS = 6.0
"""A third of the heartbeat time-out in `workflows/`: hundreds of batches may wait for their turn, and a heartbeat costs
Temporal as much as a start."""

SHORT_DELAY_SECONDS = 1.0
"""A retry that is due within this is waited for by its workflow: Temporal's delays are meant for longer."""

AFTER_NEW_EVENTS = Priority(priority_key=4)
"""Many retries that become due together are a backlog of tasks; those of new events (3, the default) pass it."""


class HandingOn:
    """What a batch asks for when its first attempts did not settle everything. One for each worker process."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._places = asyncio.Semaphore(STARTS_AT_ONCE)

    @activity.defn(name="hand-on")
    async def hand_on(self, task: HandOn) -> None:
        """Start the workflow of each event; asked again, of those that have none yet."""
        info = activity.info()
        began = time.monotonic() - (info.started_time - task.since).total_seconds()
        waiting: dict[str, list[Waiting]] = defaultdict(list)
        for one in task.waiting:
            waiting[one.event_id].append(one)
        async with heartbeats(HEARTBEAT_SECONDS):
            with own_faults():
                starts = (self._start(event, waiting.get(event.event_id), task, began) for event in task.events)
                for fault in await asyncio.gather(*starts, return_exceptions=True):
                    if fault is not None:
                        raise fault

    async def _start(self, event: EventRef, waiting: list[Waiting] | None, task: HandOn, began: float) -> None:
        """Start one; a workflow that is there has taken the event. `began`: `task.since` by the monotonic clock."""
        async with self._places:
            delay = 0.0
            if waiting is not None:
                delay = min(one.delay_seconds for one in waiting) - (time.monotonic() - began)
            try:
                await self._client.start_workflow(
                    "deliver-event",
                    EventTask(event, waiting, task.since if waiting is not None else None),
                    id=event_workflow_id(event.store_code, UUID(event.event_id)),
                    task_queue=self._task_queue,
                    start_delay=timedelta(seconds=delay) if delay > SHORT_DELAY_SECONDS else None,
                    priority=AFTER_NEW_EVENTS,
                    search_attributes=search_attributes([event]),
                    static_summary=event_summary([event]),
                    static_details=None if waiting is None else details_table(FirstAttempts(waiting=waiting), {}),
                    memo=memo([event]),
                    rpc_timeout=START_TIMEOUT,
                )
            except WorkflowAlreadyStartedError:
                activity.logger.info("%s has a workflow already", event.event_id)
