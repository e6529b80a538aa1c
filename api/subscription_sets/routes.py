"""All subscriptions of a store at once: read, and brought to what is wanted."""

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
LIMIT_BYTES = 8 * 1024 * 1024  # 500 subscriptions with three headers as long as they may be

router = APIRouter(prefix="/api/{storeCode}/webhook/subscription-set", tags=["subscriptions"])

SetBody = Annotated[SubscriptionSet, Depends(JsonBody(SubscriptionSet, WRAPPER, LIMIT_BYTES))]


@router.get("", summary="All subscriptions, as they are stored")
async def read(access: SubscriptionRead, resources: FromResources) -> StoredSet:
    """What may be set of every subscription, at one instant; header values are masked."""
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


@router.post("", summary="Bring all subscriptions to what is wanted", responses={409: {}})
async def apply(access: SubscriptionWrite, body: SetBody, resources: FromResources) -> SetAnswer:
    """Everything or nothing. With `dryRun` it tells what it would do, which values of headers differ included.

    That is why a dry run needs the right to write: by it one can try out whether a value is the stored one.
    """
    return await apply_set(Editor(resources, access.store_code, access.actor), body)
