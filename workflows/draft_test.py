"""Webhook test, of a saved webhook or a draft."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.draft_test import DraftTestActivities
    from temporal.messages import DraftTestEnd, DraftTestRef
    from temporal.retries import ATTEMPT_TIMEOUT
    from workflows.execution import execute


@workflow.defn(name="draft-test")
class DraftTestWorkflow:
    """Test of a webhook: one request to a receiver. The request and its response are stored in PostgreSQL."""

    @workflow.run
    async def run(self, ref: DraftTestRef) -> DraftTestEnd:
        """Send the test. A fault of the worker or the database is retried; only a draft's workflow has a timeout."""
        return await execute(DraftTestActivities.send_draft_test, ref, timeout=ATTEMPT_TIMEOUT)
