"""Settings → Webhooks: the subscriptions of a store."""

from typing import cast, get_args

from starlette.responses import Response

from api.acts import Acts, StatusAct
from api.errors import Conflict, NotFound
from api.panel.page import Page
from api.panel.routes import PanelRoutes
from api.panel.texts import t
from domain.access import Scope
from storage.subscriptions import SUBSCRIPTION_FIELDS, list_subscriptions

pages = PanelRoutes()


@pages.get("/{storeCode}/webhooks", Scope.SUBSCRIPTION_READ)
async def listed(page: Page) -> Response:
    """The table."""
    listing = page.listing(SUBSCRIPTION_FIELDS)
    async with page.resources.database.transaction() as connection:
        found = await list_subscriptions(
            connection, page.store_code, listing.conditions, listing.order, listing.items, listing.offset
        )
    return page.render("webhooks/list.html", found=found, listing=listing)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/status", Scope.SUBSCRIPTION_WRITE)
async def status_changed(page: Page) -> Response:
    """Pause, resume, disable, enable: the field `act`."""
    act = page.form.text("act")
    if act not in get_args(StatusAct):
        raise NotFound
    try:
        acts = Acts(page.resources, page.store_code, page.actor)
        row = await acts.change_status(page.id("webhookSubscriptionId"), cast(StatusAct, act))
    except Conflict as refused:
        return await page.done(refused.message, "webhooks.listed", kind="danger")
    return await page.done(t(f"webhooks.done_{act}", name=row.name or row.event_name), "webhooks.listed")
