"""Trying a receiver before its webhook is saved."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.draft_test import TrialActivities
    from temporal.messages import DRAFT_TEST_TIMEOUT, TrialEnd, TrialRef
    from temporal.retries import HEARTBEAT_TIMEOUT, OWN_FAULTS


@workflow.defn(name="try-webhook")
class TryWebhookWorkflow:
    """One request to a receiver. What is sent, and what came back, stands in a row."""

    @workflow.run
    async def run(self, ref: TrialRef) -> TrialEnd:
        """The request, at most once."""
        return await workflow.execute_activity_method(
            TrialActivities.try_webhook,
            ref,
            schedule_to_close_timeout=DRAFT_TEST_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=OWN_FAULTS,
        )
