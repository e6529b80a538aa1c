"""Notices come once and in time: after days without us, with other settings, in another zone, for late rows.

The clock is Temporal's and skips. Rows are transfers of points that expire at noon of a day so many days from now.
"""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.expiry.rows import Kind
from domain.timestamps import utc_text
from tests.expiry_ground import Calendar, Scanning, scanning
from tests.temporal_server import skipping_server

POINTS = Kind.POINTS


@pytest.fixture(scope="module")
async def days(programs: None) -> AsyncIterator[WorkflowEnvironment]:
    """One clock for all tests: each begins where the one before ended, and counts days from there."""
    async with skipping_server() as environment:
        yield environment


async def noons(calendar: Calendar, *numbers: int) -> list[datetime]:
    return [await calendar.noon(number) for number in numbers]


def texts(instants: list[datetime]) -> list[str]:
    return [utc_text(instant) for instant in instants]


async def scanned_days(running: Scanning, origin: str = "schedule") -> list[date]:
    return [scan.day for scan in await running.scans() if scan.origin == origin]


async def test_five_days_down_are_made_up_for_in_order_and_once(
    module_database_url: str, days: WorkflowEnvironment
) -> None:
    async with scanning(module_database_url, days) as running:
        calendar = Calendar(days)
        rows = await noons(calendar, *range(5, 25))
        await running.put(POINTS, rows)
        today = await calendar.today()
        await running.run()
        assert await running.events() == texts(rows[5:6])
        await calendar.until_morning()
        await running.run()
        await calendar.until_morning(6)  # the runs of five days are missed
        summary = await running.run()
        assert summary["days"] == 6
        assert await running.events() == texts(rows[5:13])
        assert await scanned_days(running) == [today + timedelta(days=number) for number in range(10, 18)]
        assert (await running.run())["days"] == 0  # asked twice on one day
        assert await running.count() == 8


async def test_days_between_an_old_and_a_raised_number_are_covered_and_a_lowered_one_repeats_nothing(
    module_database_url: str, days: WorkflowEnvironment
) -> None:
    async with scanning(module_database_url, days) as running:
        calendar = Calendar(days)
        rows = await noons(calendar, *range(4, 16))
        await running.put(POINTS, rows)
        await running.settings(expire_points_notification_days=5)
        await running.run()
        assert await running.events() == texts(rows[1:2])
        await running.settings(expire_points_notification_days=10)
        await calendar.until_morning()
        await running.run()
        assert await running.events() == texts(rows[1:8])  # days 5 to 11
        await running.settings(expire_points_notification_days=5)
        for _ in range(5):
            await calendar.until_morning()
            assert (await running.run())["days"] == 0
        assert await running.count() == 7
        await calendar.until_morning()
        await running.run()
        assert await running.events() == texts(rows[1:9])


@pytest.mark.parametrize(
    ("before", "after"),
    [("Pacific/Kiritimati", "Pacific/Pago_Pago"), ("Pacific/Pago_Pago", "Pacific/Kiritimati")],
    ids=["25 hours back", "25 hours forward"],
)
async def test_a_change_of_the_zone_loses_and_doubles_no_hour(
    module_database_url: str, days: WorkflowEnvironment, before: str, after: str
) -> None:
    async with scanning(module_database_url, days) as running:
        await running.settings(timezone=before)
        calendar = Calendar(days, before)
        first = await calendar.noon(10) - timedelta(hours=12)  # the first instant of the first day scanned
        hourly = [first + timedelta(hours=number) for number in range(24 * 7)]
        await running.put(POINTS, hourly)
        await running.run()
        assert await running.events() == texts(hourly[:24])
        await running.settings(timezone=after)
        there = Calendar(days, after)
        for _ in range(3):
            await there.until_morning()
            await running.run()
        got = await running.events()
        assert got == texts(hourly[: len(got)])  # from the first on, without a gap, each once
        assert len(got) >= 48


async def test_a_late_row_gets_its_notice_once_if_its_day_was_scanned_and_it_has_not_expired(
    module_database_url: str, days: WorkflowEnvironment
) -> None:
    async with scanning(module_database_url, days) as running:
        calendar = Calendar(days)
        never_scanned = await noons(calendar, 1, 5, 9)
        await running.put(POINTS, never_scanned)
        summary = await running.run()
        assert (summary["days"], summary["emitted"], summary["late"]) == (1, 0, 0)
        late, not_due_yet = await noons(calendar, 10, 11)
        await running.put(POINTS, [late, late, not_due_yet, *never_scanned])
        assert (await running.run())["late"] == 2
        assert await running.events() == texts([late, late])
        assert (await running.run())["late"] == 0
        await calendar.until_morning()
        assert (await running.run())["emitted"] == 1  # the day of the one that was not due yet
        await calendar.until_morning(9)
        await running.put(POINTS, [await calendar.noon(0), await calendar.noon(0) - timedelta(hours=10)])
        summary = await running.run()
        assert summary["late"] == 1  # what expired in the night gets none
        assert await running.count() == 4


async def test_without_late_notices_a_late_row_gets_none(module_database_url: str, days: WorkflowEnvironment) -> None:
    async with scanning(module_database_url, days, late_notices=False) as running:
        calendar = Calendar(days)
        await running.run()
        await running.put(POINTS, await noons(calendar, 10))
        assert await running.run() == {"days": 0, "emitted": 0, "late": 0}
        assert await running.count() == 0


async def test_a_row_that_will_expire_on_another_day_gets_another_notice(
    module_database_url: str, days: WorkflowEnvironment
) -> None:
    async with scanning(module_database_url, days) as running:
        calendar = Calendar(days)
        [at_first, then] = await noons(calendar, 10, 11)
        [transfer_id] = await running.put(POINTS, [at_first])
        await running.run()
        changed = {"transferId": str(transfer_id), "customerEmail": "other@example.com"}
        await running.put(POINTS, [at_first], **changed)  # other data of the member, the same instant
        await running.run()
        assert await running.events() == texts([at_first])
        await running.put(POINTS, [then], **changed)
        await calendar.until_morning()
        await running.run()
        assert await running.events() == texts([at_first, then])


async def test_a_pause_longer_than_a_week_mails_nobody_about_what_is_long_over(
    module_database_url: str, days: WorkflowEnvironment
) -> None:
    async with scanning(module_database_url, days, days_back=3) as running:
        calendar = Calendar(days)
        await running.settings(expire_points_notification_days=1)
        rows = await noons(calendar, *range(1, 25))
        await running.put(POINTS, rows)
        await running.run()
        await calendar.until_morning(20)
        await running.run()
        assert await running.events() == texts([rows[0], *rows[16:21]])  # days 17 to 21 at day 20


DAYS_OF_NOTE = [
    # zone, day, first instant, first instant of the next day (written by hand, from the zones' rules)
    ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", "2011-12-30T10:00"),
    ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", "2011-12-30T10:00"),
    ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", "2011-12-31T10:00"),
    ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", "2018-11-05T02:00"),
    ("Asia/Beirut", "2022-03-27", "2022-03-26T22:00", "2022-03-27T21:00"),
    ("Europe/Warsaw", "2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00"),
    ("Europe/Warsaw", "2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00"),
    ("Pacific/Kiritimati", "2026-01-02", "2026-01-01T10:00", "2026-01-02T10:00"),
    ("Etc/GMT+12", "2026-01-02", "2026-01-02T12:00", "2026-01-03T12:00"),
    ("Asia/Kathmandu", "2026-01-02", "2026-01-01T18:15", "2026-01-02T18:15"),
]


async def test_a_scan_takes_what_expires_within_the_stores_day_to_the_microsecond(
    module_database_url: str, days: WorkflowEnvironment
) -> None:
    tick = timedelta(microseconds=1)
    async with scanning(module_database_url, days) as running:
        for number, (timezone, day, first, after) in enumerate(DAYS_OF_NOTE):
            store = f"store-{number}"
            await running.add_store(store)
            await running.settings(store, timezone=timezone)
            start, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, after))
            await running.put(POINTS, [start - tick, start, end - tick, end], store)
            await running.scan(date.fromisoformat(day), store=store)
            expected = [] if start == end else texts([start, end - tick])
            assert await running.events(store=store) == expected, (timezone, day)
