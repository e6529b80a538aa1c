"""What a person does: to a subscription, to one delivery, to all that failed in a window."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from api.access import DeliveryAct, DeliveryRead, SubscriptionWrite
from api.act_models import RecoverBegun, RecoverOut, RecoverRequest, SentTest
from api.acts import Acts, RecoverWindow, StatusAct
from api.body import JsonBody
from api.errors import NotFound, invalid
from api.ids import id_path, parse_id
from api.resources import FromResources
from api.subscription_answers import details_of
from api.subscription_models import SubscriptionDetails
from storage.acts import recover_progress
from storage.subscriptions import SubscriptionRow, find_subscription

router = APIRouter(prefix="/api/{storeCode}/webhook", tags=["acts"])

SubscriptionIdPath = Annotated[str, id_path("webhookSubscriptionId", "Id of the subscription.")]
MessageIdPath = Annotated[str, id_path("messageId", "Id of the delivery.")]
RecoverIdPath = Annotated[str, id_path("recoverId", "Id of the recovery.")]
RecoverBody = Annotated[RecoverRequest, Depends(JsonBody(RecoverRequest, "recover"))]


async def _changing(access: SubscriptionWrite, resources: FromResources) -> Acts:
    return Acts(resources, access.store_code, access.actor)


async def _acting(access: DeliveryAct, resources: FromResources) -> Acts:
    return Acts(resources, access.store_code, access.actor)


Changing = Annotated[Acts, Depends(_changing)]
"""Acts that change a subscription."""
ActingOnDeliveries = Annotated[Acts, Depends(_acting)]
"""Acts that make or end attempts."""


async def _subscription(
    access: DeliveryAct, resources: FromResources, subscription_id: SubscriptionIdPath
) -> SubscriptionRow:
    async with resources.database.transaction() as connection:
        row = await find_subscription(connection, access.store_code, parse_id(subscription_id))
    if row is None:
        raise NotFound
    return row


SubscriptionActedOn = Annotated[SubscriptionRow, Depends(_subscription)]
"""Found before the body is read."""


async def _status(acts: Acts, resources: FromResources, subscription_id: str, act: StatusAct) -> SubscriptionDetails:
    return details_of(await acts.change_status(parse_id(subscription_id), act), resources)


@router.post("/subscription/{webhookSubscriptionId}/pause", summary="Pause a subscription", responses={409: {}})
async def pause(acts: Changing, resources: FromResources, subscription_id: SubscriptionIdPath) -> SubscriptionDetails:
    """Deliveries wait (`held`) and none is lost; what is under way is finished. A paused one stays as it is."""
    return await _status(acts, resources, subscription_id, "pause")


@router.post("/subscription/{webhookSubscriptionId}/resume", summary="End a pause", responses={409: {}})
async def resume(acts: Changing, resources: FromResources, subscription_id: SubscriptionIdPath) -> SubscriptionDetails:
    """What was held goes out, oldest first; an unwell receiver is asked at once. An active one stays as it is."""
    return await _status(acts, resources, subscription_id, "resume")


@router.post("/subscription/{webhookSubscriptionId}/disable", summary="Disable a subscription")
async def disable(acts: Changing, resources: FromResources, subscription_id: SubscriptionIdPath) -> SubscriptionDetails:
    """Nothing more is sent: what waits ends as `exhausted`, as does what comes. `recover` reaches it later."""
    return await _status(acts, resources, subscription_id, "disable")


@router.post("/subscription/{webhookSubscriptionId}/enable", summary="Enable a subscription", responses={409: {}})
async def enable(acts: Changing, resources: FromResources, subscription_id: SubscriptionIdPath) -> SubscriptionDetails:
    """Send again, with a clean record of health. What ended meanwhile stays ended; see `recover`."""
    return await _status(acts, resources, subscription_id, "enable")


@router.post(
    "/subscription/{webhookSubscriptionId}/send-test",
    summary="Send a test to a receiver",
    status_code=202,
    responses={409: {}},
)
async def send_test(acts: ActingOnDeliveries, subscription: SubscriptionActedOn) -> SentTest:
    """A sample of its event, sent once whatever the subscription's status, with the header `X-Webhook-Test: true`.

    Its delivery has the variant `test`, its attempt the trigger `test`. It says nothing about the receiver's health,
    and no other subscription gets it.
    """
    return SentTest(message_id=await acts.send_test(subscription))


@router.post(
    "/delivery/{messageId}/redeliver",
    summary="Redeliver",
    status_code=202,
    response_model=None,
    responses={409: {}},
)
async def redeliver(acts: ActingOnDeliveries, message_id: MessageIdPath) -> None:
    """One more attempt of a delivery that has ended, also of a delivered one. Only success changes its status."""
    await acts.redeliver(parse_id(message_id))


@router.post(
    "/delivery/{messageId}/send-now",
    summary="Do not wait for the next attempt",
    status_code=202,
    response_model=None,
    responses={409: {}},
)
async def send_now(acts: ActingOnDeliveries, message_id: MessageIdPath) -> None:
    """Attempt an open delivery at once. An attempt of it that is under way counts as that."""
    await acts.send_now(parse_id(message_id))


@router.post(
    "/delivery/{messageId}/cancel",
    summary="Cancel a delivery",
    status_code=202,
    response_model=None,
    responses={409: {}},
)
async def cancel(acts: ActingOnDeliveries, message_id: MessageIdPath) -> None:
    """End an open delivery. An attempt of it that is under way is finished, and may still succeed."""
    await acts.cancel(parse_id(message_id))


@router.post(
    "/subscription/{webhookSubscriptionId}/recover",
    summary="Deliver again what failed in a window",
    status_code=202,
    responses={409: {}},
)
async def recover(acts: ActingOnDeliveries, subscription: SubscriptionActedOn, body: RecoverBody) -> RecoverBegun:
    """Deliveries of the window begin their retry schedule anew, oldest first, as fast as the receiver takes them.

    `dryRun` only counts them; then `recoverId` is null. One recovery of a subscription runs at a time.
    """
    until = body.until or datetime.now(UTC)
    if until <= body.since:
        field, message = ("since", "must be past") if body.until is None else ("until", "must be later than since")
        raise invalid(field, "invalid_value", message)
    window = RecoverWindow(body.since, until, body.statuses)
    if body.dry_run:
        return RecoverBegun(recover_id=None, count=await acts.count_recoverable(subscription, window))
    recover_id, count = await acts.recover(subscription, window)
    return RecoverBegun(recover_id=recover_id, count=count)


@router.get("/recover/{recoverId}", summary="Progress of a recovery")
async def progress(access: DeliveryRead, resources: FromResources, recover_id: RecoverIdPath) -> RecoverOut:
    """How many of its deliveries are open again."""
    return await _progress(resources, access.store_code, parse_id(recover_id))


@router.post("/recover/{recoverId}/cancel", summary="Cancel a recovery", responses={409: {}})
async def cancel_recover(
    acts: ActingOnDeliveries, access: DeliveryAct, resources: FromResources, recover_id: RecoverIdPath
) -> RecoverOut:
    """Open no more of it; what is open again goes on."""
    await acts.cancel_recover(parse_id(recover_id))
    return await _progress(resources, access.store_code, parse_id(recover_id))


async def _progress(resources: FromResources, store_code: str, recover_id: UUID) -> RecoverOut:
    async with resources.database.transaction() as connection:
        row = await recover_progress(connection, store_code, recover_id)
    if row is None:
        raise NotFound
    subscription_id, status, done, count = row
    return RecoverOut(
        recover_id=recover_id, webhook_subscription_id=subscription_id, status=status, done=done, count=count
    )
