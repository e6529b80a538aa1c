"""The promise: what was accepted reaches each subscribed URL, or everybody can see why not.

An event has a workflow of its own, or under backlog shares one with up to several hundred others for the first
attempts. Whatever a first attempt did not settle goes on in the event's own workflow, one activity a URL.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.deliver import DeliveryActivities
    from activities.handing_on import HandingOn, hand_on_queue
    from domain.delivery.identity import event_workflow_id
    from temporal.messages import (
        DeliveryEnd,
        DeliveryRef,
        DeliverySummary,
        EventBatch,
        EventRef,
        EventTask,
        FirstAttempts,
        HandOn,
        Waiting,
        by_event,
        waiting_of,
    )
    from temporal.visibility import as_summary, batch_details, details_table, event_summary, memo, search_attributes

FIRST_ATTEMPTS_TIMEOUT = timedelta(seconds=30)
"""The activity ends by itself after 20 s at most; more means that the database hangs."""

ATTEMPT_TIMEOUT = timedelta(seconds=90)
"""A request takes 15 s at most; the rest is queueing for its subscription's places in the worker."""

HEARTBEAT_TIMEOUT = timedelta(seconds=5)
"""A worker that died during an attempt is noticed after this; the lease it held lapses after 3 s."""

HAND_ON_TIMEOUT = timedelta(minutes=10)
"""For as many starts as are handed on together, each of which is answered within seconds or is asked for again."""

HANDED_ON_TOGETHER = 100
"""Events named to one activity: some 40 KB, and half a second."""

CHILDREN_AT_ONCE = 50
"""Workflows started in one activation: hundreds come near Temporal's limit of two seconds on a busy machine."""

OWN_FAULTS = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=0,  # unlimited: our database being away never ends a delivery
)
"""For faults of ours. A failed attempt brings the delay of its retry schedule, which replaces these intervals."""


Left: TypeAlias = Mapping[tuple[str, str], list[Waiting]]
"""What a batch did not settle, by event (`by_event`)."""


@workflow.defn(name="deliver-event")
class EventWorkflow:
    """Delivers one event to every URL subscribed to it."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """By message id: a person does not want to wait for the next retry, or has cancelled the delivery."""

    @workflow.signal(name="look-now")
    def look_now(self, message_id: str) -> None:
        """Look at a delivery at once: attempt it, or end it if it has been cancelled."""
        self._asked[message_id].set()

    @workflow.run
    async def run(self, task: EventTask) -> DeliverySummary:
        """Make the first attempts unless a batch has made them, then see each waiting delivery to its end."""
        first = (
            await attempt_first(EventBatch([task.event]))
            if task.waiting is None
            else FirstAttempts(waiting=task.waiting)
        )
        late = (workflow.now() - task.waiting_since).total_seconds() if task.waiting_since is not None else 0.0
        self._first = first
        self._ends: dict[str, DeliveryEnd] = {}
        self._show()
        ends = await asyncio.gather(*(self._deliver(waiting, late) for waiting in first.waiting))
        return DeliverySummary(
            delivered=first.delivered + sum(end.status == "delivered" for end in ends),
            exhausted=first.ended + sum(end.status == "exhausted" for end in ends),
            cancelled=sum(end.status == "cancelled" for end in ends),
        )

    async def _deliver(self, waiting: Waiting, late_seconds: float) -> DeliveryEnd:
        """Wait until the next attempt is due, then attempt until the delivery ends. A batch with many failures takes a
        while to hand them on: so late its delays are."""
        asked = self._asked[waiting.message_id]
        delay_seconds = waiting.delay_seconds - late_seconds
        if delay_seconds > 0:
            with suppress(TimeoutError):
                summary = as_summary(f"retry {waiting.target}")
                await workflow.wait_condition(asked.is_set, timeout=delay_seconds, timeout_summary=summary)
        end = await self._attempt_until_ended(waiting, asked)
        self._ends[waiting.message_id] = end
        self._show()
        return end

    async def _attempt_until_ended(self, waiting: Waiting, asked: asyncio.Event) -> DeliveryEnd:
        """The durable activity; when a person asks, it is begun anew, which attempts at once or joins the attempt."""
        while True:
            end = await self._attempt_until_asked(waiting, asked)
            if end is not None:
                return end

    async def _attempt_until_asked(self, waiting: Waiting, asked: asyncio.Event) -> DeliveryEnd | None:
        """Attempt until the delivery ends; None when a person asked before that."""
        ref = DeliveryRef(waiting.message_id, asked.is_set())
        asked.clear()
        attempts = workflow.start_activity_method(
            DeliveryActivities.deliver_webhook,
            ref,
            start_to_close_timeout=ATTEMPT_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=OWN_FAULTS,
            summary=as_summary(waiting.target),
        )
        await workflow.wait_condition(lambda: attempts.done() or asked.is_set())
        if attempts.done():
            return await attempts
        attempts.cancel()
        try:
            return await attempts  # it ended just then
        except ActivityError:
            return None

    def _show(self) -> None:
        workflow.set_current_details(details_table(self._first, self._ends))


@workflow.defn(name="deliver-events")
class EventBatchWorkflow:
    """Makes the first attempts of many events, and gives each that is not settled to a workflow of its own."""

    @workflow.run
    async def run(self, batch: EventBatch) -> DeliverySummary:
        """The whole way of a batch."""
        first = await attempt_first(batch)
        now = workflow.now()
        workflow.set_current_details(batch_details(len(batch.events), first))
        left = by_event(first.waiting)
        going_on = [one for one in batch.events if waiting_of(one, left) or one.event_id in first.unlisted]
        if going_on and workflow.patched("handed-on-by-an-activity"):
            chunks = (going_on[at : at + HANDED_ON_TOGETHER] for at in range(0, len(going_on), HANDED_ON_TOGETHER))
            await asyncio.gather(*(_hand_on(chunk, left, now) for chunk in chunks))
        else:
            await _hand_on_to_children(going_on, left, now)
        return DeliverySummary(delivered=first.delivered, exhausted=first.ended, handed_on=first.going_on)


async def attempt_first(batch: EventBatch) -> FirstAttempts:
    """The first attempts, as a local activity: no hop over a queue between the event and the wire."""
    return await workflow.execute_local_activity_method(
        DeliveryActivities.attempt_events,
        batch,
        start_to_close_timeout=FIRST_ATTEMPTS_TIMEOUT,
        retry_policy=OWN_FAULTS,
        summary=f"{len(batch.events)} first" if len(batch.events) > 1 else None,
    )


async def _hand_on(events: list[EventRef], left: Left, now: datetime) -> None:
    """Have the workflow of each event started, whatever faults of ours that takes."""
    waiting = [one for event in events for one in waiting_of(event, left) or ()]
    await workflow.execute_activity_method(
        HandingOn.hand_on,
        HandOn(events, waiting, now),
        task_queue=hand_on_queue(workflow.info().task_queue),
        start_to_close_timeout=HAND_ON_TIMEOUT,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=OWN_FAULTS,
        summary=f"{len(events)} events",
    )


async def _hand_on_to_children(events: list[EventRef], left: Left, now: datetime) -> None:
    """As batches did before the patch. Each child is two events of the batch's history and a task of Temporal's own
    queue, behind which new events waited when many receivers were out."""
    for at in range(0, len(events), CHILDREN_AT_ONCE):
        chunk = events[at : at + CHILDREN_AT_ONCE]
        await asyncio.gather(*(_start_child(EventTask(event, waiting_of(event, left), now)) for event in chunk))


async def _start_child(task: EventTask) -> None:
    """Start the event's own workflow; one that runs already has taken it."""
    event = task.event
    try:
        await workflow.start_child_workflow(
            EventWorkflow.run,
            task,
            id=event_workflow_id(event.store_code, UUID(event.event_id)),
            parent_close_policy=ParentClosePolicy.ABANDON,
            search_attributes=search_attributes([event]),
            static_summary=event_summary([event]),
            memo=memo([event]),
        )
    except WorkflowAlreadyStartedError:
        workflow.logger.info("%s has a workflow already", event.event_id)
