"""The schedules in Temporal are those of the stores, whatever a person or an outage did to them."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

import workflows.expiry
from domain.delivery.identity import expiry_schedule_id
from domain.expiry.calendar_days import day_start
from domain.expiry.rows import Kind
from domain.timestamps import zone
from storage.access.stores import create_store
from storage.access.tables import Store
from storage.database import Database
from temporal.messages import ExpiryRun
from temporal.schedules import ExpirySchedules, ScheduleMaintenance, sync_all
from tests.deadlines import eventually
from tests.expiry_ground import Scanning, scanning

HOUR = 6


@dataclasses.dataclass
class Kept:
    """Schedules of one task queue in a namespace of their own."""

    client: Client
    task_queue: str = dataclasses.field(default_factory=lambda: f"test-{uuid4()}")
    shop: str = dataclasses.field(default_factory=lambda: f"shop-{uuid4().hex}")
    """A store of its own: the list of schedules shows one that was removed and made again twice, for a while."""

    def schedules(self, local_hour: int = HOUR) -> ExpirySchedules:
        return ExpirySchedules(self.client, task_queue=self.task_queue, local_hour=local_hour)

    def handle(self, store: str, kind: Kind = Kind.POINTS) -> ScheduleHandle:
        return self.client.get_schedule_handle(expiry_schedule_id(store, kind))

    async def ids(self) -> set[str]:
        return {entry.id async for entry in await self.client.list_schedules()}

    async def until_listed(self, *ids: str) -> None:
        async def listed() -> bool:
            return await self.ids() == set(ids)

        await eventually(listed, 30, f"schedules {ids}")


@pytest.fixture
async def kept(temporal_namespace: WorkflowEnvironment) -> Kept:
    return Kept(temporal_namespace.client)


async def until_paused(client: Client, store: str, kind: Kind) -> None:
    """The list of schedules comes a second or two after what it lists."""

    async def listed() -> bool:
        states = {entry.id: entry.schedule.state async for entry in await client.list_schedules() if entry.schedule}
        return states[expiry_schedule_id(store, kind)].paused

    await eventually(listed, 20, "the list of schedules says that it is paused")


def store(code: str, timezone: str) -> Store:
    return Store(code=code, name=code, timezone=timezone)


def ids_of(*stores: str) -> list[str]:
    return [expiry_schedule_id(store, kind) for store in stores for kind in Kind]


async def test_each_store_gets_a_schedule_for_each_kind_at_its_local_hour(kept: Kept) -> None:
    result = await kept.schedules().sync([store(kept.shop, "Asia/Kathmandu")], thorough=True)
    assert sorted(result.created) == sorted(ids_of(kept.shop))
    status = await kept.schedules().status(kept.shop, Kind.POINTS)
    assert status.exists
    assert not status.paused
    assert status.next_run_at is not None
    local = status.next_run_at.astimezone(zone("Asia/Kathmandu"))
    assert (local.hour, local.minute, local.second) == (HOUR, 0, 0)
    described = await kept.handle(kept.shop).describe()
    assert described.schedule.policy.overlap is ScheduleOverlapPolicy.BUFFER_ONE
    assert described.schedule.policy.catchup_window == timedelta(days=365)


async def test_a_second_sync_changes_nothing(kept: Kept) -> None:
    stores = [store(kept.shop, "Europe/Warsaw"), store("other", "UTC")]
    await kept.schedules().sync(stores, thorough=True)
    await kept.until_listed(*ids_of(kept.shop, "other"))
    assert (await kept.schedules().sync(stores, thorough=True)).changed == 0
    assert (await kept.schedules().sync(stores, thorough=False)).changed == 0


@pytest.mark.parametrize("thorough", [True, False])
async def test_a_changed_zone_and_hour_are_carried_over(kept: Kept, thorough: bool) -> None:
    await kept.schedules().sync([store(kept.shop, "UTC")], thorough=True)
    await kept.until_listed(*ids_of(kept.shop))
    result = await kept.schedules(9).sync([store(kept.shop, "America/New_York")], thorough=thorough)
    assert sorted(result.updated) == sorted(ids_of(kept.shop))
    status = await kept.schedules(9).status(kept.shop, Kind.COUPONS)
    assert status.next_run_at is not None
    assert status.next_run_at.astimezone(zone("America/New_York")).hour == 9


def _other_hour(schedule: Schedule) -> None:
    schedule.spec = ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(3)])])


def _another_beside(schedule: Schedule) -> None:
    schedule.spec.calendars = [*schedule.spec.calendars, ScheduleCalendarSpec(hour=[ScheduleRange(18)])]


def _other_overlap(schedule: Schedule) -> None:
    schedule.policy.overlap = ScheduleOverlapPolicy.ALLOW_ALL


def _other_store(schedule: Schedule) -> None:
    assert isinstance(schedule.action, ScheduleActionStartWorkflow)
    schedule.action.args = [ExpiryRun("elsewhere", Kind.POINTS)]


def _few_runs(schedule: Schedule) -> None:
    schedule.state.limited_actions = True
    schedule.state.remaining_actions = 1


@pytest.mark.parametrize("drift", [_other_hour, _another_beside, _other_overlap, _other_store, _few_runs])
async def test_what_somebody_changed_in_temporal_is_mended(kept: Kept, drift: object) -> None:
    stores = [store(kept.shop, "Europe/Warsaw")]
    await kept.schedules().sync(stores, thorough=True)
    before = (await kept.handle(kept.shop).describe()).schedule

    def change(now: ScheduleUpdateInput) -> ScheduleUpdate:
        drift(now.description.schedule)  # type: ignore[operator]
        return ScheduleUpdate(now.description.schedule)

    await kept.handle(kept.shop).update(change)
    result = await kept.schedules().sync(stores, thorough=True)
    assert result.updated == [expiry_schedule_id(kept.shop, Kind.POINTS)]
    after = (await kept.handle(kept.shop).describe()).schedule
    assert (after.spec, after.policy, after.state) == (before.spec, before.policy, before.state)
    assert (await kept.schedules().sync(stores, thorough=True)).changed == 0


async def test_a_removed_schedule_is_made_again(kept: Kept) -> None:
    stores = [store(kept.shop, "Europe/Warsaw")]
    await kept.schedules().sync(stores, thorough=True)
    await kept.handle(kept.shop).delete()
    assert (await kept.schedules().sync(stores, thorough=True)).created == [expiry_schedule_id(kept.shop, Kind.POINTS)]


async def test_what_is_paused_stays_paused_whatever_is_mended(kept: Kept) -> None:
    await kept.schedules().sync([store(kept.shop, "UTC")], thorough=True)
    assert await kept.schedules().pause(kept.shop, Kind.POINTS, "an audit")
    await kept.schedules(9).sync([store(kept.shop, "Europe/Warsaw")], thorough=True)
    status = await kept.schedules().status(kept.shop, Kind.POINTS)
    assert (status.paused, status.note, status.next_run_at) == (True, "an audit", None)

    await until_paused(kept.client, kept.shop, Kind.POINTS)
    result = await kept.schedules(9).sync([store(kept.shop, "Europe/Warsaw")], thorough=False)
    assert result.paused == {expiry_schedule_id(kept.shop, Kind.POINTS)}
    assert await kept.schedules().resume(kept.shop, Kind.POINTS, "done")
    assert not (await kept.schedules().status(kept.shop, Kind.POINTS)).paused
    assert not await kept.schedules().pause("nowhere", Kind.POINTS, "")


async def test_schedules_without_a_store_go_and_those_of_others_stay(kept: Kept) -> None:
    neighbour = Kept(kept.client)
    await neighbour.schedules().sync([store("theirs", "UTC")], thorough=True)
    await kept.client.create_schedule(
        "reports/daily", Schedule(action=ScheduleActionStartWorkflow("w", id="w", task_queue="q"), spec=ScheduleSpec())
    )
    await kept.schedules().sync_store(store(kept.shop, "UTC"))
    await kept.schedules().sync_store(store("gone", "UTC"))
    await kept.until_listed(*ids_of("theirs", kept.shop, "gone"), "reports/daily")
    result = await kept.schedules().sync([store(kept.shop, "UTC")], thorough=False)
    assert sorted(result.removed) == sorted(ids_of("gone"))
    await kept.until_listed(*ids_of("theirs", kept.shop), "reports/daily")


async def test_the_stores_of_the_database_are_what_is_wanted(kept: Kept, database: Database) -> None:
    for store in ("one", "two"):
        async with database.transaction() as connection:
            await create_store(connection, store, store, "Europe/Warsaw")
    result = await sync_all(database, kept.schedules(), thorough=True)
    assert sorted(result.created) == sorted(ids_of("one", "two"))


async def test_a_store_made_in_the_database_has_its_schedules_by_the_worker_soon(
    kept: Kept, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporal.schedules.ROUND_SECONDS", 0.1)
    async with keeping(database, kept.schedules()):
        async with database.transaction() as connection:
            await create_store(connection, "new", "new", "UTC")
        await kept.until_listed(*ids_of("new"))


async def test_temporal_being_away_ends_no_worker(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temporal.schedules.FAULT_PAUSE_SECONDS", 0.05)
    calls = []

    class Away(ExpirySchedules):
        def __init__(self) -> None:
            return

        async def sync(self, *_: object, **__: object) -> None:  # type: ignore[override]
            calls.append(1)
            raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")

    async def tried_again() -> bool:
        return len(calls) > 2

    async with keeping(database, Away()):
        await eventually(tried_again, 30, "the drain goes on")


@asynccontextmanager
async def keeping(database: Database, schedules: ExpirySchedules) -> AsyncIterator[None]:
    drain = ScheduleMaintenance(database, schedules, late_notices=True, reads_all=False)
    task = asyncio.create_task(drain.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()


async def details_of(run: WorkflowHandle[Any, Any]) -> str:
    """What the Web UI shows of a workflow as its current details."""
    metadata: WorkflowMetadata = await run.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


async def noon_in(days: int) -> datetime:
    return day_start(datetime.now(UTC).date() + timedelta(days=days), UTC) + timedelta(hours=12)


@asynccontextmanager
async def scheduled(url: str, environment: WorkflowEnvironment) -> AsyncIterator[Scanning]:
    async with scanning(url, environment) as running:
        await running.schedules.sync([store("default", "UTC")], thorough=True)
        yield running


async def test_a_schedule_that_is_due_scans_and_shows_what_it_did(
    module_database_url: str, temporal_namespace: WorkflowEnvironment
) -> None:
    async with scheduled(module_database_url, temporal_namespace) as running:
        await running.put(Kind.LEVELS, [await noon_in(10)] * 3)
        handle = temporal_namespace.client.get_schedule_handle(expiry_schedule_id("default", Kind.LEVELS))
        await handle.trigger()

        async def emitted() -> bool:
            return await running.count(Kind.LEVELS) == 3

        await eventually(emitted, 15, "the run that was due has scanned")
        [action] = (await handle.describe()).info.recent_actions
        run = temporal_namespace.client.get_workflow_handle(action.action.workflow_id)  # type: ignore[attr-defined]
        assert await run.result() == {"days": 1, "emitted": 3, "late": 0}
        assert "| 3 | 3 | 0 | 0 |" in await details_of(run)
        assert (await run.describe()).static_summary is not None
        assert run.id.startswith("expiry/default/levels-20")


async def test_the_watch_starts_scans_of_late_rows_and_leaves_paused_kinds_alone(
    module_database_url: str, temporal_namespace: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporal.schedules.ROUND_SECONDS", 0.2)
    async with scheduled(module_database_url, temporal_namespace) as running:
        for kind in (Kind.POINTS, Kind.COUPONS):
            await running.run(kind)
        await running.schedules.pause("default", Kind.COUPONS, "")
        await until_paused(temporal_namespace.client, "default", Kind.COUPONS)
        for kind in (Kind.POINTS, Kind.COUPONS, Kind.LEVELS):  # levels were never scanned
            await running.put(kind, [await noon_in(10)])
        async with keeping(running.database, running.schedules):

            async def emitted() -> bool:
                return await running.count(Kind.POINTS) == 1

            await eventually(emitted, 15, "the late row has its notice")
        assert await running.scalar("SELECT count(*) FROM event") == 1


async def test_a_long_scan_goes_on_in_new_runs(
    module_database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.expiry, "SLICES_A_RUN", 3)
    async with scanning(module_database_url, temporal, page_rows=5, slice_seconds=0) as running:
        noon = await noon_in(10)
        await running.put(Kind.POINTS, [noon] * 28)
        workflow_id = await running.schedules.scan_day("default", Kind.POINTS, noon.date())
        result = await temporal.client.get_workflow_handle(workflow_id).result()
        assert (result["scanned"], result["emitted"], result["finished"]) == (28, 28, True)
        details = await details_of(temporal.client.get_workflow_handle(workflow_id))
        assert details.startswith(f"**{noon.date()} in UTC**: scanned. 28 due, 28 notices emitted (")
        assert len(await running.scans()) == 1

        async def three_runs() -> bool:  # six pages and the end of it, three to a run
            return len([run async for run in temporal.client.list_workflows(f"WorkflowId = '{workflow_id}'")]) == 3

        await eventually(three_runs, 20, "three runs are listed")
        assert await running.count() == 28


async def test_days_by_hand_are_scanned_in_order_over_several_runs(
    module_database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.expiry, "DAYS_A_RUN", 2)
    async with scanning(module_database_url, temporal) as running:
        instants = [await noon_in(day) for day in range(1, 8)]
        await running.put(Kind.POINTS, instants)
        first, last = instants[1].date(), instants[5].date()
        workflow_id = await running.schedules.scan_days("default", Kind.POINTS, first, last)
        await temporal.client.get_workflow_handle(workflow_id).result()
        assert [scan.day for scan in await running.scans()] == [one.date() for one in instants[1:6]]
        assert await running.count() == 5
