"""Routes of the delivery log: pages newest first, and one delivery with its attempts."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.access import DeliveryRead
from api.deliveries.models import DeliveryDetails, DeliveryPage
from api.deliveries.service import log_page, sent_body
from api.errors import existing
from api.ids import MessageIdPath, parse_id
from api.listing import Listing, ListQuery
from api.resources import FromResources
from api.temporal_links import existing_url
from storage.deliveries.log import LOG_FIELDS, attempts_of, find_delivery
from storage.events.intake import find_event

router = APIRouter(prefix="/api/{storeCode}/webhook/delivery", tags=["deliveries"])

LogListing = Annotated[Listing, Depends(ListQuery(LOG_FIELDS, order=False, cursor=True))]


@router.get("", summary="List deliveries")
async def list_deliveries(access: DeliveryRead, resources: FromResources, listing: LogListing) -> DeliveryPage:
    """Return a page of the store's deliveries, newest first. Deliveries added meanwhile do not shift later pages.

    Continue until `nextCursor` is null, even after a short or empty page: filters by a part of an id or instant, and
    by ids above or below a value, scan a bounded part of the log per page.
    """
    page = await resources.database.run(log_page, access.store_code, listing)
    return DeliveryPage(items=page.rows, next_cursor=page.next_cursor)


@router.get("/{messageId}", summary="Details of a delivery")
async def get_delivery(access: DeliveryRead, resources: FromResources, message_id: MessageIdPath) -> DeliveryDetails:
    """Return the delivery, its attempts and the body of the last attempt."""
    async with resources.database.transaction() as connection:
        row = existing(await find_delivery(connection, access.store_code, parse_id(message_id)))
        attempts = await attempts_of(connection, row.message_id)
        event = await find_event(connection, access.store_code, row.event_id)
    body = sent_body(event, row, attempts[-1] if attempts else None, resources.sealer.open)
    url = await existing_url(resources, workflow_id=row.workflow_id, retry_id=row.retry_id)
    return DeliveryDetails.of(row, attempt_list=attempts, body=body.text, body_note=body.note, temporal_url=url)
