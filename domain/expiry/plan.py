"""Which days a store's schedule has to scan now, decided from what it has scanned already.

What was scanned is kept as one interval of UTC, not as a list of days: a run goes on where the last one ended, whatever
happened in between. So a day missed is made up for, days between an old and a raised number of days ahead are covered,
and a change of the time zone, which moves the days' borders, neither leaves a gap nor scans an hour twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from domain.expiry.calendar_days import TimeSpan, day_interval, day_start, days_from, local_day

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DayToScan:
    """A day, and the part of it that nothing has scanned yet."""

    day: date
    interval: TimeSpan


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """Days in the order in which they are to be scanned. `given_up` lies too far back to be made up for."""

    days: Sequence[DayToScan]
    given_up: TimeSpan | None = None


def plan_scans(*, now: datetime, zone: tzinfo, days_ahead: int, covered: TimeSpan | None, days_back: int) -> ScanPlan:
    """What to scan so that everything up to the end of the day today + `days_ahead` is scanned.

    `covered` is what the schedule has scanned so far. A schedule that never ran scans that one day alone: nothing
    before its first scan is made up for. Missed days that were over more than `days_back` days ago are given up.
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
