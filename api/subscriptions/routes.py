"""Routes of subscriptions: list, create, details, update, delete, rotate the signing key."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from api.access import StoreAccess, StoreRight, SubscriptionRead, SubscriptionWrite
from api.body import JSON, JsonBody
from api.errors import existing
from api.idempotency import IdempotencyKey
from api.ids import id_path, parse_id
from api.listing import Listing, ListQuery
from api.resources import FromResources
from api.store_actions import acting
from api.subscriptions.models import (
    KeyRotated,
    SigningSwitchedOn,
    SubscriptionCreate,
    SubscriptionCreated,
    SubscriptionDetails,
    SubscriptionList,
    SubscriptionUpdate,
    Total,
)
from api.subscriptions.service import Editor, checked_details_of, create_once, details_of
from domain.access import Scope
from storage.subscriptions.queries import SUBSCRIPTION_FIELDS, SubscriptionRow, find_subscription, subscription_page

WRAPPER = "webhookSubscription"

router = APIRouter(prefix="/api/{storeCode}/webhook/subscription", tags=["subscriptions"])

IdPath = Annotated[str, id_path("webhookSubscriptionId", "Id of the webhook.")]


def of_path(scope: Scope) -> Callable[..., Awaitable[SubscriptionRow]]:
    """Return a dependency that requires a right and returns the webhook of the path.

    It is looked up before the body is read, so that an unknown id is a 404 with any body.
    """

    async def find(
        access: Annotated[StoreAccess, Depends(StoreRight(scope))], resources: FromResources, subscription_id: IdPath
    ) -> SubscriptionRow:
        return existing(await resources.database.run(find_subscription, access.store_code, parse_id(subscription_id)))

    return find


ReadableSubscription = Annotated[SubscriptionRow, Depends(of_path(Scope.SUBSCRIPTION_READ))]
WritableSubscription = Annotated[SubscriptionRow, Depends(of_path(Scope.SUBSCRIPTION_WRITE))]
SubscriptionListing = Annotated[Listing, Depends(ListQuery(SUBSCRIPTION_FIELDS))]
CreateBody = Annotated[SubscriptionCreate, Depends(JsonBody(SubscriptionCreate, WRAPPER))]
UpdateBody = Annotated[SubscriptionUpdate, Depends(JsonBody(SubscriptionUpdate, WRAPPER))]
Editing = Annotated[Editor, Depends(acting(Editor, Scope.SUBSCRIPTION_WRITE))]

SWITCHED_ON: dict[str, Any] = {
    "model": SigningSwitchedOn,
    "description": "Signing was switched on; no other call returns the key.",
}


@router.get("", summary="List webhooks")
async def list_subscriptions(
    access: SubscriptionRead, resources: FromResources, listing: SubscriptionListing
) -> SubscriptionList:
    """Return a page of the store's webhooks, oldest first unless ordered otherwise."""
    page = await resources.database.run(
        subscription_page, access.store_code, listing.conditions, listing.order, listing.items, listing.offset
    )
    items = [details_of(row, resources) for row in page.rows]
    return SubscriptionList(items=items, total=Total(all=page.all, filtered=page.filtered))


@router.post("", summary="Create a webhook", response_model_exclude_none=True)
async def create_subscription(
    access: SubscriptionWrite, resources: FromResources, body: CreateBody, key: IdempotencyKey
) -> SubscriptionCreated:
    """Create a webhook. New events are delivered to its URL. Only this response shows the signing key."""
    [(subscription_id, secret)] = await create_once(resources, access.store_code, access.principal, [body], key)
    return SubscriptionCreated(webhook_subscription_id=subscription_id, hmac_secret=secret)


@router.get("/{webhookSubscriptionId}", summary="Details of a webhook")
async def get_subscription(subscription: ReadableSubscription, resources: FromResources) -> SubscriptionDetails:
    """Return the webhook; header values are masked."""
    return await checked_details_of(subscription, resources)


@router.put(
    "/{webhookSubscriptionId}",
    summary="Update a webhook",
    status_code=204,
    response_model=None,
    responses={200: SWITCHED_ON},
)
async def update_subscription(editor: Editing, subscription: WritableSubscription, body: UpdateBody) -> Response:
    """Update the given fields; others stay unchanged. Open deliveries use the new values from their next attempt."""
    secret = await editor.change(subscription, body)
    if secret is None:
        return Response(status_code=204)
    return Response(SigningSwitchedOn(hmac_secret=secret).model_dump_json(by_alias=True), media_type=JSON)


@router.delete("/{webhookSubscriptionId}", summary="Delete a webhook", status_code=204)
async def delete_subscription(editor: Editing, subscription: WritableSubscription) -> None:
    """Delete a webhook and cancel its open deliveries. Attempts in progress finish."""
    await editor.remove(subscription)


@router.post("/{webhookSubscriptionId}/rotate-hmac-secret", summary="Rotate the signing key", responses={409: {}})
async def rotate_hmac_secret(editor: Editing, subscription: WritableSubscription) -> KeyRotated:
    """Create a new key and return it. For 24 hours, `webhook-signature` also has a signature of the old key.

    Webhooks that were added together for one URL share a key: all that still have it get the new one.
    """
    secret, version, others = await editor.resources.database.run(editor.rotate, subscription)
    return KeyRotated(hmac_secret=secret, signature_version=version, shared_with=[one.id for one in others])
