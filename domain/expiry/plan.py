"""Plan the days that a store's schedule has to scan now, from the interval that it has scanned already.

The scanned time is stored as one interval of UTC, not as a list of days, and each run continues where the last one
ended. So a missed day is caught up, days between an old and a raised number of days ahead are covered, and a change of
the time zone, which moves the borders of days, neither leaves a gap nor scans an hour twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from domain.expiry.calendar_days import TimeSpan, day_interval, day_start, days_from, local_day

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DayToScan:
    """A day, and the part of it that has not been scanned yet."""

    day: date
    interval: TimeSpan


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """Days in the order in which to scan them. `given_up` lies too far back to be caught up."""

    days: Sequence[DayToScan]
    given_up: TimeSpan | None = None


def plan_scans(*, now: datetime, zone: tzinfo, days_ahead: int, covered: TimeSpan | None, days_back: int) -> ScanPlan:
    """Return the days to scan so that all time up to the end of the day today + `days_ahead` is covered.

    `covered` is the interval that the schedule has scanned so far. A schedule that never ran scans that last day alone
    and catches up nothing before it. Missed days that ended more than `days_back` days ago are given up.
    """
    today = local_day(now, zone)
    last = today + timedelta(days=days_ahead)
    if covered is None:
        return ScanPlan([DayToScan(last, day_interval(last, zone))])
    oldest = day_start(today - timedelta(days=days_back), zone)
    start = max(covered.end, oldest)
    given_up = TimeSpan(covered.end, oldest) if covered.end < oldest else None
    # One day earlier than the calendar says: where clocks go back over midnight, an instant's date may run ahead of it.
    days = []
    for day in days_from(local_day(start, zone) - _DAY, last):
        whole = day_interval(day, zone)
        if whole.end > start:
            days.append(DayToScan(day, TimeSpan(start, whole.end)))
            start = whole.end
    return ScanPlan(days, given_up)
