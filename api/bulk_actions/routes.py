"""What a person does to a window of time of one subscription: recover and backfill, how far they are, and no more."""

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
from storage.operations.bulk_actions import BulkActionKind, BulkActionProgress, bulk_action_progress

router = APIRouter(prefix="/api/{storeCode}/webhook", tags=["acts"])

RecoverIdPath = Annotated[str, id_path("recoverId", "Id of the recovery.")]
BackfillIdPath = Annotated[str, id_path("backfillId", "Id of the backfill.")]
RecoverBody = Annotated[RecoverRequest, Depends(JsonBody(RecoverRequest, "recover"))]
BackfillBody = Annotated[BackfillRequest, Depends(JsonBody(BackfillRequest, "backfill"))]


async def _acting(access: DeliveryAction, resources: FromResources) -> BulkActions:
    return BulkActions(resources, access.store_code, access.actor)


ActionStarts = Annotated[BulkActions, Depends(_acting)]
"""OperatorActions that make attempts."""


@router.post(
    "/subscription/{webhookSubscriptionId}/recover",
    summary="Deliver again what failed in a window",
    status_code=202,
    responses={409: {}},
)
async def recover(acts: ActionStarts, subscription: TargetSubscription, body: RecoverBody) -> RecoverBegun:
    """Deliveries created in the window begin their retry schedule anew, oldest first, at the subscription's rate, and
    at most `ratePerSecond`.

    `dryRun` only counts them; then `recoverId` is null. One recovery or backfill of a subscription runs at a time.
    """
    wanted = wanted_of(body)
    if body.dry_run:
        return RecoverBegun(recover_id=None, count=await acts.count(subscription, wanted))
    recover_id, count = await acts.begin(subscription, wanted)
    return RecoverBegun(recover_id=recover_id, count=count)


@router.get("/recover/{recoverId}", summary="Progress of a recovery")
async def progress(access: DeliveryRead, resources: FromResources, recover_id: RecoverIdPath) -> RecoverOut:
    """What became of the deliveries it opened. It is finished when each of them has been attempted."""
    return await _recovery(resources, access.store_code, parse_id(recover_id))


@router.post("/recover/{recoverId}/cancel", summary="Cancel a recovery", responses={409: {}})
async def cancel_recover(
    acts: ActionStarts, access: DeliveryAction, resources: FromResources, recover_id: RecoverIdPath
) -> RecoverOut:
    """Open no more of it; what is open again goes on."""
    await acts.cancel(parse_id(recover_id), BulkActionKind.RECOVER)
    return await _recovery(resources, access.store_code, parse_id(recover_id))


@router.post(
    "/subscription/{webhookSubscriptionId}/backfill",
    summary="Deliver what was accepted before the subscription was there",
    status_code=202,
    responses={409: {}},
)
async def backfill(acts: ActionStarts, subscription: TargetSubscription, body: BackfillBody) -> BackfillBegun:
    """Each event of the subscription's name that was accepted in the window and has no delivery to it gets one.

    Oldest first, at the subscription's rate, and at most `ratePerSecond`; `activeFrom` does not matter. `dryRun` only
    counts the events; then `backfillId` is null. One recovery or backfill of a subscription runs at a time.
    """
    wanted = wanted_of(body)
    if body.dry_run:
        return BackfillBegun(backfill_id=None, count=await acts.count(subscription, wanted))
    backfill_id, count = await acts.begin(subscription, wanted)
    return BackfillBegun(backfill_id=backfill_id, count=count)


@router.get("/backfill/{backfillId}", summary="Progress of a backfill")
async def backfill_progress(access: DeliveryRead, resources: FromResources, backfill_id: BackfillIdPath) -> BackfillOut:
    """What became of the deliveries it made. It is finished when each of them has been attempted."""
    return await _backfill(resources, access.store_code, parse_id(backfill_id))


@router.post("/backfill/{backfillId}/cancel", summary="Cancel a backfill", responses={409: {}})
async def cancel_backfill(
    acts: ActionStarts, access: DeliveryAction, resources: FromResources, backfill_id: BackfillIdPath
) -> BackfillOut:
    """Make no more deliveries of it; those that are made go on."""
    await acts.cancel(parse_id(backfill_id), BulkActionKind.BACKFILL)
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
