"""Days within a second: Temporal's clock skips by itself, and what the database has noted is moved into the past."""

from datetime import timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from tests.deadlines import eventually
from tests.pipeline import Pipeline

DAY = 86_400

INSTANTS = {
    "subscription": ("status_since",),
    "subscription_health": ("failing_since", "breaker_opened_at", "probe_at"),
    "delivery": ("created_at", "next_attempt_at"),
}
"""What is compared with the database's clock."""


async def skip(running: Pipeline, skipping: WorkflowEnvironment, seconds: float) -> None:
    """Let so much time pass for both clocks, the database's first: whom a timer wakes finds it has passed."""
    for table, columns in INSTANTS.items():
        earlier = ", ".join(f"{column} = {column} - make_interval(secs => :seconds)" for column in columns)
        await running.execute(f"UPDATE {table} SET {earlier}", seconds=seconds)
    await skipping.sleep(timedelta(seconds=seconds))


async def timer_of(running: Pipeline, workflow_id: str, at_least: float = 0.0) -> float:
    """The seconds of the timer by which a workflow waits, once it does; for so long at least."""
    found: list[float] = []

    async def waiting() -> bool:
        found[:] = [seconds for seconds in await _open_timers(running, workflow_id) if seconds >= at_least]
        return len(found) == 1

    await eventually(waiting, 20, f"a timer of {workflow_id}")
    return found[0]


async def _open_timers(running: Pipeline, workflow_id: str) -> list[float]:
    timers: dict[str, float] = {}
    try:
        async for event in running.client.get_workflow_handle(workflow_id).fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED:
                started = event.timer_started_event_attributes
                timers[started.timer_id] = started.start_to_fire_timeout.ToTimedelta().total_seconds()
            elif event.event_type == EventType.EVENT_TYPE_TIMER_FIRED:
                del timers[event.timer_fired_event_attributes.timer_id]
            elif event.event_type == EventType.EVENT_TYPE_TIMER_CANCELED:
                del timers[event.timer_canceled_event_attributes.timer_id]
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    return list(timers.values())
