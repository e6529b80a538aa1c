"""Temporal Schedules of expiry scans, one for each store and kind.

Stores and their time zones come from PostgreSQL. A pause is stored in Temporal alone.
"""

import logging
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleListActionStartWorkflow,
    ScheduleListDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from domain.delivery.identity import expiry_schedule_id, expiry_workflow_id
from domain.expiry.rows import Kind
from temporal.messages import ExpiryRun, ScanTask
from temporal.schedules import Upkeep, daily, ensure_schedule
from temporal.visibility import LATE, RUN_WORKFLOW, SCAN_WORKFLOW, expiry_attributes, scan_summary

logger = logging.getLogger(__name__)

PREFIX = "expiry/"

OVERLAP = ScheduleOverlapPolicy.BUFFER_ONE
"""A run that is due while another is running starts right after it. One buffered run is enough, because each run scans
all missing days; none would be too few, because a run may have planned its days before midnight."""

CATCH_UP = timedelta(days=365)
"""Maximum delay after which a run missed in an outage of Temporal is still started, since any run scans all missing
days. If the window were shorter than the outage, nothing would be scanned until the next local hour."""


@dataclass(frozen=True)
class StoreSchedules:
    """Store whose schedules to maintain: one for each kind, at the local hour of its time zone."""

    store_code: str
    timezone: str


@dataclass(frozen=True)
class SyncResult:
    """Ids of the schedules that were created, updated or removed, that Temporal refused (with its reason), and that are
    paused."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    @property
    def changed(self) -> int:
        """Return the number of changed schedules."""
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
        """Return the id of the schedule in Temporal."""
        return expiry_schedule_id(self.store_code, self.kind)


class ExpirySchedules:
    """The expiry schedules in Temporal. Every call may raise RPCError."""

    def __init__(self, client: Client, *, task_queue: str, local_hour: int) -> None:
        self._client = client
        self._task_queue = task_queue
        self._local_hour = local_hour

    async def sync(self, stores: Iterable[StoreSchedules], *, thorough: bool) -> SyncResult:
        """Create, update and remove schedules until they match the stores. Paused schedules stay paused.

        The settings that the list of schedules shows are always compared; `thorough` also describes each schedule.
        """
        result = SyncResult()
        listed: dict[str, ScheduleListDescription] = {}
        async for entry in await self._client.list_schedules():
            if entry.id.startswith(PREFIX):
                listed.setdefault(entry.id, entry)  # a schedule that was removed and created again may be listed twice
                if entry.schedule and entry.schedule.state.paused:
                    result.paused.add(entry.id)
        wanted = {expiry_schedule_id(store.store_code, kind): (store, kind) for store in stores for kind in Kind}
        for schedule_id, (store, kind) in wanted.items():
            found = listed.get(schedule_id)
            if found is None or thorough or self._has_drifted(found, store):
                await self._ensure(schedule_id, store, kind, result)
        for schedule_id in listed.keys() - wanted.keys():
            await self._remove(schedule_id, result)
        return result

    async def sync_store(self, store: StoreSchedules) -> SyncResult:
        """Create or update the schedules of one store."""
        result = SyncResult()
        for kind in Kind:
            await self._ensure(expiry_schedule_id(store.store_code, kind), store, kind, result)
        return result

    async def status(self, store_code: str, kind: Kind) -> ScheduleStatus:
        """Return the current state of a schedule."""
        handle = self._client.get_schedule_handle(expiry_schedule_id(store_code, kind))
        try:
            found = await handle.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return ScheduleStatus(store_code, kind, exists=False)
            raise
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
        return await _exists(self._client.get_schedule_handle(expiry_schedule_id(store_code, kind)).pause(note=note))

    async def resume(self, store_code: str, kind: Kind, note: str) -> bool:
        """Resume a schedule, whose next run scans the missed days. Return False if it does not exist."""
        handle = self._client.get_schedule_handle(expiry_schedule_id(store_code, kind))
        return await _exists(handle.unpause(note=note))

    async def scan_day(self, store_code: str, kind: Kind, day: date) -> str:
        """Start a manual scan of a day, unless one is running. Return the workflow id."""
        task = ScanTask(store_code, kind, day)
        handle = await self._client.start_workflow(
            SCAN_WORKFLOW,
            task,
            id=expiry_workflow_id(store_code, kind, day.isoformat()),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=expiry_attributes(store_code, kind),
            static_summary=scan_summary(task),
        )
        return handle.id

    async def scan_days(self, store_code: str, kind: Kind, first: date, last: date) -> str:
        """Start a manual scan of the days from `first` to `last`, one after the other. Return the workflow id."""
        handle = await self._client.start_workflow(
            RUN_WORKFLOW,
            ExpiryRun(store_code, kind, first, last),
            id=expiry_workflow_id(store_code, kind, f"{first}..{last}"),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=expiry_attributes(store_code, kind),
            static_summary=f"{kind} · {store_code} · {first} to {last}",
        )
        return handle.id

    async def look_for_late(self, store_code: str, kind: Kind, *, thorough: bool = False) -> str:
        """Start a scan for rows that came after their day was scanned. Return the workflow id."""
        task = ScanTask(store_code, kind, None, thorough=thorough)
        handle = await self._client.start_workflow(
            SCAN_WORKFLOW,
            task,
            id=expiry_workflow_id(store_code, kind, LATE),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=expiry_attributes(store_code, kind),
            static_summary=scan_summary(task),
        )
        return handle.id

    async def _ensure(self, schedule_id: str, store: StoreSchedules, kind: Kind, result: SyncResult) -> None:
        """Create or update a schedule. One that Temporal refuses holds up no other."""
        try:
            match await ensure_schedule(self._client, schedule_id, self._schedule(store, kind)):
                case Upkeep.CREATED:
                    result.created.append(schedule_id)
                case Upkeep.UPDATED:
                    result.updated.append(schedule_id)
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            result.failed[schedule_id] = error.message

    async def _remove(self, schedule_id: str, result: SyncResult) -> None:
        """Remove the schedule of a deleted store, unless it belongs to another installation in this namespace."""
        handle = self._client.get_schedule_handle(schedule_id)
        try:
            action = (await handle.describe()).schedule.action
            if isinstance(action, ScheduleActionStartWorkflow) and action.task_queue == self._task_queue:
                await handle.delete()
                result.removed.append(schedule_id)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    def _schedule(self, store: StoreSchedules, kind: Kind) -> Schedule:
        return Schedule(
            action=ScheduleActionStartWorkflow(
                RUN_WORKFLOW,
                ExpiryRun(store.store_code, kind),
                id=expiry_schedule_id(store.store_code, kind),
                task_queue=self._task_queue,
                typed_search_attributes=expiry_attributes(store.store_code, kind),
                static_summary=f"{kind} · {store.store_code}",
            ),
            spec=self._spec(store),
            policy=SchedulePolicy(overlap=OVERLAP, catchup_window=CATCH_UP),
        )

    def _spec(self, store: StoreSchedules) -> ScheduleSpec:
        return daily(self._local_hour, store.timezone)

    def _has_drifted(self, entry: ScheduleListDescription, store: StoreSchedules) -> bool:
        listed = entry.schedule
        return (
            listed is None
            or listed.spec != self._spec(store)
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
