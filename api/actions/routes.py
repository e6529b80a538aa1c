"""What a person does to a subscription, and to one delivery."""

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

router = APIRouter(prefix="/api/{storeCode}/webhook", tags=["acts"])

SubscriptionIdPath = Annotated[str, id_path("webhookSubscriptionId", "Id of the subscription.")]
MessageIdPath = Annotated[str, id_path("messageId", "Id of the delivery.")]


async def _changing(access: SubscriptionWrite, resources: FromResources) -> OperatorActions:
    return OperatorActions(resources, access.store_code, access.actor)


async def _acting(access: DeliveryAction, resources: FromResources) -> OperatorActions:
    return OperatorActions(resources, access.store_code, access.actor)


Changing = Annotated[OperatorActions, Depends(_changing)]
"""OperatorActions that change a subscription."""
ActionsOnDeliveries = Annotated[OperatorActions, Depends(_acting)]
"""OperatorActions that make or end attempts."""


async def _subscription(
    access: DeliveryAction, resources: FromResources, subscription_id: SubscriptionIdPath
) -> SubscriptionRow:
    async with resources.database.transaction() as connection:
        row = await find_subscription(connection, access.store_code, parse_id(subscription_id))
    if row is None:
        raise NotFound
    return row


SubscriptionActedOn = Annotated[SubscriptionRow, Depends(_subscription)]
"""Found before the body is read."""


async def _status(
    acts: OperatorActions, resources: FromResources, subscription_id: str, act: StatusAction
) -> SubscriptionDetails:
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
async def send_test(access: DeliveryAction, resources: FromResources, subscription: SubscriptionActedOn) -> SentTest:
    """A sample of its event, sent once whatever the subscription's status, with the header `X-Webhook-Test: true`.

    Its delivery has the variant `test`, its attempt the trigger `test`. It says nothing about the receiver's health,
    and no other subscription gets it.
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
async def redeliver(acts: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """One more attempt of a delivery that has ended, also of a delivered one. Only success changes its status."""
    await acts.redeliver(parse_id(message_id))


@router.post(
    "/delivery/{messageId}/send-now",
    summary="Do not wait for the next attempt",
    status_code=202,
    response_model=None,
    responses={409: {}},
)
async def send_now(acts: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """Attempt an open delivery at once. An attempt of it that is under way counts as that."""
    await acts.send_now(parse_id(message_id))


@router.post(
    "/delivery/{messageId}/cancel",
    summary="Cancel a delivery",
    status_code=202,
    response_model=None,
    responses={409: {}},
)
async def cancel(acts: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """End an open delivery. An attempt of it that is under way is finished, and may still succeed."""
    await acts.cancel(parse_id(message_id))
