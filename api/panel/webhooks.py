"""Settings → Webhooks: list and page of a store's subscriptions, and their operator actions."""

from typing import cast, get_args

from starlette.responses import Response

from api.actions.service import OperatorActions, StatusAction
from api.errors import Conflict, NotFound
from api.panel.once import take_once
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from api.panel.webhook_fields import shown_schedule
from api.panel.webhook_form import found, saved
from api.subscriptions.service import Editor, details_of
from domain.access import Scope
from domain.delivery.lifecycle import SubscriptionStatus
from domain.events.catalogue import CATALOGUE
from storage.deliveries.figures import COUNTED_OPEN, open_deliveries, traffic_of_day
from storage.subscriptions.queries import FIELDS_AND_STATUS, list_subscriptions

pages = PanelRoutes()


@pages.get("/{storeCode}/webhooks", Scope.SUBSCRIPTION_READ)
async def listed(page: Page) -> Response:
    """Show the table."""
    listing = page.listing(FIELDS_AND_STATUS)
    async with page.resources.database.transaction() as connection:
        rows = await list_subscriptions(
            connection, page.store_code, listing.conditions, listing.order, listing.items, listing.offset
        )
        traffic = await traffic_of_day(connection, page.store_code, [row.id for row in rows.rows])
    return page.render(
        "webhooks/list.html",
        found=rows,
        listing=listing,
        traffic={one.id: one for one in traffic},
        statuses=[(status, status) for status in SubscriptionStatus],
    )


@pages.get("/{storeCode}/webhooks/{webhookSubscriptionId}", Scope.SUBSCRIPTION_READ)
async def shown(page: Page) -> Response:
    """Show a webhook: its state, its settings and its operator actions."""
    row = await found(page, page.id("webhookSubscriptionId"))
    async with page.resources.database.transaction() as connection:
        traffic = await traffic_of_day(connection, page.store_code, [row.id])
        waiting = await open_deliveries(connection, page.store_code, row.id)
    details = details_of(row, page.resources)
    return page.render(
        "webhooks/shown.html",
        webhook=details,
        event_type=CATALOGUE.get(row.event_name),
        schedule=shown_schedule(details.retry_schedule),
        traffic=traffic[0] if traffic else None,
        waiting=waiting,
        counted_most=COUNTED_OPEN,
    )


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/status", Scope.SUBSCRIPTION_WRITE)
async def status_changed(page: Page) -> Response:
    """Pause, resume, disable or enable the webhook, as the field `act` says."""
    action = page.form.text("act")
    if action not in get_args(StatusAction):
        raise NotFound
    subscription_id = page.id("webhookSubscriptionId")
    actions = OperatorActions(page.resources, page.store_code, page.actor)
    try:
        row = await actions.change_status(subscription_id, cast(StatusAction, action))
    except Conflict as refused:
        return await page.done(refused.message, "webhooks.shown", kind="danger", webhookSubscriptionId=subscription_id)
    text = t(f"webhooks.done_{action}", name=row.name or row.event_name)
    return await page.done(text, "webhooks.shown", webhookSubscriptionId=subscription_id)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/rotate", Scope.SUBSCRIPTION_WRITE)
async def rotated(page: Page) -> Response:
    """Create a new signing key and show it once."""
    row = await found(page, page.id("webhookSubscriptionId"))
    try:
        async with page.resources.database.transaction() as connection:
            await take_once(page, connection)
            editor = Editor(page.resources, page.store_code, page.actor)
            secret, _ = await editor.rotate(connection, row.id)
    except Conflict as refused:
        return await page.done(refused.message, "webhooks.shown", kind="danger", webhookSubscriptionId=row.id)
    return await saved(page, row, t("webhooks.rotated", name=row.name or row.event_name), secret)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/delete", Scope.SUBSCRIPTION_WRITE)
async def deleted(page: Page) -> Response:
    """Delete the webhook and cancel its waiting deliveries."""
    row = await found(page, page.id("webhookSubscriptionId"))
    await Editor(page.resources, page.store_code, page.actor).remove(row)
    return await page.done(t("webhooks.deleted", name=row.name or row.event_name), "webhooks.listed")
