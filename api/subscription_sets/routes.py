"""Routes that read and replace all subscriptions of a store at once."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.access import SubscriptionRead
from api.body import JsonBody
from api.resources import FromResources
from api.subscription_sets.models import SetAnswer, StoredSet, SubscriptionSet
from api.subscription_sets.service import apply_set, order, stored_of
from api.subscriptions.routes import Editing
from storage.subscriptions.queries import all_subscriptions

WRAPPER = "subscriptionSet"
LIMIT_BYTES = 8 * 1024 * 1024
"""Maximum body. Fits 500 webhooks with three headers of maximum length."""

router = APIRouter(prefix="/api/{storeCode}/webhook/subscription-set", tags=["subscriptions"])

SetBody = Annotated[SubscriptionSet, Depends(JsonBody(SubscriptionSet, WRAPPER, LIMIT_BYTES))]


@router.get("", summary="List all stored webhooks")
async def get_subscription_set(access: SubscriptionRead, resources: FromResources) -> StoredSet:
    """Return the settable fields of all webhooks in one snapshot; header values are masked."""
    rows = await resources.database.run(all_subscriptions, access.store_code)
    return StoredSet(subscriptions=[stored_of(row, resources.sealer) for row in sorted(rows, key=order)])


@router.post("", summary="Apply a set of webhooks", responses={409: {}})
async def apply_subscription_set(editor: Editing, body: SetBody) -> SetAnswer:
    """Apply all changes or none. With `dryRun`, report the changes, including which header values differ.

    A dry run needs the right to write because it can be used to test guesses of a stored header value.
    """
    return await apply_set(editor, body)
