"""Test of a webhook, saved or not."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.draft_test import DraftTestActivities
    from temporal.messages import DraftTestEnd, DraftTestRef
    from temporal.retries import ATTEMPT_TIMEOUT, HEARTBEAT_TIMEOUT, OWN_FAULTS


@workflow.defn(name="draft-test")
class DraftTestWorkflow:
    """One request to a receiver. The request and its response are stored in PostgreSQL."""

    @workflow.run
    async def run(self, ref: DraftTestRef) -> DraftTestEnd:
        """Send the test. A fault of the worker or the database is retried until the timeout of the workflow."""
        return await workflow.execute_activity_method(
            DraftTestActivities.send_draft_test,
            ref,
            start_to_close_timeout=ATTEMPT_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=OWN_FAULTS,
        )
