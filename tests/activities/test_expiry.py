"""Scanning in slices: each due row once, whoever dies or stands up again, and only what is due when it is emitted."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.exc import OperationalError
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.expiry import BACKLOG_EVENTS, ExpiryActivities
from domain.events.catalogue import CATALOGUE, validate_data
from domain.expiry.rows import EVENT_NAMES, Kind
from domain.wire.jsontext import parse
from storage.database import Database
from storage.expiry.due import FoundRow, Search, StoredDue
from storage.expiry.scans import stores_with_late_rows
from storage.expiry.source import SourceUnusableError
from temporal.messages import OpenRequest, PlanRequest, ScanProgress, ScanRef, ScanTask
from tests.deadlines import eventually
from tests.expiry_ground import ExpiryGround, activities_of
from tests.ground import EVENT_WITH_BODY, STORE

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = datetime(2026, 2, 19, 6, tzinfo=UTC)
SMALL = {"page_rows": 10, "slice_seconds": 60.0}


@pytest.fixture
async def ground(module_database_url: str) -> AsyncIterator[ExpiryGround]:
    database = Database(module_database_url, pool_size=6)
    ground = ExpiryGround(database)
    await ground.clear()
    await ground.add_store()
    yield ground
    await database.close()


async def run(activity: Callable[[Any], Awaitable[Any]], argument: Any) -> Any:
    return await ActivityEnvironment().run(activity, argument)


async def opened(activities: ExpiryActivities, kind: Kind = Kind.POINTS, origin: str = "manual") -> ScanProgress:
    task = ScanTask(STORE, kind, DAY, origin)
    progress: ScanProgress = await run(activities.open_scan, OpenRequest(task, str(uuid4()), "a-workflow", NOW))
    return progress


async def scanned(activities: ExpiryActivities, kind: Kind = Kind.POINTS) -> ScanProgress:
    """A whole scan."""
    progress = await opened(activities, kind)
    while not progress.finished:
        progress = await run(activities.scan, ScanRef(progress.scan_id))
    return progress


async def to_the_end(activities: ExpiryActivities, progress: ScanProgress) -> ScanProgress:
    while not progress.finished:
        progress = await run(activities.scan, ScanRef(progress.scan_id))
    return progress


async def begun_by_schedule(activities: ExpiryActivities, day: date) -> ScanProgress:
    task = ScanTask(STORE, Kind.POINTS, day, "schedule")
    progress: ScanProgress = await run(activities.open_scan, OpenRequest(task, str(uuid4()), "a-workflow", NOW))
    return progress


async def scan_by_schedule(activities: ExpiryActivities, day: date) -> None:
    await to_the_end(activities, await begun_by_schedule(activities, day))


async def late_look(activities: ExpiryActivities) -> ScanProgress:
    """A look for late rows that has begun."""
    task = ScanTask(STORE, Kind.POINTS, None)
    progress: ScanProgress = await run(activities.open_scan, OpenRequest(task, str(uuid4()), "a-workflow", NOW))
    return progress


async def stores_with_late(ground: ExpiryGround) -> list[str]:
    async with ground.database.transaction() as connection:
        return await stores_with_late_rows(connection, Kind.POINTS, NOW)


class Disturbed(StoredDue):
    """Does something between finding a page and emitting it."""

    def __init__(self, ground: ExpiryGround, disturb: Callable[[list[FoundRow]], Awaitable[None]]) -> None:
        super().__init__(ground.database, ground.sealer)
        self._disturb = disturb

    async def pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[FoundRow], None]:
        async for page in super().pages(search, page_rows):
            await self._disturb(page)
            yield page


@pytest.mark.parametrize("kind", Kind)
async def test_what_is_emitted_would_be_accepted_from_a_platform_too(ground: ExpiryGround, kind: Kind) -> None:
    await ground.put(kind, [NOON] * 3)
    progress = await scanned(activities_of(ground), kind)
    assert (progress.scanned, progress.emitted, progress.refused) == (3, 3, 0)
    for event in await ground.execute(f"SELECT * FROM {EVENT_WITH_BODY}"):
        assert event.name == EVENT_NAMES[kind]
        data = event.data if event.sealed_data is None else ground.sealer.open(event.sealed_data)
        assert validate_data(CATALOGUE[event.name], parse(data.encode())) == []
        assert (event.sealed_data is not None) == (kind is Kind.COUPONS)
        assert "SPRING-4F7K" not in event.data


UNDUE: list[tuple[Kind, str, str]] = [
    (Kind.POINTS, "cancelled transfer", "UPDATE point_transfer SET status = 'cancelled'"),
    (Kind.POINTS, "nothing left", "UPDATE point_transfer SET remaining_points = 0"),
    (Kind.POINTS, "another day", "UPDATE point_transfer SET expires_at = expires_at + interval '1 day'"),
    (Kind.POINTS, "forgotten", "DELETE FROM point_transfer"),
    (Kind.LEVELS, "level changed already", "UPDATE member_level SET level_id = future_level_id"),
    (Kind.LEVELS, "no level to come", "UPDATE member_level SET future_level_id = NULL"),
    (Kind.LEVELS, "reckoned later", "UPDATE member_level SET recalculate_at = recalculate_at + interval '1 hour'"),
    (Kind.COUPONS, "used", "UPDATE issued_coupon SET used = true"),
    (Kind.COUPONS, "cancelled", "UPDATE issued_coupon SET status = 'cancelled'"),
]


@pytest.mark.parametrize(
    ("kind", "change"), [(kind, change) for kind, _, change in UNDUE], ids=[f"{kind}: {why}" for kind, why, _ in UNDUE]
)
async def test_what_is_no_longer_due_when_it_is_emitted_gets_no_notice(
    ground: ExpiryGround, kind: Kind, change: str
) -> None:
    await ground.put(kind, [NOON] * 2)

    async def disturb(_: list[FoundRow]) -> None:
        await ground.execute(change)

    progress = await scanned(activities_of(ground, source=Disturbed(ground, disturb)), kind)
    assert (progress.scanned, progress.emitted, progress.dropped) == (2, 0, 2)
    assert await ground.scalar("SELECT count(*) FROM event") == 0


async def test_a_fault_in_the_middle_costs_one_page_and_the_scan_goes_on_where_it_was(ground: ExpiryGround) -> None:
    await ground.put(Kind.POINTS, [NOON] * 95)
    pages: list[int] = []

    async def disturb(page: list[FoundRow]) -> None:
        pages.append(len(page))
        if len(pages) in (3, 7):
            raise OperationalError("a statement", {}, ConnectionError("the database is gone"))

    activities = activities_of(ground, source=Disturbed(ground, disturb), **SMALL)
    progress, faults = await opened(activities), 0
    while not progress.finished:
        try:
            progress = await run(activities.scan, ScanRef(progress.scan_id))
        except ApplicationError as error:
            faults += error.type == "Unavailable"
    assert faults == 2
    assert pages == [10] * 11 + [5]  # ten, and the two that failed once more
    assert (progress.scanned, progress.emitted, progress.known) == (95, 95, 0)
    assert await ground.scalar("SELECT count(*) FROM event") == 95


async def test_a_worker_taken_for_dead_and_its_successor_count_nothing_twice(ground: ExpiryGround) -> None:
    await ground.put(Kind.POINTS, [NOON] * 200)
    one, other = activities_of(ground, **SMALL), activities_of(ground, **SMALL)
    begun = await opened(one)
    results: list[ScanProgress] = []

    async def work(activities: ExpiryActivities) -> None:
        progress = begun
        while not progress.finished:
            progress = await run(activities.scan, ScanRef(begun.scan_id))
        results.append(progress)

    await asyncio.gather(work(one), work(other), work(one))
    assert [(result.scanned, result.emitted, result.known) for result in results] == [(200, 200, 0)] * 3
    assert await ground.scalar("SELECT count(*) FROM event") == 200


async def test_two_scans_of_one_day_at_once_give_each_notice_once(ground: ExpiryGround) -> None:
    await ground.put(Kind.POINTS, [NOON] * 100)
    both = await asyncio.gather(scanned(activities_of(ground, **SMALL)), scanned(activities_of(ground, **SMALL)))
    assert sum(progress.emitted for progress in both) == 100
    assert all(progress.emitted + progress.known == 100 for progress in both)
    assert await ground.scalar("SELECT count(*) FROM event") == 100


async def test_a_slice_ends_after_its_time_and_the_next_goes_on(ground: ExpiryGround) -> None:
    await ground.put(Kind.POINTS, [NOON] * 25)
    activities = activities_of(ground, page_rows=10, slice_seconds=0)
    progress = await opened(activities)
    counts = []
    while not progress.finished:
        progress = await run(activities.scan, ScanRef(progress.scan_id))
        counts.append(progress.emitted)
    assert counts == [10, 20, 25, 25]
    assert await run(activities.scan, ScanRef(progress.scan_id)) == progress  # asked again: nothing more


async def test_notices_wait_while_their_store_has_much_to_deliver(
    ground: ExpiryGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.expiry.BACKLOG_WAIT_SECONDS", 60.0)
    await ground.emit("CustomerUpdated", "{}", BACKLOG_EVENTS)
    await ground.put(Kind.POINTS, [NOON])
    scan = asyncio.create_task(scanned(activities_of(ground)))
    await asyncio.wait([scan], timeout=0.3)
    assert await ground.count() == 0
    await ground.execute("UPDATE event SET matched_at = now()")
    assert (await scan).emitted == 1


async def test_notices_do_not_wait_for_what_another_store_has_to_deliver(ground: ExpiryGround) -> None:
    await ground.add_store("another")
    await ground.emit("CustomerUpdated", "{}", BACKLOG_EVENTS, store="another")
    await ground.put(Kind.POINTS, [NOON])
    assert (await scanned(activities_of(ground))).emitted == 1


async def test_notices_do_not_wait_for_ever(ground: ExpiryGround) -> None:
    await ground.emit("CustomerUpdated", "{}", BACKLOG_EVENTS)
    await ground.put(Kind.POINTS, [NOON] * 2)
    assert (await scanned(activities_of(ground))).emitted == 2


async def test_only_the_schedules_own_scans_move_it_on(ground: ExpiryGround) -> None:
    activities = activities_of(ground)
    progress = await opened(activities, origin="manual")
    await run(activities.scan, ScanRef(progress.scan_id))
    plan = await run(activities.plan_scans, PlanRequest(STORE, Kind.POINTS, NOW))
    assert [task.day for task in plan.days] == [DAY]  # as if it had never been scanned
    progress = await opened(activities, origin="schedule")
    await run(activities.scan, ScanRef(progress.scan_id))
    plan = await run(activities.plan_scans, PlanRequest(STORE, Kind.POINTS, NOW))
    assert plan.days == []


async def test_a_scan_that_would_leave_a_gap_does_not_move_the_schedule_on(ground: ExpiryGround) -> None:
    activities = activities_of(ground)

    await scan_by_schedule(activities, DAY)
    await scan_by_schedule(activities, DAY + timedelta(days=2))
    plan = await run(activities.plan_scans, PlanRequest(STORE, Kind.POINTS, NOW + timedelta(days=2)))
    assert [task.day for task in plan.days] == [DAY + timedelta(days=1), DAY + timedelta(days=2)]


async def test_a_row_whose_transaction_was_open_when_its_day_was_scanned_is_late_and_not_lost(
    ground: ExpiryGround,
) -> None:
    activities = activities_of(ground)
    await ground.put(Kind.POINTS, [NOON], status="cancelled")
    late = OpenRequest(ScanTask(STORE, Kind.POINTS, None), str(uuid4()), "a-workflow", NOW)
    async with ground.database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE point_transfer SET status = 'active', imported_at = clock_timestamp()")
        progress = await opened(activities, origin="schedule")
        assert (await run(activities.scan, ScanRef(progress.scan_id))).scanned == 0
        other = await run(activities.open_scan, replace(late, scan_id=str(uuid4())))
        assert (await run(activities.scan, ScanRef(other.scan_id))).scanned == 0  # nor by a look meanwhile
    progress = await run(activities.open_scan, late)
    assert (await run(activities.scan, ScanRef(progress.scan_id))).emitted == 1


@pytest.mark.parametrize("late_look_ends", ["before the scan", "after the scan"])
async def test_a_row_that_came_behind_a_scan_under_way_is_late_although_late_rows_were_looked_for_meanwhile(
    ground: ExpiryGround, late_look_ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.expiry.scans.UNSEEN_TIME", timedelta(0))  # it would hide what is tried here
    activities = activities_of(ground, page_rows=1, slice_seconds=0)
    await scan_by_schedule(activities, DAY)
    await ground.put(Kind.POINTS, [NOON + timedelta(days=1)])
    next_day = await begun_by_schedule(activities, DAY + timedelta(days=1))
    await run(activities.scan, ScanRef(next_day.scan_id))  # it stands at noon
    await ground.put(Kind.POINTS, [NOON + timedelta(hours=20)])  # in the morning of that day
    look = await late_look(activities)
    if late_look_ends == "before the scan":
        await to_the_end(activities, look)
        await to_the_end(activities, next_day)
    else:
        await to_the_end(activities, next_day)
        await to_the_end(activities, look)
    assert await ground.count() == 1
    assert (await to_the_end(activities, await late_look(activities))).emitted == 1
    assert await stores_with_late(ground) == []


async def test_a_store_that_is_not_there_ends_the_run_and_says_so(ground: ExpiryGround) -> None:
    with pytest.raises(ApplicationError, match="no store nowhere") as refused:
        await run(activities_of(ground).plan_scans, PlanRequest("nowhere", Kind.POINTS, NOW))
    assert refused.value.non_retryable


async def test_an_unusable_view_is_said_in_temporal_and_tried_again(ground: ExpiryGround) -> None:
    async def disturb(_: list[FoundRow]) -> None:
        raise SourceUnusableError("expiry_point_transfer cannot be read")

    await ground.put(Kind.POINTS, [NOON])
    activities = activities_of(ground, source=Disturbed(ground, disturb))
    progress = await opened(activities)
    with pytest.raises(ApplicationError, match="expiry_point_transfer cannot be read") as raised:
        await run(activities.scan, ScanRef(progress.scan_id))
    assert not raised.value.non_retryable
    assert raised.value.next_retry_delay == timedelta(minutes=1)


async def test_the_relay_is_woken_by_what_is_emitted(ground: ExpiryGround) -> None:
    notified: list[str] = []
    listener = await ground.database.listener()
    await listener.add_listener("outbox", lambda *_: notified.append("outbox"))
    await ground.put(Kind.POINTS, [NOON])
    await scanned(activities_of(ground))

    async def heard() -> bool:
        return bool(notified)

    await eventually(heard, 30, "the relay is notified")
    await listener.close()
