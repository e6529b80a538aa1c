"""Trying a receiver before its webhook is saved."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import TrialEnd, TrialRef
    from activities.trials import TrialActivities
    from workflows.delivery import HEARTBEAT_TIMEOUT, OWN_FAULTS

WAITED_FOR = timedelta(seconds=30)
"""Somebody sits before the page; a worker that comes later does not send it any more."""


@workflow.defn(name="try-webhook")
class TryWebhookWorkflow:
    """One request to a receiver. What is sent, and what came back, stands in a row."""

    @workflow.run
    async def run(self, ref: TrialRef) -> TrialEnd:
        """The request, at most once."""
        return await workflow.execute_activity_method(
            TrialActivities.try_webhook,
            ref,
            schedule_to_close_timeout=WAITED_FOR,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=OWN_FAULTS,
        )
