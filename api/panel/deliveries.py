"""Deliveries: the delivery log of a store, newest first, which announces new deliveries."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from api.deliveries.service import LogPage, log_page, read_cursor, write_cursor
from api.errors import ValidationFailed
from api.ids import is_id, parse_id
from api.listing import CURSOR, ITEMS, ITEMS_MOST, Listing
from api.panel.page import Page, PanelRoutes
from api.panel.redelivery import UnfitFilterError, recoverable
from domain.access import Scope
from domain.delivery.lifecycle import DeliveryStatus
from domain.events.catalogue import CATALOGUE
from storage.deliveries.log import LOG_FIELDS, LOOKED_AT, DeliveryRow, Position, delivery_page
from storage.listing import Condition, Operator
from storage.subscriptions.names import NamedSubscription, named_subscriptions

ITEMS_SHOWN = 25
ANNOUNCED_MOST = 100
"""Maximum number of new deliveries that are counted; above it the page says "more than"."""
OPEN_ROWS = "open"
"""Query parameter of the list's script: ids of the rows shown that may have changed."""

pages = PanelRoutes()


@pages.get("/{storeCode}/deliveries", Scope.DELIVERY_READ)
async def listed(page: Page) -> Response:
    """Show the table."""
    listing = _listing(page)
    async with page.resources.database.transaction() as connection:
        try:
            found = await log_page(connection, page.store_code, listing)
        except ValidationFailed as error:
            page.errors[""] = error.problems[0].message
            listing = replace(listing, cursor=None)
            found = await log_page(connection, page.store_code, listing)
        ids = {row.subscription_id for row in found.rows} | _asked_for(listing)
        names = await named_subscriptions(connection, page.store_code, ids, others=True)
        unfit = await _unfit(page, connection, listing) if page.filtered and page.may(Scope.DELIVERY_ACT) else None
    return page.render(
        "deliveries/list.html",
        found=found,
        further=listing.cursor is not None,
        looked_at=LOOKED_AT,
        names=names,
        events=[(name, name) for name in sorted(CATALOGUE)],
        webhooks=[(str(one.id), f"{one.title}, {one.url}") for one in names.values()],
        statuses=[(status, status) for status in DeliveryStatus],
        filter=_query(page, CURSOR, ITEMS),
        unfit=unfit,
        fresh=_fresh_url(page, found) if listing.cursor is None and not page.errors else None,
    )


@pages.get("/{storeCode}/deliveries/fresh", Scope.DELIVERY_READ)
async def fresh(page: Page) -> Response:
    """Return the number of deliveries newer than `_cursor`, and the current open rows, for the list's script."""
    listing = _listing(page, besides=(OPEN_ROWS,))
    shown = [parse_id(one) for one in page.request.query_params.get(OPEN_ROWS, "").split(",") if is_id(one)]
    newer: Sequence[DeliveryRow] = []
    rows: list[DeliveryRow] = []
    names: dict[UUID, NamedSubscription] = {}
    async with page.resources.database.transaction() as connection:
        if not page.errors:
            after = None if listing.cursor is None else read_cursor(listing.cursor)
            conditions = [*listing.conditions, *_since(after)]
            found = await delivery_page(connection, page.store_code, conditions, None, ANNOUNCED_MOST + 1)
            newer = [row for row in found.rows if after is None or (row.created_at, row.message_id) > _place(after)]
        if shown:
            wanted = [Condition("messageId", Operator.IN, tuple(shown[:ITEMS_MOST]))]
            rows = (await delivery_page(connection, page.store_code, wanted, None, ITEMS_MOST)).rows
            names = await named_subscriptions(connection, page.store_code, {row.subscription_id for row in rows})
    return page.fragment(
        "deliveries/fresh.html",
        count=min(len(newer), ANNOUNCED_MOST),
        more=len(newer) > ANNOUNCED_MOST,
        rows=rows,
        names=names,
        newest=page.url("deliveries.listed", _query(page, CURSOR, OPEN_ROWS)),
    )


def _listing(page: Page, besides: Collection[str] = ()) -> Listing:
    listing = page.listing(LOG_FIELDS, cursor=True, besides=besides)
    return listing if ITEMS in page.request.query_params else replace(listing, items=ITEMS_SHOWN)


async def _unfit(page: Page, connection: AsyncConnection, listing: Listing) -> str | None:
    """Return the reason why the deliveries of the filter cannot be redelivered together, or None."""
    try:
        await recoverable(connection, page.store_code, listing.conditions)
    except UnfitFilterError as unfit:
        return str(unfit)
    return None


def _asked_for(listing: Listing) -> set[UUID]:
    """Return the subscription of the filter. It stays selectable in the filter even when it is deleted."""
    return {
        one.value for one in listing.conditions if one.field == "webhookSubscriptionId" and one.operator is Operator.EQ
    }


def _query(page: Page, *without: str) -> dict[str, object]:
    return {name: value for name, value in page.request.query_params.multi_items() if name not in without}


def _fresh_url(page: Page, found: LogPage) -> str:
    top = {CURSOR: write_cursor(found.rows[0])} if found.rows else {}
    return page.url("deliveries.fresh", _query(page, CURSOR) | top)


def _since(after: Position | None) -> list[Condition]:
    return [] if after is None else [Condition("createdAt", Operator.GTE, after.created_at)]


def _place(position: Position) -> tuple[object, UUID]:
    return position.created_at, position.message_id
