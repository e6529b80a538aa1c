"""Our own tables and the views of the platform's database, scanned as one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from temporalio.testing import ActivityEnvironment

from domain.expiry.calendar_days import TimeSpan
from domain.expiry.rows import Kind
from domain.timestamps import utc_text
from storage.database import Database
from storage.expiry.due import DueSource, FoundRow, Search, StoredAndViewedDue, before, open_source
from temporal.messages import OpenRequest, ScanProgress, ScanRef, ScanTask
from tests.databases import empty_database
from tests.expiry import row
from tests.expiry_ground import ExpiryGround, activities_of
from tests.ground import STORE
from tests.storage.test_expiry_source import Platform

DAY = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 2, 19, 6, tzinfo=UTC)
WHOLE = Search(STORE, Kind.POINTS, before(DAY), DAY + timedelta(days=1))


@dataclass
class Both:
    """Our database and the platform's, with the source over both."""

    ground: ExpiryGround
    platform: Platform
    source: DueSource

    async def tell(self, hour: int, transfer_id: UUID | None = None, **changes: Any) -> UUID:
        """A row in a view that expires at the hour of the day."""
        id_ = transfer_id or uuid4()
        instant = utc_text(DAY + timedelta(hours=hour))
        told = row(Kind.POINTS, transferId=str(id_), expiresAt=instant, **changes)
        await self.platform.add(Kind.POINTS, told)
        return id_

    async def found(self, page_rows: int = 2, search: Search = WHOLE) -> list[FoundRow]:
        return [one async for page in self.source.pages(search, page_rows) for one in page]


@pytest.fixture
async def both(database_url: str) -> AsyncIterator[Both]:
    database = Database(database_url, pool_size=6)
    ground = ExpiryGround(database)
    await ground.add_store()
    async with empty_database() as url:
        connection = await asyncpg.connect(url)
        platform = Platform(url, connection)
        await platform.make_views()
        async with open_source(database, ground.sealer, url, 5) as source:
            yield Both(ground, platform, source)
        await connection.close()
    await database.close()


async def test_without_an_address_there_are_our_tables_alone(both: Both) -> None:
    async with open_source(both.ground.database, both.ground.sealer, None, 5) as source:
        assert source.tells_import_time
        assert not isinstance(source, StoredAndViewedDue)


async def test_both_are_read_in_one_order_and_what_is_in_both_once(both: Both) -> None:
    stored = await both.ground.put(Kind.POINTS, [DAY + timedelta(hours=hour) for hour in (1, 3, 5)])
    viewed = [await both.tell(hour) for hour in (2, 4, 6)]
    await both.tell(3, stored[1])
    expected = [stored[0], viewed[0], stored[1], viewed[1], stored[2], viewed[2]]
    for page_rows in (1, 2, 100):
        assert [one.identity for one in await both.found(page_rows)] == expected
    behind = WHOLE.behind(FoundRow(DAY + timedelta(hours=3), stored[1]))
    assert [one.identity for one in await both.found(2, behind)] == expected[3:]
    async with both.ground.database.transaction() as connection:
        assert await both.source.count(connection, STORE, Kind.POINTS, TimeSpan(WHOLE.after.instant, WHOLE.until)) == 7


async def test_what_was_found_is_asked_for_again_here_and_there(both: Both) -> None:
    [stored, gone] = await both.ground.put(Kind.POINTS, [DAY + timedelta(hours=hour) for hour in (1, 2)])
    viewed, cancelled, moved = [await both.tell(hour) for hour in (3, 4, 5)]
    found = await both.found()
    await both.ground.execute("UPDATE point_transfer SET status = 'cancelled' WHERE transfer_id = :id", id=gone)
    change = both.platform.connection.execute
    await change("UPDATE t_expiry_point_transfer SET status = 'cancelled' WHERE transfer_id = $1", cancelled)
    await change(
        "UPDATE t_expiry_point_transfer SET expires_at = expires_at + interval '1 hour' WHERE transfer_id = $1", moved
    )
    async with both.ground.database.transaction() as connection:
        due = await both.source.still_due(connection, WHOLE, found)
    assert [one.identity for one in due] == [stored, viewed]


async def test_a_member_who_keeps_the_level_gets_no_notice_from_a_view_either(both: Both) -> None:
    level = str(uuid4())
    told = row(Kind.LEVELS, recalculateAt=utc_text(DAY), levelId=level, futureLevelId=level)
    await both.platform.add(Kind.LEVELS, told)
    search = Search(STORE, Kind.LEVELS, before(DAY), DAY + timedelta(days=1))
    async with both.ground.database.transaction() as connection:
        assert await both.source.still_due(connection, search, await both.found(2, search)) == []


async def test_late_rows_of_a_view_are_found_by_reading_all(both: Both) -> None:
    activities = activities_of(both.ground, source=both.source)

    async def scan(task: ScanTask) -> ScanProgress:
        run = ActivityEnvironment().run
        progress: ScanProgress = await run(activities.open_scan, OpenRequest(task, str(uuid4()), "a-workflow", NOW))
        return await run(activities.scan, ScanRef(progress.scan_id))

    await both.tell(1)
    assert (await scan(ScanTask(STORE, Kind.POINTS, DAY.date(), "schedule"))).emitted == 1
    await both.tell(2)
    assert (await scan(ScanTask(STORE, Kind.POINTS, None))).scanned == 0  # by the time of import: of our tables alone
    late = await scan(ScanTask(STORE, Kind.POINTS, None, thorough=True))
    assert (late.scanned, late.emitted, late.known) == (2, 1, 1)


async def test_a_scan_that_stops_in_the_middle_leaves_no_connection_behind(both: Both) -> None:
    for hour in range(6):
        await both.tell(hour)
    pages = both.source.pages(WHOLE, 1)
    await anext(pages)
    await pages.aclose()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    assert await both.platform.connection.fetchval(waiting) == 0
    assert len(await both.found(1)) == 6
