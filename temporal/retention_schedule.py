"""The Temporal Schedule of retention: one for the installation, every night."""

from datetime import timedelta

from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleOverlapPolicy, SchedulePolicy

from temporal.retention_messages import RetentionRun
from temporal.schedules import Upkeep, daily, ensure_schedule

UTC_HOUR = 2
"""Two hours after a day has ended: what was accepted on it is filed, and in most of the world it is quiet."""

CATCH_UP = timedelta(hours=23)
"""A night that was missed is made up for on the same day; after that the next one does it all."""


def retention_schedule_id(task_queue: str) -> str:
    """One for each installation in a namespace."""
    return f"retention/{task_queue}"


async def ensure_retention(client: Client, task_queue: str) -> Upkeep:
    """Make or mend it; a pause stays. Raises RPCError."""
    schedule_id = retention_schedule_id(task_queue)
    wanted = Schedule(
        action=ScheduleActionStartWorkflow(
            "apply-retention",
            RetentionRun(),
            id=schedule_id,
            task_queue=task_queue,
            static_summary="what is too old goes",
        ),
        spec=daily(UTC_HOUR, "UTC"),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
    )
    return await ensure_schedule(client, schedule_id, wanted)


async def apply_retention_now(client: Client, task_queue: str) -> str:
    """Have it run at once, unless it runs; the workflow's id."""
    await client.get_schedule_handle(retention_schedule_id(task_queue)).trigger()
    return retention_schedule_id(task_queue)
