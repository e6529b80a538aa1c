"""Recover and backfill: bulk actions that deliver again, or deliver events from before the webhook existed."""

from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from starlette.responses import Response

from api.body import validate
from api.bulk_actions.models import BackfillRequest, RecoverRequest
from api.bulk_actions.service import BulkActions, Wanted, wanted_of
from api.errors import NotFound, ValidationFailed, invalid
from api.ids import parse_id
from api.panel.frame.forms import for_field, moment
from api.panel.frame.page import Page, PanelRoutes
from api.panel.texts import t
from domain.access import Scope
from domain.delivery.lifecycle import DeliveryStatus
from storage.deliveries.bulk_actions import BulkActionKind, bulk_action_progress, find_bulk_action, recent_bulk_actions
from storage.subscriptions.queries import SubscriptionRow, all_subscriptions, find_subscription

ACTIONS_SHOWN = 20
RUNNING_SECONDS, WAITING_SECONDS = 2, 15
"""Polling intervals of a bulk action in seconds: while it opens deliveries, and while some of them are waiting."""
USUAL_WINDOW = timedelta(days=1)
"""Age of the form's default start, which covers an outage of the last day."""
STATUSES = (DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED)

pages = PanelRoutes()


@pages.get("/{storeCode}/recover", Scope.DELIVERY_READ)
async def started(page: Page) -> Response:
    """Show the form of a recovery, and the recent bulk actions."""
    return await _form(page, BulkActionKind.RECOVER)


@pages.get("/{storeCode}/recover/backfill", Scope.DELIVERY_READ)
async def backfill(page: Page) -> Response:
    """Show the form of a backfill, and the recent bulk actions."""
    return await _form(page, BulkActionKind.BACKFILL)


async def _again(page: Page) -> Response:
    return await _form(page, _kind(page))


@pages.post("/{storeCode}/recover/count", Scope.DELIVERY_ACT, refused=_again)
async def counted(page: Page) -> Response:
    """Show the number of deliveries that the action would open, and the button to begin. Nothing is opened yet."""
    return await count_page(page, *await _wanted(page))


async def count_page(page: Page, subscription: SubscriptionRow, wanted: Wanted) -> Response:
    """Return the page with the count and the button to begin. Raises Conflict if the action could not begin."""
    count = await page.actions(BulkActions).count(subscription, wanted)
    said, rate = t("recover.rate_none"), wanted.rate_per_second
    if rate is not None:
        said = t("recover.rate_each", rate=rate, duration=timedelta(seconds=ceil(count / rate)))
    return page.render(
        "recover/count.html", kind=wanted.kind, subscription=subscription, wanted=wanted, count=count, rate=said
    )


@pages.post("/{storeCode}/recover/begin", Scope.DELIVERY_ACT, refused=_again)
async def begun(page: Page) -> Response:
    """Begin the counted bulk action."""
    action_id, _ = await page.actions(BulkActions).begin(*await _wanted(page))
    return page.redirect("recover.progress", bulkActionId=action_id)


@pages.get("/{storeCode}/recover/{bulkActionId}", Scope.DELIVERY_READ)
async def progress(page: Page) -> Response:
    """Show the progress of a bulk action."""
    return await _progress(page, "recover/progress.html")


@pages.get("/{storeCode}/recover/{bulkActionId}/figures", Scope.DELIVERY_READ)
async def figures(page: Page) -> Response:
    """Return the figures of the progress, for the page's polling."""
    return await _progress(page, "recover/figures.html")


@pages.post("/{storeCode}/recover/{bulkActionId}/cancel", Scope.DELIVERY_ACT, refused="recover.progress")
async def cancelled(page: Page) -> Response:
    """Cancel the bulk action: it opens no more deliveries, and those already open continue."""
    action = await page.found(find_bulk_action, page.id("bulkActionId"))
    await page.actions(BulkActions).cancel(action.id, action.kind)
    return await page.done(t(f"recover.cancelled_{action.kind}"), "recover.progress")


async def _form(page: Page, kind: BulkActionKind) -> Response:
    async with page.resources.database.transaction() as connection:
        subscriptions = await all_subscriptions(connection, page.store_code)
        actions = await recent_bulk_actions(connection, page.store_code, ACTIONS_SHOWN)
    given: dict[str, Any] = {
        "webhookSubscriptionId": page.query("webhookSubscriptionId"),
        "since": for_field((datetime.now(UTC) - USUAL_WINDOW).replace(second=0), page.zone),
        "until": "",
        "ratePerSecond": "",
        "statuses": STATUSES[:1],
    }
    if page.route.method == "POST":
        given = {name: page.form.text(name) for name in given} | {"statuses": page.form.getlist("statuses")}
        given |= {name: _as_field(page, given[name]) for name in ("since", "until")}
    return page.render(
        "recover/form.html",
        kind=kind,
        given=given,
        subscriptions=sorted(subscriptions, key=lambda row: (row.event_name, row.name or "", row.url)),
        statuses=[(status, t(f"recover.status_{status}")) for status in STATUSES],
        actions=actions,
    )


async def _wanted(page: Page) -> tuple[SubscriptionRow, Wanted]:
    """Parse the form. Raises ValidationFailed."""
    sent: dict[str, Any] = {"ratePerSecond": page.form.number("ratePerSecond")}
    for name in ("since", "until"):
        instant = moment(page.form.text(name), page.zone, name)
        if instant is not None:
            sent[name] = instant.isoformat()
    if _kind(page) is BulkActionKind.RECOVER:
        wanted = wanted_of(validate(RecoverRequest, {**sent, "statuses": list(page.form.getlist("statuses"))}))
    else:
        wanted = wanted_of(validate(BackfillRequest, sent))
    try:
        return await page.found(find_subscription, parse_id(page.form.text("webhookSubscriptionId"))), wanted
    except NotFound:
        raise invalid("webhookSubscriptionId", "missing", t("recover.no_webhook")) from None


async def _progress(page: Page, template: str) -> Response:
    action = await page.found(find_bulk_action, page.id("bulkActionId"))
    found = await page.found(bulk_action_progress, action.id, action.kind)
    seconds = RUNNING_SECONDS if found.status == "running" else WAITING_SECONDS if found.waiting else None
    return page.render(template, action=action, progress=found, seconds=seconds)


def _kind(page: Page) -> BulkActionKind:
    return BulkActionKind.BACKFILL if page.form.text("kind") == BulkActionKind.BACKFILL else BulkActionKind.RECOVER


def _as_field(page: Page, text: str) -> str:
    """Convert an instant to the format of its form field, and return other text unchanged."""
    try:
        return for_field(moment(text, page.zone, ""), page.zone)
    except ValidationFailed:
        return text
