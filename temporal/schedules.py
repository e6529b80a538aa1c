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
    """What it took."""

    NOTHING = "nothing"
    CREATED = "created"
    UPDATED = "updated"


async def ensure_schedule(client: Client, schedule_id: str, wanted: Schedule) -> Upkeep:
    """Make or mend a schedule; one that is paused stays so. Raises what Temporal refuses."""
    handle = client.get_schedule_handle(schedule_id)
    try:
        found = await handle.describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        try:
            await client.create_schedule(schedule_id, wanted)
        except ScheduleAlreadyRunningError:
            return Upkeep.NOTHING  # another worker has just made it
        return Upkeep.CREATED
    if await _is_as_wanted(client, found, wanted):
        return Upkeep.NOTHING
    await handle.update(lambda now: _mended(now, wanted))
    return Upkeep.UPDATED


def daily(hour: int, time_zone: str) -> ScheduleSpec:
    """Every day at a full hour, in the very form in which Temporal gives it back, so that the two compare."""
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
    is_, should_be = found.schedule.action, wanted.action
    if not isinstance(is_, ScheduleActionStartWorkflow) or not isinstance(should_be, ScheduleActionStartWorkflow):
        return False
    return (
        found.schedule.spec == wanted.spec
        and found.schedule.policy == wanted.policy
        and not found.schedule.state.limited_actions
        and (is_.workflow, is_.id, is_.task_queue) == (should_be.workflow, should_be.id, should_be.task_queue)
        and await client.data_converter.encode(should_be.args) == list(is_.args)
    )


def _at(number: int) -> tuple[ScheduleRange]:
    return (ScheduleRange(number, number, 1),)


def _mended(now: ScheduleUpdateInput, wanted: Schedule) -> ScheduleUpdate:
    """As wanted, and paused if it is."""
    state = now.description.schedule.state
    wanted.state = ScheduleState(note=state.note, paused=state.paused)
    return ScheduleUpdate(schedule=wanted)


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
