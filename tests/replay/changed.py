"""The workflow `deliver-events` as somebody might change it without a thought for open workflows."""

from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.deliver import DeliveryActivities
    from activities.retry import RetryActivities
    from temporal.messages import DeliverySummary, EventBatch
    from temporal.retries import INTERNAL_ERRORS

SECONDS_30 = timedelta(seconds=30)


async def _attempt_first(batch: EventBatch) -> Any:
    return await workflow.execute_local_activity_method(
        DeliveryActivities.attempt_events, batch, start_to_close_timeout=SECONDS_30, retry_policy=INTERNAL_ERRORS
    )


async def _schedule_retries(batch: EventBatch) -> None:
    await workflow.execute_activity_method(
        RetryActivities.schedule_retries, batch, start_to_close_timeout=SECONDS_30, retry_policy=INTERNAL_ERRORS
    )


@workflow.defn(name="deliver-events")
class PatientWorkflow:
    """Waits before the first attempts."""

    @workflow.run
    async def run(self, batch: EventBatch) -> DeliverySummary:
        await workflow.sleep(timedelta(seconds=1))
        first = await _attempt_first(batch)
        await _schedule_retries(EventBatch(first.unsettled))
        return DeliverySummary(first.delivered)


@workflow.defn(name="deliver-events")
class ForgetfulWorkflow:
    """Schedules no retries."""

    @workflow.run
    async def run(self, batch: EventBatch) -> DeliverySummary:
        first = await _attempt_first(batch)
        return DeliverySummary(first.delivered)


@workflow.defn(name="deliver-events")
class HastyWorkflow:
    """Schedules the retries before the first attempts are made."""

    @workflow.run
    async def run(self, batch: EventBatch) -> DeliverySummary:
        await _schedule_retries(batch)
        first = await _attempt_first(batch)
        return DeliverySummary(first.delivered)
