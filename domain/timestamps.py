"""Read RFC 3339 date-times, and write them for legacy bodies in a store's time zone.

No function of this module raises on a date-time that `is_date_time` accepts, whatever its year, zone or fraction.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.\d+)?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- naive, with the offset apart, since UTC may leave years 1-9999
_SECOND = timedelta(seconds=1)


@lru_cache(maxsize=256)  # each emitted instant is first validated, then read
def _read(text: str) -> tuple[datetime, timedelta] | None:
    """Return the wall clock in whole seconds and its offset, or None if the text is no date-time with an offset."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, sign, offset_hours, offset_minutes = match.groups()
    try:
        wall = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))  # noqa: DTZ001
    except ValueError:
        return None
    if sign is None:
        return wall, timedelta(0)
    offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
    return wall, -offset if sign == "-" else offset


def is_date_time(text: str) -> bool:
    """Return True if the text is an RFC 3339 date-time with an offset, `T` and `Z` in capitals, years 0001 to 9999. A
    leap second (`:60`) is not accepted: neither Python nor PostgreSQL can represent that instant."""
    return _read(text) is not None


def unix_seconds(text: str) -> int | None:
    """Return whole seconds since 1970 in UTC (negative before), without a fraction; None for no date-time."""
    instant = _read(text)
    if instant is None:
        return None
    wall, offset = instant
    return (wall - _EPOCH - offset) // _SECOND


UNSTORABLE = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
"""Instants that the database driver writes as -infinity and infinity, and reads back without a time zone."""


def utc_instant(text: str) -> datetime | None:
    """Return the instant in UTC, to the microsecond, or None if the text is no date-time or cannot be stored. An
    instant cannot be stored if UTC leaves the years 1 to 9999 or if it is one of `UNSTORABLE`."""
    if not is_date_time(text):
        return None
    try:
        instant = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if instant in UNSTORABLE else instant


def utc_text(instant: datetime) -> str:
    """Return an aware instant as an exact date-time in UTC: `2026-01-02T03:04:05Z`, its fraction only if not zero."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def local_iso(text: str, zone: tzinfo) -> str | None:
    """Return the instant as ISO 8601 in `zone`, whole seconds, e.g. `2019-08-09T14:08:28+02:00`; None for no date-time.

    ISO 8601 has offsets in minutes only. If a zone's offset has seconds (Monrovia was 44:30 behind until 1972), the
    seconds are dropped from the offset *and* from the clock, so that the instant stays exact. If the zone's clock would
    leave the years 1 to 9999, the instant retains its original offset.
    """
    instant = _read(text)
    if instant is None:
        return None
    wall, offset = instant
    try:
        utc = wall - offset
        local = utc.replace(tzinfo=UTC).astimezone(zone)
        local_offset = local.utcoffset() or timedelta(0)
        whole_minutes = timedelta(minutes=int(local_offset.total_seconds() / 60))
        return (utc + whole_minutes).isoformat() + _offset_text(whole_minutes)
    except OverflowError:
        return wall.isoformat() + _offset_text(offset)


def _offset_text(offset: timedelta) -> str:
    minutes = offset // timedelta(minutes=1)
    hours, minutes_left = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}:{minutes_left:02}"


@lru_cache(maxsize=1)
def timezone_names() -> frozenset[str]:
    """Return the IANA names that a store's `timezone` may have."""
    return frozenset(available_timezones())


@lru_cache(maxsize=1024)
def zone(name: str) -> tzinfo:
    """Return the zone of that name, or UTC for a name that is missing from this machine's zone data.

    Stores are checked against `timezone_names` when they are written. A name dropped from a later edition of the zone
    data must not stop deliveries: the instants stay right, only their offset changes.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
