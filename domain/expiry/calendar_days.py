"""Calendar days of a time zone as intervals of UTC.

A day begins at the first instant whose date in the zone is that day or a later one, and ends where the next begins. So
the days of a zone follow one another without gap or overlap: a day has 23 or 25 hours when the clocks change; if the
clocks skip midnight, the day begins at the instant of the skip; if midnight occurs twice, it begins at the first; and a
day that the zone left out of its calendar is empty.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_SECOND = timedelta(seconds=1)  # zones change their clocks at whole seconds
_DAY = timedelta(days=1)
_DAY_TEXT = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

FIRST_YEAR = 1900
LAST_YEAR = 2999
"""Supported years. Nothing expires outside of them, and the limits of dates and databases are never reached."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """Half-open interval of two instants in UTC: `start` is included, `end` is not."""

    start: datetime
    end: datetime


def read_day(text: str) -> date:
    """Return the day of a text YYYY-MM-DD. Raises ValueError with a message for people."""
    try:
        # fromisoformat alone would also accept 2026-W01-5.
        day = date.fromisoformat(text) if _DAY_TEXT.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"must be a day such as 2026-01-02, in the years {FIRST_YEAR} to {LAST_YEAR}")
    return day


def local_day(instant: datetime, zone: tzinfo) -> date:
    """Return the date in the zone at that instant."""
    return instant.astimezone(zone).date()


def day_start(day: date, zone: tzinfo) -> datetime:
    """Return the first instant (UTC) whose date in the zone is `day` or later."""
    midnight = datetime.combine(day, time(), zone)
    start = midnight.astimezone(UTC)
    if start.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return start
    # The clocks skipped midnight. Read with the offset after the change, it lies before the change, and vice versa.
    # Find the first whole second between the two at which the date in the zone is `day` or later.
    early, late = midnight.replace(fold=1).astimezone(UTC), start
    while early < late:
        middle = early + (late - early) // (2 * _SECOND) * _SECOND
        if local_day(middle, zone) >= day:
            late = middle
        else:
            early = middle + _SECOND
    return late


def day_interval(day: date, zone: tzinfo) -> TimeSpan:
    """Return the day as an interval of UTC, empty if the zone's calendar has no such day."""
    return TimeSpan(day_start(day, zone), day_start(day + _DAY, zone))


def days_from(first: date, last: date) -> Iterator[date]:
    """Yield every day from the first to the last, both included."""
    for number in range((last - first).days + 1):
        yield first + number * _DAY
