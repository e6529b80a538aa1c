"""Migrate to modern: the format migration of each legacy webhook.

It has three steps: compare the legacy and the modern body, create the paused modern webhook of the pair, switch over.
"""

from dataclasses import replace

from starlette.responses import Response

from api.panel.frame.page import Page, PanelRoutes
from api.panel.texts import t
from api.subscriptions.format_migration import FormatMigrations
from domain.access import Scope
from domain.delivery.lifecycle import SubscriptionStatus
from domain.events.catalogue import CATALOGUE, mask_secrets
from domain.events.examples import EXAMPLE_MESSAGE_ID, EXAMPLE_REQUEST_ID, example_facts
from domain.wire.bodies import EventFacts, legacy_body, modern_body, modern_data_text, variants
from domain.wire.jsontext import dump
from domain.wire.legacy_mapping import field_pairs
from storage.deliveries.log import DeliveryRow, delivery_page
from storage.events.intake import find_event
from storage.listing import Condition, Operator
from storage.subscriptions.format_migration import PairRow, find_legacy, legacy_subscriptions

NEWEST_DELIVERIES = 10
"""Number of newest deliveries searched for the last real event. Deliveries of tests are skipped."""

ONE = "/{storeCode}/migrate/{webhookSubscriptionId}"

pages = PanelRoutes()


@pages.get("/{storeCode}/migrate", Scope.SUBSCRIPTION_READ)
async def listed(page: Page) -> Response:
    """Show the legacy webhooks with the stage of their migration."""
    rows = await page.read(legacy_subscriptions)
    return page.render("migrate/list.html", rows=[(row, stage(row)) for row in rows])


@pages.get(ONE, Scope.SUBSCRIPTION_READ)
async def compared(page: Page) -> Response:
    """Compare the webhook's last event in both formats, field by field.

    Without the right to read deliveries, a sample of the event is compared instead.
    """
    row = await page.found(find_legacy, page.id("webhookSubscriptionId"))
    facts, delivery = await _last_event(page, row) if page.may(Scope.DELIVERY_READ) else (None, None)
    if facts is None:
        event_type = CATALOGUE[row.event_name]
        sample = dump(mask_secrets(event_type, event_type.sample))
        facts = replace(example_facts(event_type), store_code=page.store_code, data_text=sample)
    zone, message_id = page.store.timezone, EXAMPLE_MESSAGE_ID if delivery is None else delivery.message_id
    return page.render(
        "migrate/one.html",
        row=row,
        stage=stage(row),
        delivery=delivery,
        bodies=[
            (variant, field_pairs(facts, variant, zone), legacy_body(facts, variant, zone))
            for variant in variants(facts.name, facts.data_text, legacy=True)
        ],
        modern=modern_body(facts, modern_data_text(facts.name, facts.data_text), message_id, EXAMPLE_REQUEST_ID),
    )


@pages.post("/{storeCode}/migrate/{webhookSubscriptionId}/copy", Scope.SUBSCRIPTION_WRITE, refused="migrate.compared")
async def modern_made(page: Page) -> Response:
    """Create the paused modern webhook of the pair. An existing one is kept."""
    row = await page.actions(FormatMigrations).create_modern(page.id("webhookSubscriptionId"))
    return await page.done(t("migrate.modern_made", name=row.modern_name), "migrate.compared")


@pages.get("/{storeCode}/migrate/{webhookSubscriptionId}/switch", Scope.SUBSCRIPTION_WRITE, refused="migrate.compared")
async def switch(page: Page) -> Response:
    """Show the plan of the switch: the number of events that each webhook of the pair would send."""
    row, plan = await page.actions(FormatMigrations).plan(page.id("webhookSubscriptionId"))
    return page.render("migrate/switch.html", row=row, plan=plan)


@pages.post("/{storeCode}/migrate/{webhookSubscriptionId}/switch", Scope.SUBSCRIPTION_WRITE, refused="migrate.compared")
async def switched(page: Page) -> Response:
    """Switch over from the legacy to the modern webhook."""
    row = await page.actions(FormatMigrations).switch_over(page.id("webhookSubscriptionId"))
    return await page.done(t("migrate.switched", name=row.modern_name), "migrate.listed")


def stage(row: PairRow) -> str:
    """Return the stage of a migration.

    `legacy`: no modern webhook yet. `modern_waiting`: the modern webhook exists and sends nothing. `both`: both send.
    `switched`: only the modern webhook sends.
    """
    if row.modern_id is None:
        return "legacy"
    if row.modern_status != SubscriptionStatus.ACTIVE:
        return "modern_waiting"
    return "both" if row.status == SubscriptionStatus.ACTIVE else "switched"


async def _last_event(page: Page, row: PairRow) -> tuple[EventFacts | None, DeliveryRow | None]:
    """Return the webhook's last real event with its delivery, or two Nones if its data is no longer stored."""
    of_webhook = [Condition("webhookSubscriptionId", Operator.EQ, row.id)]
    async with page.resources.database.transaction() as connection:
        newest = await delivery_page(connection, page.store_code, of_webhook, None, NEWEST_DELIVERIES)
        delivery = next((one for one in newest.rows if one.variant != "test"), None)
        event = None if delivery is None else await find_event(connection, page.store_code, delivery.event_id)
    if event is None or event.data is None:
        return None, None
    return EventFacts(event.event_id, event.name, event.store_code, event.created_at_text, event.data), delivery
