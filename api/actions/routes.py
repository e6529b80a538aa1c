"""Routes of the operator actions on one subscription or one delivery."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.access import DeliveryAction, SubscriptionWrite
from api.actions.draft_tests import DraftTests
from api.actions.models import SentTest
from api.actions.service import OperatorActions, StatusAction
from api.errors import NotFound
from api.ids import id_path, parse_id
from api.resources import FromResources
from api.subscriptions.models import SubscriptionDetails
from api.subscriptions.service import details_of
from storage.subscriptions.queries import SubscriptionRow, find_subscription

router = APIRouter(prefix="/api/{storeCode}/webhook", tags=["actions"])

SubscriptionIdPath = Annotated[str, id_path("webhookSubscriptionId", "Id of the subscription.")]
MessageIdPath = Annotated[str, id_path("messageId", "Id of the delivery.")]


async def _changing(access: SubscriptionWrite, resources: FromResources) -> OperatorActions:
    return OperatorActions(resources, access.store_code, access.actor)


async def _actions(access: DeliveryAction, resources: FromResources) -> OperatorActions:
    return OperatorActions(resources, access.store_code, access.actor)


Changing = Annotated[OperatorActions, Depends(_changing)]
"""Operator actions that change a subscription."""
ActionsOnDeliveries = Annotated[OperatorActions, Depends(_actions)]
"""Operator actions that start or cancel attempts."""


async def _subscription(
    access: DeliveryAction, resources: FromResources, subscription_id: SubscriptionIdPath
) -> SubscriptionRow:
    async with resources.database.transaction() as connection:
        row = await find_subscription(connection, access.store_code, parse_id(subscription_id))
    if row is None:
        raise NotFound
    return row


TargetSubscription = Annotated[SubscriptionRow, Depends(_subscription)]
"""Subscription of the path, looked up before the body is read."""


async def _status(
    actions: OperatorActions, resources: FromResources, subscription_id: str, action: StatusAction
) -> SubscriptionDetails:
    return details_of(await actions.change_status(parse_id(subscription_id), action), resources)


@router.post("/subscription/{webhookSubscriptionId}/pause", summary="Pause a subscription", responses={409: {}})
async def pause(
    actions: Changing, resources: FromResources, subscription_id: SubscriptionIdPath
) -> SubscriptionDetails:
    """Hold its deliveries (`held`) until it is resumed. Attempts in progress finish. No effect if already paused."""
    return await _status(actions, resources, subscription_id, "pause")


@router.post("/subscription/{webhookSubscriptionId}/resume", summary="End a pause", responses={409: {}})
async def resume(
    actions: Changing, resources: FromResources, subscription_id: SubscriptionIdPath
) -> SubscriptionDetails:
    """Send the held deliveries, oldest first. An open breaker probes at once. No effect on an active subscription."""
    return await _status(actions, resources, subscription_id, "resume")


@router.post("/subscription/{webhookSubscriptionId}/disable", summary="Disable a subscription")
async def disable(
    actions: Changing, resources: FromResources, subscription_id: SubscriptionIdPath
) -> SubscriptionDetails:
    """Stop sending: waiting and new deliveries end as `exhausted`. `recover` can open them again later."""
    return await _status(actions, resources, subscription_id, "disable")


@router.post("/subscription/{webhookSubscriptionId}/enable", summary="Enable a subscription", responses={409: {}})
async def enable(
    actions: Changing, resources: FromResources, subscription_id: SubscriptionIdPath
) -> SubscriptionDetails:
    """Send again, with a reset health record. Deliveries that ended meanwhile stay ended; see `recover`."""
    return await _status(actions, resources, subscription_id, "enable")


@router.post(
    "/subscription/{webhookSubscriptionId}/send-test",
    summary="Send a test to a receiver",
    status_code=202,
    responses={409: {}},
)
async def send_test(access: DeliveryAction, resources: FromResources, subscription: TargetSubscription) -> SentTest:
    """Send a sample of its event once, in any status of the subscription, with the header `X-Webhook-Test: true`.

    The delivery has the variant `test`, the attempt the trigger `test`. The outcome does not count for the
    receiver's health, and no other subscription gets the sample.
    """
    tests = DraftTests(resources, access.store_code, access.actor)
    return SentTest(message_id=await tests.send_saved(subscription))


@router.post(
    "/delivery/{messageId}/redeliver",
    summary="Redeliver",
    status_code=202,
    response_model=None,
    responses={409: {}},
)
async def redeliver(actions: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """Attempt an ended delivery once more, even a delivered one. Only success changes its status."""
    await actions.redeliver(parse_id(message_id))


@router.post(
    "/delivery/{messageId}/send-now",
    summary="Attempt a delivery now",
    status_code=202,
    response_model=None,
    responses={409: {}},
)
async def send_now(actions: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """Attempt an open delivery at once. An attempt in progress counts as this attempt."""
    await actions.send_now(parse_id(message_id))


@router.post(
    "/delivery/{messageId}/cancel",
    summary="Cancel a delivery",
    status_code=202,
    response_model=None,
    responses={409: {}},
)
async def cancel(actions: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """Cancel an open delivery. An attempt in progress finishes and may still succeed."""
    await actions.cancel(parse_id(message_id))
