"""Retention. The promise: data is deleted every night, a whole day at a time, and nothing before its retention ends."""

from dataclasses import replace
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.retention import RetentionActivities
    from temporal.messages import RetentionRun, ThinningResult
    from workflows.execution import execute

STEP_TIMEOUT = timedelta(hours=2)
"""Time-out for one day. Deleting ten million deliveries takes minutes; a dead worker is noticed by its heartbeats."""

DAYS_A_RUN = 200
"""Number of days after which the run continues as new, at some 1,200 events of history. A first run may find years."""

TABLE_HEAD = "| day | deliveries deleted | bodies kept | attempts kept | freed |\n|---|--:|--:|--:|--:|"


@workflow.defn(name="apply-retention")
class RetentionWorkflow:
    """Retention run: creates the partitions of the coming days, thins old days, and deletes the oldest event ids."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @workflow.run
    async def run(self, so_far: RetentionRun) -> RetentionRun:
        """Thin days, the oldest first, until no day holds data that may be deleted."""
        await execute(RetentionActivities.make_days, timeout=STEP_TIMEOUT)
        while (thinned := await execute(RetentionActivities.thin_oldest_day, timeout=STEP_TIMEOUT)).day is not None:
            so_far = self._with(so_far, thinned)
            if len(self._lines) == DAYS_A_RUN:
                workflow.continue_as_new(so_far)
        forgotten = await execute(RetentionActivities.forget_event_ids, timeout=STEP_TIMEOUT)
        return replace(so_far, ids_forgotten=forgotten)

    def _with(self, so_far: RetentionRun, day: ThinningResult) -> RetentionRun:
        self._lines.append(
            f"| {day.day} | {day.deliveries_deleted:,} | {day.bodies_kept:,} | {day.attempts_kept:,} "
            f"| {day.bytes_freed / 1e6:,.1f} MB |"
        )
        workflow.set_current_details("\n".join([TABLE_HEAD, *self._lines[-50:]]))
        return replace(
            so_far,
            days=so_far.days + 1,
            deliveries_deleted=so_far.deliveries_deleted + day.deliveries_deleted,
            open_deleted=so_far.open_deleted + day.open_deleted,
            bytes_freed=so_far.bytes_freed + day.bytes_freed,
        )
