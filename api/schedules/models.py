"""Schedules, scans and previews as the API answers them."""

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
from storage.expiry.scans import ScanRow
from temporal.expiry_schedules import ScheduleStatus

DAYS_MOST = 366
"""Of one request for many days: each is a workflow."""

SMALL_BYTES = 1024

DAY_SCHEMA = {"type": "string", "format": "date", "pattern": "^(?:19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}$"}


def _read(text: object) -> object:
    if not isinstance(text, str):
        raise PydanticCustomError("not_a_day", "must be a day as a string, such as 2026-01-02")
    try:
        return read_day(text)
    except ValueError as error:
        raise PydanticCustomError("not_a_day", "{message}", {"message": str(error)}) from None


Day = Annotated[Any, AfterValidator(_read), WithJsonSchema(DAY_SCHEMA)]
"""A calendar day as text; the validated value is a date."""

KindPath = Annotated[
    str,
    Path(alias="kind", description="What expires.", json_schema_extra={"enum": [str(kind) for kind in Kind]}),
]


def kind_of(kind: KindPath) -> Kind:
    """The kind of the path; another one is a 404."""
    try:
        return Kind(kind)
    except ValueError:
        raise NotFound from None


class TriggerRequest(Input):
    """Which day to scan; left out, the day that is due today (today + N)."""

    day: Day = None


class ScanBackfillRequest(Input):
    """Days to scan, both included."""

    first_day: Day
    last_day: Day


@dataclass(frozen=True)
class DayQuery:
    """A dependency: the query parameter `day` as a date, None when it is left out."""

    refuses = (400,)

    async def __call__(self, request: Request) -> date | None:
        """Raises ValidationFailed."""
        values = request.query_params.getlist("day")
        unknown = request.query_params.keys() - {"day"}
        if unknown:
            raise invalid(sorted(unknown)[0], "unknown_field", "is not a parameter of this call; there is only day")
        if len(values) > 1:
            raise invalid("day", "repeated", "is given twice")
        try:
            return read_day(values[0]) if values else None
        except ValueError as error:
            raise invalid("day", "not_a_day", str(error)) from None

    def parameters(self) -> Iterable[dict[str, Any]]:
        """The OpenAPI parameter object."""
        description = "The day on which things expire; left out, the day that is due today (today + N)."
        yield {"name": "day", "in": "query", "required": False, "schema": DAY_SCHEMA, "description": description}


@dataclass(frozen=True)
class TriggerBody:
    """A dependency: a TriggerRequest, where no body at all is as good as an empty object."""

    refuses = (400, 413)

    async def __call__(self, request: Request) -> TriggerRequest:
        """Raises ValidationFailed or TooLarge."""
        raw = await read_body(request, SMALL_BYTES)
        return validate(TriggerRequest, parse_body(raw)) if raw.strip() else TriggerRequest()

    def models(self) -> Iterable[type[BaseModel]]:
        """What the body is validated with."""
        yield TriggerRequest

    def request_body(self, references: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
        """The OpenAPI request body."""
        return {"required": False, "content": {"application/json": {"schema": references[TriggerRequest]}}}


def days_of(body: ScanBackfillRequest) -> tuple[date, date]:
    """First and last day, in order and not too many; raises ValidationFailed."""
    first, last = body.first_day, body.last_day
    if last < first:
        raise invalid("lastDay", "out_of_range", "must not lie before firstDay")
    if (last - first).days >= DAYS_MOST:
        raise invalid("lastDay", "out_of_range", f"must make at most {DAYS_MOST} days together with firstDay")
    return first, last


class ScanOut(Output):
    """One scan. `day` is null for a look for late rows; `finishedAt` while it goes on."""

    scan_id: str
    origin: str
    day: date | None
    timezone: str
    starts_at: datetime
    ends_at: datetime
    scanned: Annotated[int, Field(description="Rows that were due.")]
    emitted: Annotated[int, Field(description="Notices that were emitted.")]
    known: Annotated[int, Field(description="Rows whose notice there was already.")]
    dropped: Annotated[int, Field(description="Rows no longer due when their notice was to be emitted.")]
    refused: Annotated[int, Field(description="Rows of which no valid event could be made.")]
    emitted_per_second: float
    started_at: datetime
    finished_at: datetime | None
    temporal_url: str | None


class ScheduleOut(Output):
    """A schedule of expiry. `scannedFrom` and `scannedUntil`: what expires between them, it has scanned."""

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
    """A schedule with its last scans, the newest first."""

    scans: list[ScanOut]


class Started(Output):
    """What was started. A scan of the same days that goes on already is as good as a new one."""

    workflow_id: str
    first_day: date
    last_day: date
    temporal_url: str | None


class Triggered(Output):
    """The day that is being scanned."""

    workflow_id: str
    day: date
    temporal_url: str | None


class Synced(Output):
    """Ids of schedules that were made or mended, and of those that Temporal refuses, with the reason."""

    created: list[str]
    updated: list[str]
    failed: dict[str, str]


class NoticeOut(Output):
    """A notice as it would be emitted, with sample bodies; `noticeGiven`: it has been emitted already."""

    event_id: str
    object_id: str
    expires_at: datetime
    notice_given: bool
    modern: Any
    legacy: Any


class PreviewOut(Output):
    """How many rows are due on the day, and the first of them."""

    count: int
    items: list[NoticeOut]


def scan_out(resources: Resources, scan: ScanRow) -> ScanOut:
    """A row as an answer."""
    return ScanOut(
        scan_id=str(scan.id),
        origin=scan.origin,
        day=scan.day,
        timezone=scan.timezone,
        starts_at=scan.interval.start,
        ends_at=scan.interval.end,
        scanned=scan.counts.scanned,
        emitted=scan.counts.emitted,
        known=scan.counts.known,
        dropped=scan.counts.dropped,
        refused=scan.counts.refused,
        emitted_per_second=round(scan.emitted_per_second, 1),
        started_at=scan.started_at,
        finished_at=scan.finished_at,
        temporal_url=workflow_url(resources, scan.workflow_id),
    )


def state_of(status: ScheduleStatus | None) -> str:
    """One word for a schedule; None: Temporal does not say."""
    if status is None:
        return "unknown"
    if not status.exists:
        return "missing"
    return "paused" if status.paused else "active"


def notice_item(notice: PreviewedNotice) -> dict[str, Any]:
    """A notice as an item; the bodies still as texts."""
    return NoticeOut(
        event_id=str(notice.event_id),
        object_id=str(notice.identity),
        expires_at=notice.expires_at.astimezone(UTC),
        notice_given=notice.given,
        modern=None,
        legacy=None,
    ).model_dump(mode="json", by_alias=True)
