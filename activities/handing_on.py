"""Hands events on from a batch to workflows of their own, each of which begins when it has to act.

Hundreds of batches may have to when many receivers are out. Their activities have a task queue of their own, of which a
worker takes a few at a time: what waits for its turn waits in Temporal, without heartbeats, and takes no place from
attempts and keepers.
"""

import time
from datetime import timedelta
from uuid import UUID

from temporalio import activity
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.delivery.identity import event_workflow_id
from telemetry.worker_metrics import WorkerMetrics
from temporal.guards import heartbeats, own_faults
from temporal.messages import EventRef, EventTask, FirstAttempts, HandOn, Waiting, by_event, waiting_of
from temporal.visibility import details_table, event_summary, memo, search_attributes

HAND_ONS_AT_ONCE = 4
"""In a worker; each starts one workflow after the other. More are hardly faster (a shard of Temporal writes one after
the other), and the starts of new events would queue behind them: 14 ms behind 4, 130 ms behind 32."""

START_TIMEOUT = timedelta(seconds=5)
"""A start answered later than this is asked for again, under the same id."""

SHORT_DELAY_SECONDS = 1.0
"""A retry that is due within this is waited for by its workflow: Temporal's delays are meant for longer."""

AFTER_NEW_EVENTS = Priority(priority_key=4)
"""Many retries that become due together are a backlog of tasks; those of new events (3, the default) pass it."""


def hand_on_queue(task_queue: str) -> str:
    """Where the workers of a task queue take what is to be handed on."""
    return f"{task_queue}-hand-on"


def handed_on_details(waiting: list[Waiting]) -> str:
    """Where each delivery of an event stands before its workflow has begun (Markdown)."""
    return "As its batch handed it on:\n\n" + details_table(FirstAttempts(waiting=waiting), {})


class HandingOn:
    """What a batch asks for when its first attempts did not settle everything."""

    def __init__(self, client: Client, task_queue: str, metrics: WorkerMetrics) -> None:
        self._client = client
        self._task_queue = task_queue
        self._metrics = metrics

    @activity.defn(name="hand-on")
    async def hand_on(self, task: HandOn) -> None:
        """Start the workflow of each event; asked again, of those that have none yet."""
        since = time.monotonic() - (activity.info().started_time - task.since).total_seconds()
        waiting = by_event(task.waiting)
        refused: RPCError | None = None
        async with heartbeats():
            with own_faults():
                for event in task.events:
                    late_seconds = time.monotonic() - since
                    try:
                        await self._start(event, waiting_of(event, waiting), task, late_seconds)
                    except RPCError as error:
                        if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                            raise
                        refused = error  # by itself: it holds up none of those behind it
                if refused is not None:
                    raise refused

    async def _start(self, event: EventRef, waiting: list[Waiting] | None, task: HandOn, late_seconds: float) -> None:
        """Start one, unless it is there: then it has taken the event."""
        shown, delay = None, 0.0
        if waiting is not None:
            shown = handed_on_details(waiting)
            delay = min(one.delay_seconds for one in waiting) - late_seconds
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
                static_details=shown,
                memo=memo([event]),
                rpc_timeout=START_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            activity.logger.info("%s has a workflow already", event.event_id)
        except Exception:
            self._metrics.start_faults.inc()
            raise
