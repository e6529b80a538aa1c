"""Routes of the operator actions on one subscription or one delivery."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends

from api.actions.draft_tests import DraftTests
from api.actions.service import OperatorActions, StatusAction
from api.body import Output
from api.ids import MessageIdPath, parse_id
from api.store_actions import acting
from api.subscriptions.models import SubscriptionDetails
from api.subscriptions.routes import IdPath, of_path
from api.subscriptions.service import checked_details_of
from domain.access import Scope
from storage.subscriptions.queries import SubscriptionRow

router = APIRouter(prefix="/api/{storeCode}/webhook", tags=["actions"])


ActionsOnSubscriptions = Annotated[OperatorActions, Depends(acting(OperatorActions, Scope.SUBSCRIPTION_WRITE))]
ActionsOnDeliveries = Annotated[OperatorActions, Depends(acting(OperatorActions, Scope.DELIVERY_ACT))]
Tests = Annotated[DraftTests, Depends(acting(DraftTests, Scope.DELIVERY_ACT))]


class SentTest(Output):
    """The delivery that records the outcome of the test."""

    message_id: UUID


TargetSubscription = Annotated[SubscriptionRow, Depends(of_path(Scope.DELIVERY_ACT))]
ACTED: dict[str, Any] = {"status_code": 202, "response_model": None, "responses": {409: {}}}


async def _status(actions: OperatorActions, subscription_id: str, action: StatusAction) -> SubscriptionDetails:
    row = await actions.change_status(parse_id(subscription_id), action)
    return await checked_details_of(row, actions.resources)


@router.post("/subscription/{webhookSubscriptionId}/pause", summary="Pause a webhook", responses={409: {}})
async def pause_subscription(actions: ActionsOnSubscriptions, subscription_id: IdPath) -> SubscriptionDetails:
    """Hold its deliveries (`held`) until it is resumed. Attempts in progress finish. No effect if already paused."""
    return await _status(actions, subscription_id, "pause")


@router.post("/subscription/{webhookSubscriptionId}/resume", summary="End a pause", responses={409: {}})
async def resume_subscription(actions: ActionsOnSubscriptions, subscription_id: IdPath) -> SubscriptionDetails:
    """Send the held deliveries, oldest first. An open breaker probes at once. No effect on an active webhook."""
    return await _status(actions, subscription_id, "resume")


@router.post("/subscription/{webhookSubscriptionId}/disable", summary="Disable a webhook")
async def disable_subscription(actions: ActionsOnSubscriptions, subscription_id: IdPath) -> SubscriptionDetails:
    """Stop sending: waiting, held and new deliveries give up (`exhausted`). `recover` can open them again later."""
    return await _status(actions, subscription_id, "disable")


@router.post("/subscription/{webhookSubscriptionId}/enable", summary="Enable a webhook", responses={409: {}})
async def enable_subscription(actions: ActionsOnSubscriptions, subscription_id: IdPath) -> SubscriptionDetails:
    """Send again, with a reset health record. Deliveries that ended meanwhile stay ended; see `recover`."""
    return await _status(actions, subscription_id, "enable")


@router.post(
    "/subscription/{webhookSubscriptionId}/send-test",
    summary="Send a test to a receiver",
    status_code=202,
    responses={409: {}},
)
async def send_test(tests: Tests, subscription: TargetSubscription) -> SentTest:
    """Send a sample of its event once, in any status of the webhook, with the header `X-Webhook-Test: true`.

    The delivery has the variant `test`, the attempt the trigger `test`. The outcome does not count for the
    receiver's health, and no other webhook gets the sample.
    """
    return SentTest(message_id=await tests.send_saved(subscription))


@router.post("/delivery/{messageId}/redeliver", summary="Redeliver", **ACTED)
async def redeliver_delivery(actions: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """Attempt an ended delivery once more, even a delivered one. Only success changes its status."""
    await actions.redeliver(parse_id(message_id))


@router.post("/delivery/{messageId}/send-now", summary="Attempt a delivery now", **ACTED)
async def send_delivery_now(actions: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """Attempt an open delivery at once. An attempt in progress counts as this attempt."""
    await actions.send_now(parse_id(message_id))


@router.post("/delivery/{messageId}/cancel", summary="Cancel a delivery", **ACTED)
async def cancel_delivery(actions: ActionsOnDeliveries, message_id: MessageIdPath) -> None:
    """Cancel an open delivery. An attempt in progress finishes and may still succeed."""
    await actions.cancel(parse_id(message_id))
