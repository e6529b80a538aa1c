"""Requests and responses of expiry schedules, scans and previews."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import Path, Request
from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.body import Input, Output, parse_body, read_body, validate
from api.errors import NotFound, invalid
from api.expiry.preview import PreviewedNotice
from api.resources import Resources
from api.temporal_links import workflow_url
from domain.expiry.calendar_days import read_day
from domain.expiry.rows import Kind
from storage.expiry.tables import ExpiryScan
from temporal.expiry_schedules import ScheduleStatus

DAYS_MOST = 366
"""Maximum number of days per request. Each day is one workflow."""

SMALL_BYTES = 1024
"""Maximum body of a request to scan one day."""

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


@dataclass(frozen=True)
class DayQuery:
    """Dependency that returns the query parameter `day` as a date, or None without it."""

    refuses = (400,)

    async def __call__(self, request: Request) -> date | None:
        """Return the day. Raises ValidationFailed."""
        values = request.query_params.getlist("day")
        unknown = request.query_params.keys() - {"day"}
        if unknown:
            raise invalid(sorted(unknown)[0], "unknown_field", "is not a parameter of this call; the only one is day")
        if len(values) > 1:
            raise invalid("day", "repeated", "is given twice")
        try:
            return read_day(values[0]) if values else None
        except ValueError as error:
            raise invalid("day", "not_a_day", str(error)) from None

    def parameters(self) -> Iterable[dict[str, Any]]:
        """Yield the OpenAPI parameter object."""
        description = "Day of expiry; default: the day that is due today (today + N)."
        yield {"name": "day", "in": "query", "required": False, "schema": DAY_SCHEMA, "description": description}


@dataclass(frozen=True)
class TriggerBody:
    """Dependency that returns a TriggerRequest; a missing body counts as an empty object."""

    refuses = (400, 413)

    async def __call__(self, request: Request) -> TriggerRequest:
        """Return the request. Raises ValidationFailed or TooLarge."""
        raw = await read_body(request, SMALL_BYTES)
        return validate(TriggerRequest, parse_body(raw)) if raw.strip() else TriggerRequest()

    def models(self) -> Iterable[type[BaseModel]]:
        """Yield the model of the body."""
        yield TriggerRequest

    def request_body(self, references: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
        """Return the OpenAPI request body."""
        return {"required": False, "content": {"application/json": {"schema": references[TriggerRequest]}}}


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


def scan_out(resources: Resources, scan: ExpiryScan) -> ScanOut:
    """Return a scan as an item of a response."""
    return ScanOut(
        scan_id=str(scan.id),
        origin=scan.origin,
        day=scan.day,
        timezone=scan.timezone,
        starts_at=scan.starts_at,
        ends_at=scan.ends_at,
        scanned=scan.scanned,
        emitted=scan.emitted,
        known=scan.known,
        dropped=scan.dropped,
        refused=scan.refused,
        emitted_per_second=round(scan.emitted_per_second, 1),
        started_at=scan.started_at,
        finished_at=scan.finished_at,
        temporal_url=workflow_url(resources, scan.workflow_id),
    )


def state_of(status: ScheduleStatus | None) -> str:
    """Return the state of a schedule; "unknown" for None, when Temporal does not answer."""
    if status is None:
        return "unknown"
    if not status.exists:
        return "missing"
    return "paused" if status.paused else "active"


def notice_item(notice: PreviewedNotice) -> dict[str, Any]:
    """Return a notice as an item, without its bodies, which the caller adds as JSON texts."""
    return NoticeOut(
        event_id=str(notice.event_id),
        object_id=str(notice.identity),
        expires_at=notice.expires_at.astimezone(UTC),
        notice_given=notice.given,
        modern=None,
        legacy=None,
    ).model_dump(mode="json", by_alias=True)
