"""The schedules of expiry: how far they have come, scans by hand, pauses, and what a scan would find."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.access import DeliveryAct, DeliveryRead, StoreAccess
from api.body import JsonBody
from api.errors import Conflict, NotFound, Unavailable
from api.expiry_preview import default_day
from api.expiry_preview import preview as look_at
from api.resources import FromResources, Resources
from api.schedule_models import (
    BackfillRequest,
    DayQuery,
    PreviewOut,
    ScanOut,
    ScheduleDetails,
    ScheduleList,
    ScheduleOut,
    Started,
    Synced,
    TriggerBody,
    Triggered,
    TriggerRequest,
    days_of,
    kind_of,
    notice_item,
    scan_out,
    state_of,
)
from api.temporal_calls import temporal_call
from api.temporal_links import schedule_url, workflow_url
from domain.expiry import Kind
from domain.identity import expiry_schedule_id
from storage.audit import record
from storage.expiry_scans import Coverage, ScanRow, coverage, recent_scans
from storage.expiry_source import SourceUnusableError
from storage.stores import StoreRow, find_store
from workflows.schedules import ScheduleStatus, StoreSchedules

SCANS_SHOWN = 30
SCHEDULE = "schedule"
"""What the audit calls it."""

router = APIRouter(prefix="/api/{storeCode}", tags=["schedules"])

OfKind = Annotated[Kind, Depends(kind_of)]
TriggerDay = Annotated[TriggerRequest, Depends(TriggerBody())]
Days = Annotated[BackfillRequest, Depends(JsonBody(BackfillRequest))]
PreviewDay = Annotated[date | None, Depends(DayQuery())]


@dataclass(frozen=True)
class _Facts:
    """What the database says of a schedule."""

    store: StoreRow
    kind: Kind
    covered: Coverage | None
    scans: list[ScanRow]


@router.get("/schedule", summary="List the schedules")
async def list_(access: DeliveryRead, resources: FromResources) -> ScheduleList:
    """One for each kind. Without an answer of Temporal their `state` is `unknown`."""
    async with resources.database.transaction() as connection:
        store = await _store(connection, access)
        facts = [await _facts(connection, store, kind, most=1) for kind in Kind]
    statuses = await asyncio.gather(*(_status(resources, store.code, kind) for kind in Kind))
    return ScheduleList(
        items=[ScheduleOut(**_schedule(resources, one, status)) for one, status in zip(facts, statuses, strict=True)]
    )


@router.post("/schedule/sync", summary="Make and mend the schedules now")
async def sync(access: DeliveryAct, resources: FromResources) -> Synced:
    """What every worker does once a minute, for this store, now. What is paused stays paused."""
    async with resources.database.transaction() as connection:
        store = await _store(connection, access)
    async with temporal_call():
        result = await resources.schedules.sync_store(StoreSchedules(store.code, store.timezone))
    return Synced(created=result.created, updated=result.updated, failed=result.failed)


@router.get("/schedule/{kind}", summary="Details of a schedule")
async def details(access: DeliveryRead, kind: OfKind, resources: FromResources) -> ScheduleDetails:
    """With its last scans; of one that goes on, how far it has come."""
    return await _details(access, kind, resources)


@router.post("/schedule/{kind}/trigger", summary="Scan a day now", status_code=202)
async def trigger(access: DeliveryAct, kind: OfKind, body: TriggerDay, resources: FromResources) -> Triggered:
    """By hand: the schedule goes on where it was. What has had its notice gets none again."""
    async with resources.database.transaction() as connection:
        store = await _store(connection, access)
    day: date = body.day or default_day(store, kind, datetime.now(UTC))
    async with temporal_call():
        workflow_id = await resources.schedules.scan_day(access.store_code, kind, day)
    await _audit(resources, access, "trigger", kind, {"day": day.isoformat()})
    return Triggered(workflow_id=workflow_id, day=day, temporal_url=workflow_url(resources, workflow_id))


@router.post("/schedule/{kind}/backfill", summary="Scan several days now", status_code=202)
async def backfill(access: DeliveryAct, kind: OfKind, body: Days, resources: FromResources) -> Started:
    """The same for days one after the other, at most a year of them."""
    first, last = days_of(body)
    async with temporal_call():
        workflow_id = await resources.schedules.scan_days(access.store_code, kind, first, last)
    await _audit(resources, access, "backfill", kind, {"firstDay": first.isoformat(), "lastDay": last.isoformat()})
    url = workflow_url(resources, workflow_id)
    return Started(workflow_id=workflow_id, first_day=first, last_day=last, temporal_url=url)


@router.post("/schedule/{kind}/pause", summary="Pause a schedule", responses={409: {}})
async def pause(access: DeliveryAct, kind: OfKind, resources: FromResources) -> ScheduleDetails:
    """Nothing is scanned by itself until it is resumed; a scan that goes on ends in its time."""
    async with temporal_call():
        _must_exist(await resources.schedules.pause(access.store_code, kind, f"paused by {access.actor}"))
    await _audit(resources, access, "pause", kind, {})
    return await _details(access, kind, resources)


@router.post("/schedule/{kind}/resume", summary="Resume a schedule", responses={409: {}})
async def resume(access: DeliveryAct, kind: OfKind, resources: FromResources) -> ScheduleDetails:
    """Its next run makes up for the days it missed."""
    async with temporal_call():
        _must_exist(await resources.schedules.resume(access.store_code, kind, f"resumed by {access.actor}"))
    await _audit(resources, access, "resume", kind, {})
    return await _details(access, kind, resources)


@router.get("/expiry/{kind}/preview", summary="What a scan of a day would find", response_model=PreviewOut)
async def preview(access: DeliveryRead, kind: OfKind, day: PreviewDay, resources: FromResources) -> Response:
    """Nothing is sent. Items have sample bodies, secrets masked; what has had its notice is among them, and counted."""
    async with resources.database.transaction() as connection:
        store = await _store(connection, access)
        wanted = day or default_day(store, kind, datetime.now(UTC))
        try:
            found = await look_at(resources.due_source, connection, store, kind, wanted)
        except SourceUnusableError as error:
            raise Unavailable(str(error)) from error
    items = [
        {**notice_item(notice), "modern": orjson.Fragment(notice.modern), "legacy": orjson.Fragment(notice.legacy)}
        for notice in found.notices
    ]
    return Response(orjson.dumps({"count": found.count, "items": items}), media_type="application/json")


async def _store(connection: AsyncConnection, access: StoreAccess) -> StoreRow:
    store = await find_store(connection, access.store_code)
    if store is None:
        raise NotFound
    return store


async def _facts(connection: AsyncConnection, store: StoreRow, kind: Kind, most: int) -> _Facts:
    covered = await coverage(connection, store.code, kind)
    return _Facts(store, kind, covered, await recent_scans(connection, store.code, kind, most))


async def _status(resources: Resources, store_code: str, kind: Kind) -> ScheduleStatus | None:
    """None when Temporal does not answer: what the database knows is shown all the same."""
    try:
        async with temporal_call():
            return await resources.schedules.status(store_code, kind)
    except Unavailable:
        return None


async def _details(access: StoreAccess, kind: Kind, resources: Resources) -> ScheduleDetails:
    async with resources.database.transaction() as connection:
        facts = await _facts(connection, await _store(connection, access), kind, SCANS_SHOWN)
    status = await _status(resources, access.store_code, kind)
    scans: list[ScanOut] = [scan_out(resources, scan) for scan in facts.scans]
    return ScheduleDetails(**_schedule(resources, facts, status), scans=scans)


def _schedule(resources: Resources, facts: _Facts, status: ScheduleStatus | None) -> dict[str, Any]:
    schedule_id = expiry_schedule_id(facts.store.code, facts.kind)
    covered = None if facts.covered is None else facts.covered.interval
    return {
        "kind": facts.kind,
        "schedule_id": schedule_id,
        "state": state_of(status),
        "note": status.note if status else None,
        "timezone": facts.store.timezone,
        "local_hour": resources.settings.expiry_local_hour,
        "notification_days": facts.store.days_ahead(facts.kind),
        "next_run_at": status.next_run_at if status else None,
        "scanned_from": covered.start if covered else None,
        "scanned_until": covered.end if covered else None,
        "last_scan": scan_out(resources, facts.scans[0]) if facts.scans else None,
        "temporal_url": schedule_url(resources, schedule_id),
    }


def _must_exist(exists: bool) -> None:
    if not exists:
        raise Conflict("Temporal has no such schedule yet; a worker makes it within a minute, or `schedules sync` now.")


async def _audit(
    resources: Resources, access: StoreAccess, action: str, kind: Kind, changes: Mapping[str, Any]
) -> None:
    """Written once Temporal has taken it; what was refused has changed nothing."""
    async with resources.database.transaction() as connection:
        await record(
            connection,
            actor=access.actor,
            action=action,
            object_type=SCHEDULE,
            object_id=expiry_schedule_id(access.store_code, kind),
            store_code=access.store_code,
            changes=changes,
        )
