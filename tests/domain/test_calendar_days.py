"""A zone's days as intervals of UTC. The table is written by hand from the zones' rules, not computed."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.expiry.calendar_days import day_interval, day_start, days_from, local_day, read_day
from domain.timestamps import timezone_names, zone

DAYS = [
    # An ordinary day, and zones at the edges of the earth
    ("UTC", "2026-01-02", "2026-01-02T00:00", "2026-01-03T00:00", "24 hours"),
    ("Europe/Warsaw", "2026-01-02", "2026-01-01T23:00", "2026-01-02T23:00", "24 hours"),
    ("Pacific/Kiritimati", "2026-01-02", "2026-01-01T10:00", "2026-01-02T10:00", "+14"),
    ("Pacific/Pago_Pago", "2026-01-02", "2026-01-02T11:00", "2026-01-03T11:00", "-11"),
    ("Etc/GMT+12", "2026-01-02", "2026-01-02T12:00", "2026-01-03T12:00", "-12"),
    # Offsets of half and quarter hours
    ("Asia/Kolkata", "2026-01-02", "2026-01-01T18:30", "2026-01-02T18:30", "+5:30"),
    ("Asia/Kathmandu", "2026-01-02", "2026-01-01T18:15", "2026-01-02T18:15", "+5:45"),
    ("Pacific/Chatham", "2026-01-02", "2026-01-01T10:15", "2026-01-02T10:15", "+13:45 in summer"),
    ("America/St_Johns", "2026-01-02", "2026-01-02T03:30", "2026-01-03T03:30", "-3:30"),
    # Clocks forward and back
    ("Europe/Warsaw", "2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00", "23 hours"),
    ("Europe/Warsaw", "2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00", "25 hours"),
    ("America/New_York", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00", "23 hours"),
    ("America/New_York", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00", "25 hours"),
    ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30", "2026-10-04T13:00", "23.5 hours"),
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00", "2026-04-05T13:30", "24.5 hours"),
    # A midnight that does not exist: the clocks go from 24:00 to 01:00
    ("America/Sao_Paulo", "2018-11-03", "2018-11-03T03:00", "2018-11-04T03:00", "the day before"),
    ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", "2018-11-05T02:00", "begins at 01:00"),
    ("Asia/Beirut", "2022-03-27", "2022-03-26T22:00", "2022-03-27T21:00", "begins at 01:00"),
    ("America/Havana", "2025-03-09", "2025-03-09T05:00", "2025-03-10T04:00", "begins at 01:00"),
    # The clocks go from 23:30 to 00:30, over midnight
    ("America/Toronto", "1919-03-30", "1919-03-30T05:00", "1919-03-31T04:30", "ends at 23:30"),
    ("America/Toronto", "1919-03-31", "1919-03-31T04:30", "1919-04-01T04:00", "begins at 00:30"),
    # The last hour comes twice, or the first one does
    ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00", "2018-02-18T03:00", "23:00 twice"),
    ("Asia/Beirut", "2022-10-29", "2022-10-28T21:00", "2022-10-29T22:00", "23:00 twice"),
    ("America/Havana", "2025-11-02", "2025-11-02T04:00", "2025-11-03T05:00", "00:00 twice"),
    # A day that the calendar skips
    ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", "2011-12-30T10:00", "the last one before"),
    ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", "2011-12-30T10:00", "skipped"),
    ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", "2011-12-31T10:00", "the first one after"),
]


YEARS = (datetime(1950, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 -- Hypothesis adds the zone


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "day", "start", "end"),
    [case[:4] for case in DAYS],
    ids=[f"{name} {day}: {why}" for name, day, _, _, why in DAYS],
)
def test_a_day_lies_where_the_zones_rules_say(name: str, day: str, start: str, end: str) -> None:
    interval = day_interval(date.fromisoformat(day), zone(name))
    assert (interval.start, interval.end) == (utc(start), utc(end))


@given(st.sampled_from(sorted(timezone_names())), st.dates(min_value=date(1900, 1, 2), max_value=date(2100, 1, 1)))
def test_a_day_begins_with_the_first_instant_of_its_date(name: str, day: date) -> None:
    place = zone(name)
    start = day_start(day, place)
    assert local_day(start, place) >= day
    assert local_day(start - timedelta(seconds=1), place) < day


@given(
    st.sampled_from(sorted(timezone_names())),
    st.datetimes(*YEARS, timezones=st.just(UTC)),
)
def test_every_instant_lies_in_one_day_and_that_is_its_date(name: str, instant: datetime) -> None:
    place = zone(name)
    today = local_day(instant, place)
    holding = [
        day
        for day in days_from(today - timedelta(days=2), today + timedelta(days=2))
        if day_interval(day, place).start <= instant < day_interval(day, place).end
    ]
    assert len(holding) == 1
    # Where clocks go back over midnight, a date that has begun shows the one before once more.
    assert holding[0] - today in (timedelta(0), timedelta(days=1))


@pytest.mark.parametrize("text", ["2026-01-02", "2024-02-29", "1900-01-01", "2999-12-31"])
def test_a_day_is_read_as_written(text: str) -> None:
    assert read_day(text).isoformat() == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "today", "2026-1-2", "2026-01-02T00:00:00Z", "20260102", "2026-W01-5", "2026-02-30", "2025-02-29"),
        *("1899-12-31", "3000-01-01", "0001-01-01", " 2026-01-02", "２０２６-01-02", "2026-01-02\n"),
    ],
)
def test_what_is_no_day_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2026-01-02"):
        read_day(text)
