"""Temporal Schedules: create or update one to its wanted settings; the nightly schedule of retention."""

from datetime import timedelta
from enum import Enum

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from temporal.messages import RetentionRun


class Upkeep(Enum):
    """Change that a schedule needed."""

    NOTHING = "nothing"
    CREATED = "created"
    UPDATED = "updated"


async def ensure_schedule(client: Client, schedule_id: str, wanted: Schedule) -> Upkeep:
    """Create a schedule or update it to `wanted`. A pause stays. Raises RPCError."""
    handle = client.get_schedule_handle(schedule_id)
    try:
        found = await handle.describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        try:
            await client.create_schedule(schedule_id, wanted)
        except ScheduleAlreadyRunningError:
            return Upkeep.NOTHING  # another worker has just created it
        return Upkeep.CREATED
    if await _is_as_wanted(client, found, wanted):
        return Upkeep.NOTHING
    await handle.update(lambda now: _updated(now, wanted))
    return Upkeep.UPDATED


def daily(hour: int, time_zone: str) -> ScheduleSpec:
    """Return a daily spec at a full hour, in the form in which Temporal returns it, so that the two are comparable."""
    return ScheduleSpec(
        calendars=[
            ScheduleCalendarSpec(
                second=_at(0),
                minute=_at(0),
                hour=_at(hour),
                day_of_month=(ScheduleRange(1, 31, 1),),
                month=(ScheduleRange(1, 12, 1),),
                year=(),
                day_of_week=(ScheduleRange(0, 6, 1),),
            )
        ],
        time_zone_name=time_zone,
    )


async def _is_as_wanted(client: Client, found: ScheduleDescription, wanted: Schedule) -> bool:
    found_action, wanted_action = found.schedule.action, wanted.action
    if not isinstance(found_action, ScheduleActionStartWorkflow) or not isinstance(
        wanted_action, ScheduleActionStartWorkflow
    ):
        return False
    return (
        found.schedule.spec == wanted.spec
        and found.schedule.policy == wanted.policy
        and not found.schedule.state.limited_actions
        and (found_action.workflow, found_action.id, found_action.task_queue)
        == (wanted_action.workflow, wanted_action.id, wanted_action.task_queue)
        and await client.data_converter.encode(wanted_action.args) == list(found_action.args)
    )


def _at(number: int) -> tuple[ScheduleRange]:
    return (ScheduleRange(number, number, 1),)


def _updated(now: ScheduleUpdateInput, wanted: Schedule) -> ScheduleUpdate:
    """Return the update to `wanted`, with the current pause and note."""
    state = now.description.schedule.state
    wanted.state = ScheduleState(note=state.note, paused=state.paused)
    return ScheduleUpdate(schedule=wanted)


UTC_HOUR = 2
"""Hour of the retention run, two hours after the end of the day: its events are filed, and load is low in most of the
world."""

CATCH_UP = timedelta(hours=23)
"""Maximum delay of a missed run, which is started on the same day; later, the next run does all of its work."""


def retention_schedule_id(task_queue: str) -> str:
    """Return the id of the retention schedule. Each installation in a namespace has its own."""
    return f"retention/{task_queue}"


async def ensure_retention(client: Client, task_queue: str) -> Upkeep:
    """Create or update the schedule of retention. A pause stays. Raises RPCError."""
    schedule_id = retention_schedule_id(task_queue)
    wanted = Schedule(
        action=ScheduleActionStartWorkflow(
            "apply-retention",
            RetentionRun(),
            id=schedule_id,
            task_queue=task_queue,
            static_summary="retention",
        ),
        spec=daily(UTC_HOUR, "UTC"),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
    )
    return await ensure_schedule(client, schedule_id, wanted)
