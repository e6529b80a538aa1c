"""Routes that read and replace all subscriptions of a store at once."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.access import SubscriptionRead, SubscriptionWrite
from api.body import JsonBody
from api.resources import FromResources
from api.subscription_sets.models import SetAnswer, StoredSet, StoredSubscription, SubscriptionSet
from api.subscription_sets.service import apply_set, order
from api.subscriptions.models import MaskedHeader
from api.subscriptions.service import Editor
from storage.access.audit import MASK
from storage.subscriptions.queries import all_subscriptions, open_headers

WRAPPER = "subscriptionSet"
LIMIT_BYTES = 8 * 1024 * 1024
"""Maximum body. Fits 500 subscriptions with three headers of maximum length."""

router = APIRouter(prefix="/api/{storeCode}/webhook/subscription-set", tags=["subscriptions"])

SetBody = Annotated[SubscriptionSet, Depends(JsonBody(SubscriptionSet, WRAPPER, LIMIT_BYTES))]


@router.get("", summary="List all stored subscriptions")
async def read(access: SubscriptionRead, resources: FromResources) -> StoredSet:
    """Return the settable fields of all subscriptions in one snapshot; header values are masked."""
    async with resources.database.transaction() as connection:
        rows = await all_subscriptions(connection, access.store_code)
    subscriptions = []
    for row in sorted(rows, key=order):
        headers = open_headers(row.sealed_headers, resources.sealer)
        subscriptions.append(
            StoredSubscription(
                webhook_subscription_id=row.id,
                event_name=row.event_name,
                name=row.name,
                url=row.url,
                legacy=row.legacy,
                headers=[MaskedHeader(header_name=header.name, header_value=MASK) for header in headers],
                hmac_enabled=row.hmac_enabled,
                active_from=row.active_from,
                rate_limit_per_second=row.rate_limit_per_second,
                max_concurrency=row.max_concurrency,
                ordered=row.ordered,
                order_key=row.order_key,
                after_exhausted=row.after_exhausted,
                retry_schedule=row.retry_schedule,
            )
        )
    return StoredSet(subscriptions=subscriptions)


@router.post("", summary="Apply a set of subscriptions", responses={409: {}})
async def apply(access: SubscriptionWrite, body: SetBody, resources: FromResources) -> SetAnswer:
    """Apply all changes or none. With `dryRun`, report the changes, including which header values differ.

    A dry run needs the right to write because it can be used to test guesses of a stored header value.
    """
    return await apply_set(Editor(resources, access.store_code, access.actor), body)
