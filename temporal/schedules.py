"""The schedules in Temporal: expiry scans, one for each store and kind, and retention; and their maintenance.

Stores and their time zones come from PostgreSQL. A pause is stored in Temporal alone. Every worker maintains the
schedules; that is idempotent.
"""

import logging
import time
from collections.abc import Awaitable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import Enum

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleListActionStartWorkflow,
    ScheduleListDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from domain.delivery.identity import expiry_schedule_id, expiry_workflow_id
from domain.expiry.rows import Kind
from storage.access.stores import list_stores
from storage.access.tables import Store
from storage.database import Database
from storage.events.days import make_coming_days
from storage.expiry.scans import covered_stores, stores_with_late_rows
from temporal.client import found_or_none
from temporal.messages import ExpiryRun, RetentionRun, ScanTask
from temporal.outages import is_refused
from temporal.periodic import run_periodically
from temporal.visibility import LATE, RUN_WORKFLOW, SCAN_WORKFLOW, expiry_attributes, scan_summary

logger = logging.getLogger(__name__)

PREFIX = "expiry/"

OVERLAP = ScheduleOverlapPolicy.BUFFER_ONE
"""A run that is due while another is running starts right after it. One buffered run is enough, because each run scans
all missing days; none would be too few, because a run may have planned its days before midnight."""

CATCH_UP = timedelta(days=365)
"""Maximum delay after which a run missed in an outage of Temporal is still started, since any run scans all missing
days. If the window were shorter than the outage, nothing would be scanned until the next local hour."""

RETENTION_UTC_HOUR = 2
"""Hour of the retention run: the day's events are filed by then, and load is low in most of the world."""

RETENTION_CATCH_UP = timedelta(hours=23)
"""Maximum delay of a missed run, which is started on the same day; later, the next run does all of its work."""

ROUND_SECONDS = 60.0
"""Interval of schedule maintenance: maximum delay of a change made outside the API, and of a late row."""

THOROUGH_SECONDS = 3600.0
"""Interval at which each schedule is described by itself, for settings that the list of schedules does not show, and
at which rows without a time of arrival are read."""

FAULT_PAUSE_SECONDS = 5.0
"""Delay before the next try while PostgreSQL or Temporal are away."""


class Upkeep(Enum):
    """Change that a schedule needed."""

    NOTHING = "nothing"
    CREATED = "created"
    UPDATED = "updated"


async def ensure_schedule(client: Client, schedule_id: str, wanted: Schedule) -> Upkeep:
    """Create a schedule or update it to `wanted`. A pause stays. Raises RPCError."""
    handle = client.get_schedule_handle(schedule_id)
    found = await found_or_none(handle.describe())
    if found is None:
        try:
            await client.create_schedule(schedule_id, wanted)
        except ScheduleAlreadyRunningError:
            return Upkeep.NOTHING  # another worker has just created it
        return Upkeep.CREATED
    if await _is_as_wanted(client, found, wanted):
        return Upkeep.NOTHING

    def update(now: ScheduleUpdateInput) -> ScheduleUpdate:
        state = now.description.schedule.state
        wanted.state = ScheduleState(note=state.note, paused=state.paused)
        return ScheduleUpdate(schedule=wanted)

    await handle.update(update)
    return Upkeep.UPDATED


def daily(hour: int, time_zone: str) -> ScheduleSpec:
    """Return a daily spec at a full hour, in the form in which Temporal returns it, so that the two are comparable."""
    zero, at = (ScheduleRange(0, 0, 1),), (ScheduleRange(hour, hour, 1),)
    days, months, weekdays = ((ScheduleRange(first, last, 1),) for first, last in ((1, 31), (1, 12), (0, 6)))
    calendar = ScheduleCalendarSpec(
        second=zero, minute=zero, hour=at, day_of_month=days, month=months, year=(), day_of_week=weekdays
    )
    return ScheduleSpec(calendars=[calendar], time_zone_name=time_zone)


async def _is_as_wanted(client: Client, found: ScheduleDescription, wanted: Schedule) -> bool:
    there, action = found.schedule.action, wanted.action
    return (
        isinstance(there, ScheduleActionStartWorkflow)
        and isinstance(action, ScheduleActionStartWorkflow)
        and found.schedule.spec == wanted.spec
        and found.schedule.policy == wanted.policy
        and not found.schedule.state.limited_actions
        and (there.workflow, there.id, there.task_queue) == (action.workflow, action.id, action.task_queue)
        and await client.data_converter.encode(action.args) == list(there.args)
    )


@dataclass(frozen=True)
class SyncResult:
    """Ids of the schedules that were created, updated, removed, refused by Temporal (with its reason), and paused."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    @property
    def changed(self) -> int:
        return len(self.created) + len(self.updated) + len(self.removed)


@dataclass(frozen=True)
class ScheduleStatus:
    """State of a schedule in Temporal. `exists` is False until the next sync has created it."""

    store_code: str
    kind: Kind
    exists: bool
    paused: bool = False
    note: str | None = None
    next_run_at: datetime | None = None
    running: list[str] = field(default_factory=list)
    """Workflow ids of runs under way."""

    @property
    def schedule_id(self) -> str:
        return expiry_schedule_id(self.store_code, self.kind)


@dataclass(eq=False)
class ExpirySchedules:
    """The expiry schedules in Temporal: of each store one for each kind. Every call may raise RPCError."""

    client: Client
    _: KW_ONLY
    task_queue: str
    local_hour: int

    async def sync(self, stores: Iterable[Store], *, thorough: bool) -> SyncResult:
        """Create, update and remove schedules until they match the stores. Paused schedules stay paused. The settings
        that the list of schedules shows are always compared; `thorough` also describes each schedule."""
        result = SyncResult()
        listed: dict[str, ScheduleListDescription] = {}
        async for entry in await self.client.list_schedules():
            if entry.id.startswith(PREFIX):
                listed.setdefault(entry.id, entry)  # a schedule that was removed and created again may be listed twice
                if entry.schedule and entry.schedule.state.paused:
                    result.paused.add(entry.id)
        wanted = {expiry_schedule_id(store.code, kind): (store, kind) for store in stores for kind in Kind}
        for schedule_id, (store, kind) in wanted.items():
            found = listed.get(schedule_id)
            if found is None or thorough or self._has_drifted(found, store):
                await self._ensure(schedule_id, store, kind, result)
        for schedule_id in listed.keys() - wanted.keys():
            await self._remove(schedule_id, result)
        return result

    async def sync_store(self, store: Store) -> SyncResult:
        result = SyncResult()
        for kind in Kind:
            await self._ensure(expiry_schedule_id(store.code, kind), store, kind, result)
        return result

    async def status(self, store_code: str, kind: Kind) -> ScheduleStatus:
        handle = self.client.get_schedule_handle(expiry_schedule_id(store_code, kind))
        found = await found_or_none(handle.describe())
        if found is None:
            return ScheduleStatus(store_code, kind, exists=False)
        upcoming = found.info.next_action_times
        return ScheduleStatus(
            store_code,
            kind,
            exists=True,
            paused=found.schedule.state.paused,
            note=found.schedule.state.note,
            next_run_at=upcoming[0] if upcoming and not found.schedule.state.paused else None,
            running=[
                action.workflow_id
                for action in found.info.running_actions
                if isinstance(action, ScheduleActionExecutionStartWorkflow)
            ],
        )

    async def pause(self, store_code: str, kind: Kind, note: str) -> bool:
        """Pause a schedule. Return False if it does not exist."""
        return await _exists(self.client.get_schedule_handle(expiry_schedule_id(store_code, kind)).pause(note=note))

    async def resume(self, store_code: str, kind: Kind, note: str) -> bool:
        """Resume a schedule, whose next run scans the missed days. Return False if it does not exist."""
        return await _exists(self.client.get_schedule_handle(expiry_schedule_id(store_code, kind)).unpause(note=note))

    async def scan_day(self, store_code: str, kind: Kind, day: date) -> str:
        """Start a manual scan of a day, unless one is running. Return the workflow id."""
        task = ScanTask(store_code, kind, day)
        return await self._start(SCAN_WORKFLOW, task, day.isoformat(), scan_summary(task))

    async def scan_days(self, store_code: str, kind: Kind, first: date, last: date) -> str:
        """Start a manual scan of the days from `first` to `last`, one after the other. Return the workflow id."""
        run, summary = ExpiryRun(store_code, kind, first, last), f"{kind} · {store_code} · {first} to {last}"
        return await self._start(RUN_WORKFLOW, run, f"{first}..{last}", summary)

    async def look_for_late(self, store_code: str, kind: Kind, *, thorough: bool = False) -> str:
        """Start a scan for rows that came after their day was scanned. Return the workflow id."""
        task = ScanTask(store_code, kind, None, thorough=thorough)
        return await self._start(SCAN_WORKFLOW, task, LATE, scan_summary(task))

    async def _start(self, workflow: str, task: ScanTask | ExpiryRun, period: str, summary: str) -> str:
        workflow_id = expiry_workflow_id(task.store_code, task.kind, period)
        await self.client.start_workflow(
            workflow,
            task,
            id=workflow_id,
            task_queue=self.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=expiry_attributes(task.store_code, task.kind),
            static_summary=summary,
        )
        return workflow_id

    async def _ensure(self, schedule_id: str, store: Store, kind: Kind, result: SyncResult) -> None:
        """Create or update a schedule. One that Temporal refuses holds up no other."""
        try:
            match await ensure_schedule(self.client, schedule_id, self._schedule(store, kind)):
                case Upkeep.CREATED:
                    result.created.append(schedule_id)
                case Upkeep.UPDATED:
                    result.updated.append(schedule_id)
        except RPCError as error:
            if not is_refused(error):
                raise
            result.failed[schedule_id] = error.message

    async def _remove(self, schedule_id: str, result: SyncResult) -> None:
        """Remove the schedule of a deleted store, unless it belongs to another installation in this namespace."""
        handle = self.client.get_schedule_handle(schedule_id)
        found = await found_or_none(handle.describe())
        action = None if found is None else found.schedule.action
        ours = isinstance(action, ScheduleActionStartWorkflow) and action.task_queue == self.task_queue
        if ours and await _exists(handle.delete()):
            result.removed.append(schedule_id)

    def _schedule(self, store: Store, kind: Kind) -> Schedule:
        return Schedule(
            action=ScheduleActionStartWorkflow(
                RUN_WORKFLOW,
                ExpiryRun(store.code, kind),
                id=expiry_schedule_id(store.code, kind),
                task_queue=self.task_queue,
                typed_search_attributes=expiry_attributes(store.code, kind),
                static_summary=f"{kind} · {store.code}",
            ),
            spec=daily(self.local_hour, store.timezone),
            policy=SchedulePolicy(overlap=OVERLAP, catchup_window=CATCH_UP),
        )

    def _has_drifted(self, entry: ScheduleListDescription, store: Store) -> bool:
        listed = entry.schedule
        return (
            listed is None
            or listed.spec != daily(self.local_hour, store.timezone)
            or listed.action != ScheduleListActionStartWorkflow(RUN_WORKFLOW)
        )


async def _exists(call: Awaitable[None]) -> bool:
    """Make a call about a schedule. Return False if the schedule does not exist."""
    try:
        await call
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


def retention_schedule_id(task_queue: str) -> str:
    """Return the id of the retention schedule. Each installation in a namespace has its own."""
    return f"retention/{task_queue}"


async def ensure_retention(client: Client, task_queue: str) -> Upkeep:
    """Create or update the schedule of retention. A pause stays. Raises RPCError."""
    schedule_id = retention_schedule_id(task_queue)
    wanted = Schedule(
        action=ScheduleActionStartWorkflow(
            "apply-retention", RetentionRun(), id=schedule_id, task_queue=task_queue, static_summary="retention"
        ),
        spec=daily(RETENTION_UTC_HOUR, "UTC"),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=RETENTION_CATCH_UP),
    )
    return await ensure_schedule(client, schedule_id, wanted)


async def sync_all(database: Database, schedules: ExpirySchedules, *, thorough: bool) -> SyncResult:
    """Bring the schedules in line with the stores in the database. Raises the errors of database and Temporal."""
    result = await schedules.sync(await database.run(list_stores), thorough=thorough)
    if result.changed:
        changed = (len(result.created), len(result.updated), len(result.removed))
        logger.info("schedules synchronised: %d created, %d updated, %d removed", *changed)
    for schedule_id, reason in result.failed.items():
        logger.error("Temporal refuses schedule %s: %s", schedule_id, reason)
    return result


@dataclass(eq=False)
class ScheduleMaintenance:
    """Maintenance of the Temporal schedules and start of the scans for late rows of expiry. `late_notices`: look for
    late rows; `reads_all`: some rows have no time of arrival, so all are read once an hour."""

    database: Database
    schedules: ExpirySchedules
    _: KW_ONLY
    late_notices: bool
    reads_all: bool

    def __post_init__(self) -> None:
        self._thorough_at = time.monotonic()
        self._read_all_at = self._thorough_at + THOROUGH_SECONDS  # scheduled runs read everything as well

    async def run(self) -> None:
        await run_periodically(
            "schedule maintenance", self._maintain, every_seconds=ROUND_SECONDS, retry_seconds=FAULT_PAUSE_SECONDS
        )

    async def _maintain(self) -> None:
        now = time.monotonic()
        result = await sync_all(self.database, self.schedules, thorough=now >= self._thorough_at)
        if now >= self._thorough_at:
            self._thorough_at = now + THOROUGH_SECONDS
        if self.late_notices:
            read_all = self.reads_all and now >= self._read_all_at
            await self._look_for_late(result.paused, read_all)
            if read_all:
                self._read_all_at = now + THOROUGH_SECONDS

    async def _look_for_late(self, paused: set[str], read_all: bool) -> None:
        for kind in Kind:
            if read_all:
                stores = await self.database.run(covered_stores, kind)
            else:
                stores = await self.database.run(stores_with_late_rows, kind, datetime.now(UTC))
            for store_code in stores:
                if expiry_schedule_id(store_code, kind) not in paused:
                    await self.schedules.look_for_late(store_code, kind, thorough=read_all)


async def maintain_partitions(database: Database, client: Client, task_queue: str) -> None:
    """Create the partitions of the coming days, and create or update the retention schedule, until cancelled."""

    async def maintain() -> None:
        await make_coming_days(database)
        await ensure_retention(client, task_queue)

    await run_periodically(
        "partition maintenance", maintain, every_seconds=THOROUGH_SECONDS, retry_seconds=FAULT_PAUSE_SECONDS
    )
