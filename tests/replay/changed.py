"""The workflow of an event as somebody might change it without a thought for those that are open."""

import asyncio
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from temporal.messages import DeliverySummary, EventBatch, EventTask
    from workflows.deliver import EventWorkflow, attempt_first


@workflow.defn(name="deliver-event")
class PatientEventWorkflow:
    """As somebody might change it without a thought for what is open: it waits before the first attempts."""

    @workflow.run
    async def run(self, task: EventTask) -> DeliverySummary:
        await workflow.sleep(timedelta(seconds=1))
        first = await attempt_first(EventBatch([task.event]))
        return DeliverySummary(delivered=first.delivered)


@workflow.defn(name="deliver-event")
class ForgetfulEventWorkflow:
    """It no longer waits for what its first attempts left over."""

    @workflow.run
    async def run(self, task: EventTask) -> DeliverySummary:
        first = await attempt_first(EventBatch([task.event]))
        return DeliverySummary(delivered=first.delivered)


@workflow.defn(name="deliver-event")
class HastyEventWorkflow:
    """It attempts the waiting deliveries without their delay."""

    @workflow.run
    async def run(self, task: EventTask) -> DeliverySummary:
        first = await attempt_first(EventBatch([task.event]))
        as_it_is = EventWorkflow()
        await asyncio.gather(*(as_it_is._attempt_until_ended(one, asyncio.Event()) for one in first.waiting))
        return DeliverySummary(delivered=first.delivered)
