"""Delivery of events. The promise: an accepted event reaches every subscribed URL, or the log shows why it did not.

One event has a workflow of its own; in a burst up to several hundred share one. The workflow makes the first attempts.
A delivery that is not settled by then goes on as a standalone activity, or as a row that the drain of its subscription
sends.
"""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.deliver import FIRST_ATTEMPTS_SECONDS, DeliveryActivities
    from activities.retry import RetryActivities
    from temporal.messages import DeliverySummary, EventBatch
    from temporal.retries import FIRST_ATTEMPTS_ERRORS
    from temporal.visibility import batch_details, details_table
    from workflows.execution import execute

FIRST_ATTEMPTS_TIMEOUT = timedelta(seconds=FIRST_ATTEMPTS_SECONDS + 10)
"""Time-out of the first attempts. The activity ends by itself, however long requests take; more means that the database
hangs."""

SCHEDULE_RETRIES_TIMEOUT = timedelta(minutes=10)
"""Time-out for starting the retries of a batch, which takes some 10 ms each."""


@workflow.defn(name="deliver-events")
class DeliverEventsWorkflow:
    """Delivery of one event, or of the events of a batch, to every URL subscribed to them."""

    @workflow.run
    async def run(self, batch: EventBatch) -> DeliverySummary:
        first = await workflow.execute_local_activity_method(
            DeliveryActivities.attempt_events,
            batch,
            start_to_close_timeout=FIRST_ATTEMPTS_TIMEOUT,
            retry_policy=FIRST_ATTEMPTS_ERRORS,
            summary=f"{len(batch.events)} events" if len(batch.events) > 1 else None,
        )
        single = len(batch.events) == 1
        workflow.set_current_details(details_table(first) if single else batch_details(len(batch.events), first))
        if first.unsettled:
            await execute(
                RetryActivities.schedule_retries,
                EventBatch(first.unsettled),
                timeout=SCHEDULE_RETRIES_TIMEOUT,
                summary=f"{first.retrying} deliveries",
            )
        return DeliverySummary(first.delivered, first.exhausted, first.held, first.retrying)
