"""Routes of the expiry schedules: progress, manual scans, pause and resume, and a preview of a scan."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Response

from api.body import JSON, JsonBody
from api.listing import Parameter, ParameterQuery
from api.schedules.models import (
    DAY_SCHEMA,
    PreviewOut,
    ScanBackfillRequest,
    ScheduleDetails,
    ScheduleList,
    Started,
    Synced,
    Triggered,
    TriggerRequest,
    days_of,
    kind_of,
)
from api.schedules.service import ScheduleActions
from api.store_actions import acting
from domain.access import Scope
from domain.expiry.calendar_days import read_day
from domain.expiry.rows import Kind

SMALL_BYTES = 1024
"""Maximum body of a request to scan one day."""

router = APIRouter(prefix="/api/{storeCode}", tags=["schedules"])

ReadSchedules = Annotated[ScheduleActions, Depends(acting(ScheduleActions, Scope.DELIVERY_READ))]
ChangeSchedules = Annotated[ScheduleActions, Depends(acting(ScheduleActions, Scope.DELIVERY_ACT))]
OfKind = Annotated[Kind, Depends(kind_of)]
TriggerDay = Annotated[TriggerRequest, Depends(JsonBody(TriggerRequest, limit_bytes=SMALL_BYTES, required=False))]
Days = Annotated[ScanBackfillRequest, Depends(JsonBody(ScanBackfillRequest))]

_description = "Day of expiry; default: the day that is due today (today + N)."
_day = Parameter(read_day, {"schema": DAY_SCHEMA, "description": _description}, code="not_a_day")
PreviewDay = Annotated[dict[str, Any], Depends(ParameterQuery({"day": _day}))]


@router.get("/schedule", summary="List the schedules")
async def list_schedules(schedules: ReadSchedules) -> ScheduleList:
    """Return one schedule per kind. Their `state` is `unknown` while Temporal does not answer."""
    return ScheduleList(items=await schedules.all())


@router.post("/schedule/sync", summary="Create and repair the schedules now")
async def sync_schedules(schedules: ChangeSchedules) -> Synced:
    """Create and repair the store's schedules at once, as workers do every minute. Paused schedules stay paused."""
    return await schedules.sync()


@router.get("/schedule/{kind}", summary="Details of a schedule")
async def get_schedule(schedules: ReadSchedules, kind: OfKind) -> ScheduleDetails:
    """Return the schedule with its latest scans, and the progress of a running one."""
    return await schedules.details(kind)


@router.post("/schedule/{kind}/trigger", summary="Scan a day now", status_code=202)
async def trigger_scan(schedules: ChangeSchedules, kind: OfKind, body: TriggerDay) -> Triggered:
    """Scan a day without moving the schedule's position. Rows that had their notice get no second one."""
    return await schedules.trigger(kind, body.day)


@router.post("/schedule/{kind}/backfill", summary="Scan several days now", status_code=202)
async def backfill_scans(schedules: ChangeSchedules, kind: OfKind, body: Days) -> Started:
    """Scan consecutive days one after the other, at most a year, without moving the schedule's position."""
    return await schedules.backfill(kind, *days_of(body))


@router.post("/schedule/{kind}/pause", summary="Pause a schedule", responses={409: {}})
async def pause_schedule(schedules: ChangeSchedules, kind: OfKind) -> ScheduleDetails:
    """Stop scheduled scans until the schedule is resumed. A running scan finishes."""
    await schedules.switch(kind, "pause")
    return await schedules.details(kind)


@router.post("/schedule/{kind}/resume", summary="Resume a schedule", responses={409: {}})
async def resume_schedule(schedules: ChangeSchedules, kind: OfKind) -> ScheduleDetails:
    """Resume scheduled scans. The next run also scans the days that were missed."""
    await schedules.switch(kind, "resume")
    return await schedules.details(kind)


@router.get("/expiry/{kind}/preview", summary="Preview a scan of a day", response_model=PreviewOut)
async def preview_scan(schedules: ReadSchedules, kind: OfKind, query: PreviewDay) -> Response:
    """Return the rows that a scan would find, with sample bodies and masked secrets. Nothing is sent.

    Rows that had their notice already are included and counted.
    """
    found = await schedules.preview(kind, query.get("day"))
    items = []
    for one in found.notices:
        facts = one.model_dump(mode="json", by_alias=True, exclude={"modern", "legacy"})
        items.append(facts | {"modern": orjson.Fragment(one.modern), "legacy": orjson.Fragment(one.legacy)})
    return Response(orjson.dumps({"count": found.count, "items": items}), media_type=JSON)
