"""Routes of the bulk actions recover and backfill on a time window of one subscription: begin, progress, cancel."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from api.access import DeliveryAction, DeliveryRead
from api.actions.routes import TargetSubscription
from api.body import JsonBody
from api.bulk_actions.models import (
    BackfillBegun,
    BackfillOut,
    BackfillRequest,
    RecoverBegun,
    RecoverOut,
    RecoverRequest,
)
from api.bulk_actions.service import BulkActions, wanted_of
from api.errors import NotFound
from api.ids import id_path, parse_id
from api.resources import FromResources, Resources
from storage.deliveries.bulk_actions import BulkActionKind, BulkActionProgress, bulk_action_progress

router = APIRouter(prefix="/api/{storeCode}/webhook", tags=["actions"])

RecoverIdPath = Annotated[str, id_path("recoverId", "Id of the recovery.")]
BackfillIdPath = Annotated[str, id_path("backfillId", "Id of the backfill.")]
RecoverBody = Annotated[RecoverRequest, Depends(JsonBody(RecoverRequest, "recover"))]
BackfillBody = Annotated[BackfillRequest, Depends(JsonBody(BackfillRequest, "backfill"))]


async def _actions(access: DeliveryAction, resources: FromResources) -> BulkActions:
    return BulkActions(resources, access.store_code, access.actor)


CallerBulkActions = Annotated[BulkActions, Depends(_actions)]
"""Bulk actions of the caller, who needs the right to act on deliveries."""


@router.post(
    "/subscription/{webhookSubscriptionId}/recover",
    summary="Recover failed deliveries of a time window",
    status_code=202,
    responses={409: {}},
)
async def recover(actions: CallerBulkActions, subscription: TargetSubscription, body: RecoverBody) -> RecoverBegun:
    """Restart the retry schedule of deliveries created in the window.

    Deliveries are sent oldest first, at the subscription's rate and at most `ratePerSecond`. `dryRun` only counts them;
    `recoverId` is then null. A subscription has at most one running recovery or backfill.
    """
    wanted = wanted_of(body)
    if body.dry_run:
        return RecoverBegun(recover_id=None, count=await actions.count(subscription, wanted))
    recover_id, count = await actions.begin(subscription, wanted)
    return RecoverBegun(recover_id=recover_id, count=count)


@router.get("/recover/{recoverId}", summary="Progress of a recovery")
async def progress(access: DeliveryRead, resources: FromResources, recover_id: RecoverIdPath) -> RecoverOut:
    """Return the outcomes of the deliveries it opened. It is finished when each of them has been attempted."""
    return await _recovery(resources, access.store_code, parse_id(recover_id))


@router.post("/recover/{recoverId}/cancel", summary="Cancel a recovery", responses={409: {}})
async def cancel_recover(
    actions: CallerBulkActions, access: DeliveryAction, resources: FromResources, recover_id: RecoverIdPath
) -> RecoverOut:
    """Stop opening deliveries; those already open continue."""
    await actions.cancel(parse_id(recover_id), BulkActionKind.RECOVER)
    return await _recovery(resources, access.store_code, parse_id(recover_id))


@router.post(
    "/subscription/{webhookSubscriptionId}/backfill",
    summary="Deliver past events to the subscription",
    status_code=202,
    responses={409: {}},
)
async def backfill(actions: CallerBulkActions, subscription: TargetSubscription, body: BackfillBody) -> BackfillBegun:
    """Create a delivery of each event of the subscription's name that was accepted in the window and has none.

    Deliveries are sent oldest first, at the subscription's rate and at most `ratePerSecond`; `activeFrom` is ignored.
    `dryRun` only counts the events; `backfillId` is then null. A subscription has at most one running recovery or
    backfill.
    """
    wanted = wanted_of(body)
    if body.dry_run:
        return BackfillBegun(backfill_id=None, count=await actions.count(subscription, wanted))
    backfill_id, count = await actions.begin(subscription, wanted)
    return BackfillBegun(backfill_id=backfill_id, count=count)


@router.get("/backfill/{backfillId}", summary="Progress of a backfill")
async def backfill_progress(access: DeliveryRead, resources: FromResources, backfill_id: BackfillIdPath) -> BackfillOut:
    """Return the outcomes of the deliveries it created. It is finished when each of them has been attempted."""
    return await _backfill(resources, access.store_code, parse_id(backfill_id))


@router.post("/backfill/{backfillId}/cancel", summary="Cancel a backfill", responses={409: {}})
async def cancel_backfill(
    actions: CallerBulkActions, access: DeliveryAction, resources: FromResources, backfill_id: BackfillIdPath
) -> BackfillOut:
    """Stop creating deliveries; those already created continue."""
    await actions.cancel(parse_id(backfill_id), BulkActionKind.BACKFILL)
    return await _backfill(resources, access.store_code, parse_id(backfill_id))


async def _recovery(resources: Resources, store_code: str, recover_id: UUID) -> RecoverOut:
    found = await _found(resources, store_code, recover_id, BulkActionKind.RECOVER)
    return RecoverOut.of(found, recover_id=recover_id)


async def _backfill(resources: Resources, store_code: str, backfill_id: UUID) -> BackfillOut:
    found = await _found(resources, store_code, backfill_id, BulkActionKind.BACKFILL)
    return BackfillOut.of(found, backfill_id=backfill_id)


async def _found(resources: Resources, store_code: str, action_id: UUID, kind: BulkActionKind) -> BulkActionProgress:
    async with resources.database.transaction() as connection:
        found = await bulk_action_progress(connection, store_code, action_id, kind)
    if found is None:
        raise NotFound
    return found
