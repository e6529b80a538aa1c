"""Which days are to be scanned: each instant once, whatever happens to clocks, zones, numbers of days and schedules."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.expiry.calendar_days import TimeSpan, day_interval, day_start
from domain.expiry.plan import ScanPlan, plan_scans
from domain.expiry.rows import Kind, notice_id
from domain.timestamps import zone

WARSAW = "Europe/Warsaw"
DAYS_BACK = 7


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def plan(now: str, covered: TimeSpan | None, *, timezone: str = WARSAW, ahead: int = 10) -> ScanPlan:
    return plan_scans(now=utc(now), zone=zone(timezone), days_ahead=ahead, covered=covered, days_back=DAYS_BACK)


def until(day: str, timezone: str = WARSAW) -> TimeSpan:
    """Covered from long ago to the end of the day."""
    return TimeSpan(utc("2020-01-01T00:00"), day_interval(date.fromisoformat(day), zone(timezone)).end)


def days(planned: ScanPlan) -> list[str]:
    return [one.day.isoformat() for one in planned.days]


def test_the_first_run_scans_today_plus_n_and_nothing_before() -> None:
    planned = plan("2026-01-02T05:00", None)
    assert days(planned) == ["2026-01-12"]
    assert planned.days[0].interval == TimeSpan(utc("2026-01-11T23:00"), utc("2026-01-12T23:00"))
    assert planned.given_up is None


def test_the_next_run_scans_the_next_day() -> None:
    assert days(plan("2026-01-03T05:00", until("2026-01-12"))) == ["2026-01-13"]


def test_a_second_run_of_the_same_day_has_nothing_to_scan() -> None:
    assert days(plan("2026-01-02T20:00", until("2026-01-12"))) == []


def test_today_is_the_stores_day_and_not_that_of_utc() -> None:
    assert days(plan("2026-01-02T22:59", until("2026-01-12"))) == []
    assert days(plan("2026-01-02T23:00", until("2026-01-12"))) == ["2026-01-13"]


def test_after_five_days_down_each_missed_day_comes_once_and_in_order() -> None:
    planned = plan("2026-01-08T05:00", until("2026-01-12"))
    assert days(planned) == ["2026-01-13", "2026-01-14", "2026-01-15", "2026-01-16", "2026-01-17", "2026-01-18"]


def test_a_raised_number_of_days_covers_the_days_in_between() -> None:
    covered = until("2026-01-07")  # scanned on 2 January for 5 days ahead
    assert days(plan("2026-01-03T05:00", covered, ahead=10)) == [f"2026-01-{day:02}" for day in range(8, 14)]


def test_a_lowered_number_of_days_scans_nothing_until_time_has_caught_up() -> None:
    covered = until("2026-01-12")  # scanned on 2 January for 10 days ahead
    for day in range(3, 8):
        assert days(plan(f"2026-01-{day:02}T05:00", covered, ahead=5)) == []
    assert days(plan("2026-01-08T05:00", covered, ahead=5)) == ["2026-01-13"]


def test_zero_days_ahead_is_today() -> None:
    assert days(plan("2026-01-02T05:00", None, ahead=0)) == ["2026-01-02"]


def test_missed_days_that_are_over_are_scanned_for_a_week() -> None:
    planned = plan("2026-01-20T05:00", until("2026-01-12"), ahead=1)
    assert days(planned) == [f"2026-01-{day:02}" for day in range(13, 22)]
    assert planned.given_up is None


def test_what_was_missed_longer_ago_is_given_up_and_said() -> None:
    planned = plan("2026-03-20T05:00", until("2026-01-12"), ahead=1)
    assert days(planned) == [f"2026-03-{day:02}" for day in range(13, 22)]
    assert planned.given_up == TimeSpan(utc("2026-01-12T23:00"), utc("2026-03-12T23:00"))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # covered until the end of 12 January there, run on 3 January at noon UTC
        ("UTC", "Asia/Kolkata", [("2026-01-13", "2026-01-13T00:00", "2026-01-13T18:30")]),
        (
            "Asia/Kolkata",
            "UTC",
            [
                ("2026-01-12", "2026-01-12T18:30", "2026-01-13T00:00"),
                ("2026-01-13", "2026-01-13T00:00", "2026-01-14T00:00"),
            ],
        ),
        (
            "Pacific/Pago_Pago",
            "Pacific/Kiritimati",  # 25 hours ahead: 13 January is over before 12 January was there
            [("2026-01-14", "2026-01-13T11:00", "2026-01-14T10:00")],
        ),
        (
            "Pacific/Kiritimati",
            "Pacific/Pago_Pago",
            [
                ("2026-01-11", "2026-01-12T10:00", "2026-01-12T11:00"),
                ("2026-01-12", "2026-01-12T11:00", "2026-01-13T11:00"),
                ("2026-01-13", "2026-01-13T11:00", "2026-01-14T11:00"),
            ],
        ),
    ],
)
def test_a_change_of_the_zone_leaves_no_gap_and_scans_no_hour_twice(
    before: str, after: str, expected: list[tuple[str, str, str]]
) -> None:
    planned = plan("2026-01-03T12:00", until("2026-01-12", before), timezone=after)
    assert [(one.day.isoformat(), one.interval.start, one.interval.end) for one in planned.days] == [
        (day, utc(start), utc(end)) for day, start, end in expected
    ]


def test_a_day_that_the_calendar_skips_takes_no_hour_away() -> None:
    covered = until("2011-12-29", "Pacific/Apia")
    planned = plan("2011-12-31T20:00", covered, timezone="Pacific/Apia", ahead=0)  # 1 January there
    assert [(one.day.isoformat(), one.interval.start, one.interval.end) for one in planned.days] == [
        ("2011-12-31", utc("2011-12-30T10:00"), utc("2011-12-31T10:00")),
        ("2012-01-01", utc("2011-12-31T10:00"), utc("2012-01-01T10:00")),
    ]


@dataclass(frozen=True)
class Step:
    """Time passes, settings change, and the schedule runs, or does not."""

    hours: int
    timezone: str
    ahead: int


ZONES = (
    *("UTC", "Europe/Warsaw", "America/New_York", "America/Sao_Paulo", "Pacific/Apia", "Pacific/Kiritimati"),
    *("Pacific/Pago_Pago", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe", "Asia/Beirut"),
)
STEPS = st.lists(st.builds(Step, st.integers(0, 24 * 20), st.sampled_from(ZONES), st.integers(0, 40)), min_size=1)
BEGINNINGS = st.sampled_from(["2011-12-20T12:00", "2018-10-25T12:00", "2026-03-20T12:00", "2026-10-20T12:00"])


@given(BEGINNINGS, STEPS)
def test_whatever_changes_all_that_comes_is_scanned_once(beginning: str, steps: list[Step]) -> None:
    now, covered = utc(beginning), None
    for step in steps:
        now += timedelta(hours=step.hours)
        planned = plan_scans(
            now=now, zone=zone(step.timezone), days_ahead=step.ahead, covered=covered, days_back=10_000
        )
        assert planned.given_up is None
        for one in planned.days:
            whole = day_interval(one.day, zone(step.timezone))
            assert whole.start <= one.interval.start
            assert one.interval.end == whole.end
            if covered is None:
                covered = one.interval
            assert one.interval.start in (covered.start, covered.end)  # no gap, nothing twice
            covered = TimeSpan(covered.start, one.interval.end)
        last = now.astimezone(zone(step.timezone)).date() + timedelta(days=step.ahead)
        assert covered is not None
        assert covered.end >= day_start(last + timedelta(days=1), zone(step.timezone))


def test_the_id_of_a_notice_is_for_ever() -> None:
    """Another id for the same thing would send every notice again after an upgrade."""
    transfer = UUID("e8d7c6b5-a493-4281-9706-5f4e3d2c1b0a")
    expires = datetime(2026, 1, 12, 23, 59, 59, tzinfo=UTC)
    assert str(notice_id("default", Kind.POINTS, transfer, expires)) == "928a727a-1765-5a41-b80c-a46b58a5a7b6"
    elsewhere = expires.astimezone(zone("Asia/Kathmandu"))
    assert notice_id("default", Kind.POINTS, transfer, elsewhere) == notice_id(
        "default", Kind.POINTS, transfer, expires
    )
    others = {
        notice_id("default", Kind.POINTS, transfer, expires),
        notice_id("other", Kind.POINTS, transfer, expires),
        notice_id("default", Kind.COUPONS, transfer, expires),
        notice_id("default", Kind.POINTS, transfer, expires + timedelta(microseconds=1)),
    }
    assert len(others) == 4
