"""Routes of the bulk actions recover and backfill on a time window of one subscription: begin, progress, cancel."""

from typing import Annotated

from fastapi import APIRouter, Depends

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
from api.ids import id_path, parse_id
from api.store_actions import acting
from domain.access import Scope
from storage.deliveries.bulk_actions import BulkActionKind

router = APIRouter(prefix="/api/{storeCode}/webhook", tags=["actions"])

RecoverIdPath = Annotated[str, id_path("recoverId", "Id of the recovery.")]
BackfillIdPath = Annotated[str, id_path("backfillId", "Id of the backfill.")]
RecoverBody = Annotated[RecoverRequest, Depends(JsonBody(RecoverRequest, "recover"))]
BackfillBody = Annotated[BackfillRequest, Depends(JsonBody(BackfillRequest, "backfill"))]


ReadBulkActions = Annotated[BulkActions, Depends(acting(BulkActions, Scope.DELIVERY_READ))]
CallerBulkActions = Annotated[BulkActions, Depends(acting(BulkActions, Scope.DELIVERY_ACT))]
"""Bulk actions of the caller, who needs the right to act on deliveries."""


@router.post(
    "/subscription/{webhookSubscriptionId}/recover",
    summary="Recover failed deliveries of a time window",
    status_code=202,
    responses={409: {}},
)
async def recover_deliveries(
    actions: CallerBulkActions, subscription: TargetSubscription, body: RecoverBody
) -> RecoverBegun:
    """Restart the retry schedule of deliveries created in the window.

    Deliveries are sent oldest first, at the webhook's rate and at most `ratePerSecond`. `dryRun` only counts them;
    `recoverId` is then null. A webhook has at most one running recovery or backfill.
    """
    wanted = wanted_of(body)
    if body.dry_run:
        return RecoverBegun(recover_id=None, count=await actions.count(subscription, wanted))
    recover_id, count = await actions.begin(subscription, wanted)
    return RecoverBegun(recover_id=recover_id, count=count)


@router.get("/recover/{recoverId}", summary="Progress of a recovery")
async def get_recovery(actions: ReadBulkActions, recover_id: RecoverIdPath) -> RecoverOut:
    """Return the outcomes of the deliveries it opened. It is finished when each of them has been attempted."""
    id_ = parse_id(recover_id)
    return RecoverOut.of(await actions.progress(id_, BulkActionKind.RECOVER), recover_id=id_)


@router.post("/recover/{recoverId}/cancel", summary="Cancel a recovery", responses={409: {}})
async def cancel_recovery(actions: CallerBulkActions, recover_id: RecoverIdPath) -> RecoverOut:
    """Stop opening deliveries; those already open continue."""
    await actions.cancel(parse_id(recover_id), BulkActionKind.RECOVER)
    return await get_recovery(actions, recover_id)


@router.post(
    "/subscription/{webhookSubscriptionId}/backfill",
    summary="Deliver past events to the webhook",
    status_code=202,
    responses={409: {}},
)
async def backfill_deliveries(
    actions: CallerBulkActions, subscription: TargetSubscription, body: BackfillBody
) -> BackfillBegun:
    """Create a delivery of each event of the webhook's name that was accepted in the window and has none.

    Deliveries are sent oldest first, at the webhook's rate and at most `ratePerSecond`; `activeFrom` is ignored.
    `dryRun` only counts the events; `backfillId` is then null. A webhook has at most one running recovery or
    backfill.
    """
    wanted = wanted_of(body)
    if body.dry_run:
        return BackfillBegun(backfill_id=None, count=await actions.count(subscription, wanted))
    backfill_id, count = await actions.begin(subscription, wanted)
    return BackfillBegun(backfill_id=backfill_id, count=count)


@router.get("/backfill/{backfillId}", summary="Progress of a backfill")
async def get_backfill(actions: ReadBulkActions, backfill_id: BackfillIdPath) -> BackfillOut:
    """Return the outcomes of the deliveries it created. It is finished when each of them has been attempted."""
    id_ = parse_id(backfill_id)
    return BackfillOut.of(await actions.progress(id_, BulkActionKind.BACKFILL), backfill_id=id_)


@router.post("/backfill/{backfillId}/cancel", summary="Cancel a backfill", responses={409: {}})
async def cancel_backfill(actions: CallerBulkActions, backfill_id: BackfillIdPath) -> BackfillOut:
    """Stop creating deliveries; those already created continue."""
    await actions.cancel(parse_id(backfill_id), BulkActionKind.BACKFILL)
    return await get_backfill(actions, backfill_id)
