"""Expiry scans. The promise: a store gets one notice, in time, of everything that will expire.

A scheduled run scans the days that are not scanned yet, one after the other, and then looks for late rows of days that
are. A scan covers a day, never "now", in slices; its position is stored in the database.
"""

from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.expiry import ExpiryActivities
    from domain.delivery.identity import expiry_workflow_id
    from domain.expiry.calendar_days import days_from
    from temporal.messages import (
        ExpiryPlan,
        ExpiryRun,
        OpenRequest,
        PlanRequest,
        RunSummary,
        ScanProgress,
        ScanRef,
        ScanTask,
    )
    from temporal.visibility import (
        LATE,
        RUN_WORKFLOW,
        SCAN_WORKFLOW,
        TABLE_HEAD,
        expiry_attributes,
        scan_details,
        scan_row,
        scan_summary,
    )
    from workflows.execution import execute

PLAN_TIMEOUT = timedelta(seconds=30)
"""Time-out of an activity that reads and writes a few rows."""

SLICE_TIMEOUT = timedelta(minutes=10)
"""Time-out of a slice, which takes 5 s, and more only while the database is slow to return a page."""

SLICES_A_RUN = 200
"""Number of slices after which the scan continues as new, at some 1,200 events of history."""

DAYS_A_RUN = 50
"""Number of days after which a run continues as new. Each day is a workflow of its own."""


@workflow.defn(name=SCAN_WORKFLOW)
class ExpiryScanWorkflow:
    """Scan of a day for the rows that expire on it, or of the covered days for late rows."""

    @workflow.run
    async def run(self, task: ScanTask) -> ScanProgress:
        scan_id = task.scan_id or str(workflow.uuid4())
        request = OpenRequest(task, scan_id, workflow.info().workflow_id, workflow.now())
        progress, slices = await execute(ExpiryActivities.open_scan, request, timeout=PLAN_TIMEOUT), 0
        while not progress.finished:
            if slices == SLICES_A_RUN:
                workflow.continue_as_new(replace(task, scan_id=progress.scan_id))
            ref, summary = ScanRef(progress.scan_id), f"after {progress.scanned} rows"
            progress = await execute(ExpiryActivities.scan, ref, timeout=SLICE_TIMEOUT, summary=summary)
            slices += 1
            workflow.set_current_details(scan_details(progress))
        return progress


@workflow.defn(name=RUN_WORKFLOW)
class ExpiryRunWorkflow:
    """Run of a schedule: scans of the days that are not scanned yet, one after the other."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @workflow.run
    async def run(self, run: ExpiryRun) -> RunSummary:
        plan = await self._plan(run)
        if plan.given_up is not None:
            self._show(f"| {plan.given_up} | too long ago | | | |")
        summary = RunSummary()
        for task in plan.days[:DAYS_A_RUN]:
            scanned = await self._scan(task, f"{workflow.info().workflow_id}/{task.day}")
            summary = replace(summary, days=summary.days + 1, emitted=summary.emitted + scanned.emitted)
        if len(plan.days) > DAYS_A_RUN:
            workflow.continue_as_new(replace(run, first_day=plan.days[DAYS_A_RUN].day) if run.first_day else run)
        if plan.look_for_late:
            late = await self._look_for_late(run, plan.thorough)
            summary = replace(summary, late=late)
        return summary

    async def _plan(self, run: ExpiryRun) -> ExpiryPlan:
        if run.first_day is not None:
            days = days_from(run.first_day, run.last_day or run.first_day)
            return ExpiryPlan([ScanTask(run.store_code, run.kind, day) for day in days])
        request = PlanRequest(run.store_code, run.kind, workflow.now())
        return await execute(ExpiryActivities.plan_scans, request, timeout=PLAN_TIMEOUT)

    async def _look_for_late(self, run: ExpiryRun, thorough: bool) -> int:
        task = ScanTask(run.store_code, run.kind, None, thorough=thorough)
        try:
            return (await self._scan(task, expiry_workflow_id(run.store_code, run.kind, LATE))).emitted
        except WorkflowAlreadyStartedError:
            return 0  # another look is running

    async def _scan(self, task: ScanTask, workflow_id: str) -> ScanProgress:
        self._show(f"| {task.day or 'late rows'} | … | | | |")
        progress = await workflow.execute_child_workflow(
            ExpiryScanWorkflow.run,
            task,
            id=workflow_id,
            search_attributes=expiry_attributes(task.store_code, task.kind),
            static_summary=scan_summary(task),
        )
        self._lines.pop()
        self._show(scan_row(task, progress))
        return progress

    def _show(self, line: str) -> None:
        self._lines.append(line)
        workflow.set_current_details("\n".join([TABLE_HEAD, *self._lines]))
