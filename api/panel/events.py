"""Page of an event: its data, its deliveries and the explanation for each webhook; lookup by id."""

from uuid import UUID

from starlette.responses import Response

from api.errors import NotFound
from api.explain.service import explained
from api.ids import is_id
from api.panel.delivery import pretty_or_plain
from api.panel.page import Page, PanelRoutes
from api.temporal_links import existing_workflow_url
from domain.access import Scope
from storage.deliveries.log import deliveries_of_event, find_delivery
from storage.events.log import find_event
from storage.subscriptions.names import named_subscriptions

pages = PanelRoutes()

QUOTES = " \t\r\n\"'`,;<>{}"
"""Characters stripped around an id, which come along when it is copied from logs and code."""


@pages.get("/{storeCode}/events", Scope.DELIVERY_READ)
async def found(page: Page) -> Response:
    """Redirect to the delivery or the event with the id in the query; an invalid id gets the search page."""
    wished = page.request.query_params.get("id", "").strip(QUOTES)
    if not is_id(wished):
        return page.render("events/find.html", 200 if not wished else 404, wished=wished)
    async with page.resources.database.transaction() as connection:
        delivery = await find_delivery(connection, page.store_code, UUID(wished))
    if delivery is not None:
        return page.redirect("delivery.shown", messageId=delivery.message_id)
    return page.redirect("events.shown", eventId=UUID(wished))


@pages.get("/{storeCode}/events/{eventId}", Scope.DELIVERY_READ)
async def shown(page: Page) -> Response:
    """Show the event and each webhook of the store, webhooks of this event first."""
    event_id = page.id("eventId")
    why = await explained(page.resources, page.principal, page.store_code, event_id, zone=page.zone)
    async with page.resources.database.transaction() as connection:
        event = await find_event(connection, page.store_code, event_id)
        deliveries = await deliveries_of_event(connection, page.store_code, event_id)
        ids = {row.subscription_id for row in deliveries} | {item.webhook_subscription_id for item in why.items}
        names = await named_subscriptions(connection, page.store_code, ids)
    if event is None and not deliveries:
        return page.render("events/none.html", NotFound.status, event_id=event_id, why=why)
    return page.render(
        "events/one.html",
        event_id=event_id,
        event=event,
        data=None if event is None else pretty_or_plain(event.data),
        why=why,
        deliveries=deliveries,
        names=names,
        temporal_url=None if event is None else await existing_workflow_url(page.resources, event.workflow_id),
    )
