"""Requests and responses of expiry schedules, scans and previews."""

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.body import Input, Output
from api.errors import NotFound, invalid
from domain.expiry.calendar_days import read_day
from domain.expiry.rows import Kind

DAYS_MOST = 366
"""Maximum number of days per request. Each day is one workflow."""

DAY_SCHEMA = {"type": "string", "format": "date", "pattern": "^(?:19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}$"}


def _read(text: object) -> object:
    if not isinstance(text, str):
        raise PydanticCustomError("not_a_day", "must be a day as a string, such as 2026-01-02")
    try:
        return read_day(text)
    except ValueError as error:
        raise PydanticCustomError("not_a_day", "{message}", {"message": str(error)}) from None


Day = Annotated[Any, AfterValidator(_read), WithJsonSchema(DAY_SCHEMA)]
"""Calendar day as text; the validated value is a date."""

KindPath = Annotated[
    str,
    Path(
        alias="kind", description="Kind of expiring object.", json_schema_extra={"enum": [str(kind) for kind in Kind]}
    ),
]


def kind_of(kind: KindPath) -> Kind:
    """Return the kind of the path. Raises NotFound for any other text."""
    try:
        return Kind(kind)
    except ValueError:
        raise NotFound from None


class TriggerRequest(Input):
    """Day to scan; default: the day that is due today (today + N)."""

    day: Day = None


class ScanBackfillRequest(Input):
    """Days to scan, both inclusive."""

    first_day: Day
    last_day: Day


def days_of(body: ScanBackfillRequest) -> tuple[date, date]:
    """Return the first and the last day. Raises ValidationFailed if they are out of order or too far apart."""
    first, last = body.first_day, body.last_day
    if last < first:
        raise invalid("lastDay", "out_of_range", "must not be before firstDay")
    if (last - first).days >= DAYS_MOST:
        raise invalid("lastDay", "out_of_range", f"must be less than {DAYS_MOST} days after firstDay")
    return first, last


class ScanOut(Output):
    """One scan. `day` is null for a scan for late rows; `finishedAt` is null while the scan runs."""

    scan_id: str
    origin: str
    day: date | None
    timezone: str
    starts_at: datetime
    ends_at: datetime
    scanned: Annotated[int, Field(description="Rows that were due.")]
    emitted: Annotated[int, Field(description="Notices that were emitted.")]
    known: Annotated[int, Field(description="Rows whose notice existed already.")]
    dropped: Annotated[
        int, Field(description="Rows that were no longer due when their notice was about to be emitted.")
    ]
    refused: Annotated[int, Field(description="Rows from which no valid event could be built.")]
    emitted_per_second: float
    started_at: datetime
    finished_at: datetime | None
    temporal_url: str | None


class ScheduleOut(Output):
    """An expiry schedule. It has scanned all expiries between `scannedFrom` and `scannedUntil`."""

    kind: str
    schedule_id: str
    state: Annotated[str, Field(json_schema_extra={"enum": ["active", "paused", "missing", "unknown"]})]
    note: str | None
    timezone: str
    local_hour: int
    notification_days: int
    next_run_at: datetime | None
    scanned_from: datetime | None
    scanned_until: datetime | None
    last_scan: ScanOut | None
    temporal_url: str | None


class ScheduleList(Output):
    """The three schedules of a store."""

    items: list[ScheduleOut]


class ScheduleDetails(ScheduleOut):
    """A schedule with its latest scans, newest first."""

    scans: list[ScanOut]


class Started(Output):
    """The scan of several days. A running scan of the same days is returned instead of a new one."""

    workflow_id: str
    first_day: date
    last_day: date
    temporal_url: str | None


class Triggered(Output):
    """The scan of one day."""

    workflow_id: str
    day: date
    temporal_url: str | None


class Synced(Output):
    """Ids of schedules that were created or repaired, and of those that Temporal rejected, with the reason."""

    created: list[str]
    updated: list[str]
    failed: dict[str, str]


class NoticeOut(Output):
    """A notice as it would be emitted, with sample bodies. `noticeGiven` is true if it has been emitted already."""

    event_id: str
    object_id: str
    expires_at: datetime
    notice_given: bool
    modern: Any
    legacy: Any


class PreviewOut(Output):
    """Number of rows due on the day, and the first of them."""

    count: int
    items: list[NoticeOut]
