"""Bulk actions: recover and backfill the deliveries of a window of time."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.actions import BulkActionActivities
    from temporal.messages import BulkActionStep, BulkActionTask
    from temporal.visibility import as_summary
    from workflows.execution import execute

PAGES_TIMEOUT = timedelta(seconds=90)
"""Time-out of one activity, which returns after 30 s by itself."""


@workflow.defn(name="recover")
class RecoverWorkflow:
    """Recovery of the deliveries that ended in a window of time, page by page; the subscription's drain sends them."""

    @workflow.run
    async def run(self, task: BulkActionTask) -> BulkActionStep:
        return await _run_pages(BulkActionActivities.recover_pages, task)


@workflow.defn(name="backfill")
class BackfillWorkflow:
    """Backfill: deliveries of events accepted before the subscription existed, sent by its drain."""

    @workflow.run
    async def run(self, task: BulkActionTask) -> BulkActionStep:
        return await _run_pages(BulkActionActivities.backfill_pages, task)


async def _run_pages(pages: Callable[..., Any], task: BulkActionTask) -> BulkActionStep:
    while True:
        step: BulkActionStep = await execute(pages, task, timeout=PAGES_TIMEOUT, summary=as_summary(task.target))
        workflow.set_current_details(f"{task.target}: {step.opened} of {step.count} deliveries opened.")
        if step.finished:
            return step
        if workflow.info().is_continue_as_new_suggested():
            workflow.continue_as_new(task)
