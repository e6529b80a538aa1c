"""Instants stay the same instants whatever the zone, the year or the writing."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.timestamps import is_date_time, local_iso, timezone_names, unix_seconds, zone
from tests.domain.strategies import date_times

ZONES = ["Europe/Warsaw", "America/New_York", "Asia/Kathmandu", "Africa/Monrovia", "Pacific/Apia", "UTC", "Etc/GMT+12"]


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05+01:00",
        "2026-01-02T03:04:05.123456789012-00:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2024-02-29T00:00:00Z",
    ],
)
def test_a_date_time_has_an_offset(text: str) -> None:
    assert is_date_time(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-01-02T03:04:05", id="no offset"),
        pytest.param("2026-01-02", id="a date alone"),
        pytest.param("2026-01-02 03:04:05Z", id="space for T"),
        pytest.param("2026-01-02t03:04:05z", id="lower case"),
        pytest.param("2026-01-02T03:04Z", id="no seconds"),
        pytest.param("2026-01-02T03:04:05+0100", id="offset without colon"),
        pytest.param("2026-01-02T03:04:05+01", id="offset of hours"),
        pytest.param("2026-01-02T03:04:05+01:00:30", id="offset with seconds"),
        pytest.param("2026-01-02T03:04:05+24:00", id="offset of a day"),
        pytest.param("2026-01-02T03:04:05.Z", id="point without digits"),
        pytest.param("2026-01-02T24:00:00Z", id="24 o'clock"),
        pytest.param("2016-12-31T23:59:60Z", id="leap second"),
        pytest.param("2025-02-29T00:00:00Z", id="no leap year"),
        pytest.param("2026-13-01T00:00:00Z", id="month 13"),
        pytest.param("2026-04-31T00:00:00Z", id="31 April"),
        pytest.param("0000-01-01T00:00:00Z", id="year 0"),
        pytest.param("12026-01-01T00:00:00Z", id="five digits"),
        pytest.param("２026-01-02T03:04:05Z", id="fullwidth digit"),
        pytest.param("2026-01-02T03:04:05Z\n", id="line break after"),
        pytest.param("", id="empty"),
        pytest.param("now", id="a word"),
    ],
)
def test_what_is_no_date_time_with_an_offset_is_none(text: str) -> None:
    assert not is_date_time(text)
    assert local_iso(text, UTC) is None
    assert unix_seconds(text) is None


@pytest.mark.parametrize(
    ("text", "timezone", "expected"),
    [
        pytest.param(
            "2019-08-09T12:08:28Z", "Europe/Warsaw", "2019-08-09T14:08:28+02:00", id="the contract's own example"
        ),
        pytest.param("2026-01-02T13:05:09.999Z", "Europe/Warsaw", "2026-01-02T14:05:09+01:00", id="fraction dropped"),
        pytest.param(
            "2026-10-25T00:30:00Z", "Europe/Warsaw", "2026-10-25T02:30:00+02:00", id="first 02:30 of the fold"
        ),
        pytest.param(
            "2026-10-25T01:30:00Z", "Europe/Warsaw", "2026-10-25T02:30:00+01:00", id="second 02:30 of the fold"
        ),
        pytest.param("2026-03-29T00:59:59Z", "Europe/Warsaw", "2026-03-29T01:59:59+01:00", id="before the gap"),
        pytest.param("2026-03-29T01:00:00Z", "Europe/Warsaw", "2026-03-29T03:00:00+02:00", id="after the gap"),
        pytest.param("2060-07-01T00:00:00Z", "Europe/Warsaw", "2060-07-01T02:00:00+02:00", id="summer beyond 2038"),
        pytest.param("2026-01-02T00:00:00Z", "Asia/Kathmandu", "2026-01-02T05:45:00+05:45", id="quarter of an hour"),
        pytest.param("2026-01-02T00:00:00Z", "America/St_Johns", "2026-01-01T20:30:00-03:30", id="negative half hour"),
        pytest.param("2026-07-01T00:00:00Z", "Australia/Lord_Howe", "2026-07-01T10:30:00+10:30", id="half hour"),
        pytest.param("1960-01-01T00:00:00Z", "Africa/Monrovia", "1959-12-31T23:16:00-00:44", id="offset was -00:44:30"),
        pytest.param("1890-01-01T00:00:00Z", "Europe/Paris", "1890-01-01T00:09:00+00:09", id="offset was +00:09:21"),
        pytest.param("1969-12-31T23:59:59Z", "UTC", "1969-12-31T23:59:59+00:00", id="before 1970"),
        pytest.param(
            "0001-01-01T00:00:00+14:00", "America/New_York", "0001-01-01T00:00:00+14:00", id="year 0 in UTC: as it came"
        ),
        pytest.param(
            "9999-12-31T23:59:59Z", "Pacific/Apia", "9999-12-31T23:59:59+00:00", id="year 10000 there: as it came"
        ),
    ],
)
def test_an_instant_is_written_in_the_stores_time_zone(text: str, timezone: str, expected: str) -> None:
    assert local_iso(text, zone(timezone)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59Z", -1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-01-12T23:59:59+01:00", 1768258799),
        ("0001-01-01T00:00:00Z", -62135596800),
        ("0001-01-01T00:00:00+23:59", -62135596800 - (23 * 60 + 59) * 60),
        ("9999-12-31T23:59:59-23:59", 253402300799 + (23 * 60 + 59) * 60),
    ],
)
def test_unix_seconds_are_whole_and_negative_before_1970(text: str, expected: int) -> None:
    assert unix_seconds(text) == expected


@given(date_times, st.sampled_from(ZONES))
def test_writing_in_a_zone_never_raises_and_never_moves_the_instant(text: str, timezone: str) -> None:
    written = local_iso(text, zone(timezone))
    assert written is not None
    assert is_date_time(written)
    assert unix_seconds(written) == unix_seconds(text)


@given(st.datetimes(min_value=datetime(1972, 6, 1), max_value=datetime(2100, 1, 1)), st.sampled_from(ZONES))  # noqa: DTZ001
def test_where_offsets_are_whole_minutes_the_writing_is_pythons_own(wall: datetime, timezone: str) -> None:
    instant = wall.replace(microsecond=0, tzinfo=UTC)
    assert local_iso(instant.isoformat(), zone(timezone)) == instant.astimezone(ZoneInfo(timezone)).isoformat()


@pytest.mark.parametrize("name", ["Nowhere/Land", "", "../etc/passwd", "/etc/passwd", "Europe", "Europe/Warsaw\x00"])
def test_a_zone_that_is_not_known_is_utc_and_no_name_of_one(name: str) -> None:
    assert zone(name).utcoffset(datetime(2026, 7, 1)) == timedelta(0)  # noqa: DTZ001
    assert name not in timezone_names()


def test_zone_names_are_the_iana_ones() -> None:
    assert {"Europe/Warsaw", "UTC", "America/Argentina/Buenos_Aires"} <= timezone_names()
