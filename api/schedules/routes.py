"""The schedules of expiry: how far they have come, scans by hand, pauses, and what a scan would find."""

from datetime import date
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Response

from api.access import DeliveryAction, DeliveryRead
from api.body import JsonBody
from api.resources import FromResources
from api.schedules.models import (
    DayQuery,
    PreviewOut,
    ScanBackfillRequest,
    ScheduleDetails,
    ScheduleList,
    Started,
    Synced,
    TriggerBody,
    Triggered,
    TriggerRequest,
    days_of,
    kind_of,
    notice_item,
)
from api.schedules.service import ScheduleActions
from domain.expiry.rows import Kind

router = APIRouter(prefix="/api/{storeCode}", tags=["schedules"])


async def _reading(access: DeliveryRead, resources: FromResources) -> ScheduleActions:
    return ScheduleActions(resources, access.store_code, access.actor)


async def _acting(access: DeliveryAction, resources: FromResources) -> ScheduleActions:
    return ScheduleActions(resources, access.store_code, access.actor)


Reading = Annotated[ScheduleActions, Depends(_reading)]
ActionStarts = Annotated[ScheduleActions, Depends(_acting)]
OfKind = Annotated[Kind, Depends(kind_of)]
TriggerDay = Annotated[TriggerRequest, Depends(TriggerBody())]
Days = Annotated[ScanBackfillRequest, Depends(JsonBody(ScanBackfillRequest))]
PreviewDay = Annotated[date | None, Depends(DayQuery())]


@router.get("/schedule", summary="List the schedules")
async def list_(schedules: Reading) -> ScheduleList:
    """One for each kind. Without an answer of Temporal their `state` is `unknown`."""
    return ScheduleList(items=await schedules.all())


@router.post("/schedule/sync", summary="Make and mend the schedules now")
async def sync(schedules: ActionStarts) -> Synced:
    """What every worker does once a minute, for this store, now. What is paused stays paused."""
    return await schedules.sync()


@router.get("/schedule/{kind}", summary="Details of a schedule")
async def details(schedules: Reading, kind: OfKind) -> ScheduleDetails:
    """With its last scans; of one that goes on, how far it has come."""
    return await schedules.details(kind)


@router.post("/schedule/{kind}/trigger", summary="Scan a day now", status_code=202)
async def trigger(schedules: ActionStarts, kind: OfKind, body: TriggerDay) -> Triggered:
    """By hand: the schedule goes on where it was. What has had its notice gets none again."""
    return await schedules.trigger(kind, body.day)


@router.post("/schedule/{kind}/backfill", summary="Scan several days now", status_code=202)
async def backfill(schedules: ActionStarts, kind: OfKind, body: Days) -> Started:
    """The same for days one after the other, at most a year of them."""
    return await schedules.backfill(kind, *days_of(body))


@router.post("/schedule/{kind}/pause", summary="Pause a schedule", responses={409: {}})
async def pause(schedules: ActionStarts, kind: OfKind) -> ScheduleDetails:
    """Nothing is scanned by itself until it is resumed; a scan that goes on ends in its time."""
    await schedules.pause(kind)
    return await schedules.details(kind)


@router.post("/schedule/{kind}/resume", summary="Resume a schedule", responses={409: {}})
async def resume(schedules: ActionStarts, kind: OfKind) -> ScheduleDetails:
    """Its next run makes up for the days it missed."""
    await schedules.resume(kind)
    return await schedules.details(kind)


@router.get("/expiry/{kind}/preview", summary="What a scan of a day would find", response_model=PreviewOut)
async def preview(schedules: Reading, kind: OfKind, day: PreviewDay) -> Response:
    """Nothing is sent. Items have sample bodies, secrets masked; what has had its notice is among them, and counted."""
    found = await schedules.preview(kind, day)
    items = [
        {**notice_item(notice), "modern": orjson.Fragment(notice.modern), "legacy": orjson.Fragment(notice.legacy)}
        for notice in found.notices
    ]
    return Response(orjson.dumps({"count": found.count, "items": items}), media_type="application/json")
