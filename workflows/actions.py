"""Bulk actions: recover and backfill the deliveries of a window of time."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.actions import BulkActionActivities
    from temporal.messages import BulkActionStep, BulkActionTask
    from temporal.retries import HEARTBEAT_TIMEOUT, OWN_FAULTS
    from temporal.visibility import as_summary

PAGES_TIMEOUT = timedelta(seconds=90)
"""Time-out of one activity, which returns after 30 s by itself."""


@workflow.defn(name="recover")
class RecoverWorkflow:
    """Recovers the deliveries that ended in a window of time, page by page; the subscription's drain sends them."""

    @workflow.run
    async def run(self, task: BulkActionTask) -> BulkActionStep:
        """Run until every delivery has been attempted again, or the recovery was cancelled."""
        return await _run_pages(BulkActionActivities.recover_pages, task)


@workflow.defn(name="backfill")
class BackfillWorkflow:
    """Creates deliveries of events accepted before the subscription existed; its drain sends them."""

    @workflow.run
    async def run(self, task: BulkActionTask) -> BulkActionStep:
        """Run until every delivery has been attempted, or the backfill was cancelled."""
        return await _run_pages(BulkActionActivities.backfill_pages, task)


async def _run_pages(pages: Callable[..., Any], task: BulkActionTask) -> BulkActionStep:
    while True:
        step: BulkActionStep = await workflow.execute_activity_method(
            pages,
            task,
            start_to_close_timeout=PAGES_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=OWN_FAULTS,
            summary=as_summary(task.target),
        )
        workflow.set_current_details(f"{task.target}: {step.opened} of {step.count} deliveries opened.")
        if step.finished:
            return step
        if workflow.info().is_continue_as_new_suggested():
            workflow.continue_as_new(task)
