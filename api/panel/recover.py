"""Recover and backfill: bulk actions that deliver again, or deliver events from before the webhook existed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

from starlette.responses import Response

from api.body import validate
from api.bulk_actions.models import BackfillRequest, BulkActionOut, RecoverRequest
from api.bulk_actions.service import BulkActions, Wanted, wanted_of
from api.errors import ApiError, Conflict, NotFound, Unavailable, ValidationFailed, invalid
from api.ids import parse_id
from api.panel.forms import whole
from api.panel.moments import for_field, moment
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from domain.access import Scope
from domain.delivery.lifecycle import DeliveryStatus
from storage.deliveries.bulk_actions import (
    BulkActionKind,
    BulkActionRow,
    bulk_action_progress,
    find_bulk_action,
    recent_bulk_actions,
)
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


@pages.post("/{storeCode}/recover/count", Scope.DELIVERY_ACT)
async def counted(page: Page) -> Response:
    """Show the number of deliveries that the action would open, and the button to begin. Nothing is opened yet."""
    kind = _kind(page)
    try:
        subscription, wanted = await _wanted(page, kind)
        return await count_page(page, subscription, wanted)
    except (ValidationFailed, Conflict) as error:
        return await _form(page, kind, error)


async def count_page(page: Page, subscription: SubscriptionRow, wanted: Wanted) -> Response:
    """Return the page with the count and the button to begin. Raises Conflict if the action could not begin."""
    count = await _actions(page).count(subscription, wanted)
    return page.render(
        "recover/count.html",
        kind=wanted.kind,
        subscription=subscription,
        wanted=wanted,
        count=count,
        rate=_rate_text(wanted, count),
    )


@pages.post("/{storeCode}/recover/begin", Scope.DELIVERY_ACT)
async def begun(page: Page) -> Response:
    """Begin the counted bulk action."""
    kind = _kind(page)
    try:
        subscription, wanted = await _wanted(page, kind)
        action_id, _ = await _actions(page).begin(subscription, wanted)
    except (ValidationFailed, Conflict, Unavailable) as error:
        return await _form(page, kind, error)
    return page.redirect("recover.progress", bulkActionId=action_id)


@pages.get("/{storeCode}/recover/{bulkActionId}", Scope.DELIVERY_READ)
async def progress(page: Page) -> Response:
    """Show the progress of a bulk action."""
    return page.render("recover/progress.html", **await _progress(page))


@pages.get("/{storeCode}/recover/{bulkActionId}/figures", Scope.DELIVERY_READ)
async def figures(page: Page) -> Response:
    """Return the figures of the progress, for the page's polling."""
    return page.fragment("recover/figures.html", **await _progress(page))


@pages.post("/{storeCode}/recover/{bulkActionId}/cancel", Scope.DELIVERY_ACT)
async def cancelled(page: Page) -> Response:
    """Cancel the bulk action: it opens no more deliveries, and those already open continue."""
    action = await _found(page)
    try:
        await _actions(page).cancel(action.id, action.kind)
    except Conflict as refused:
        return await page.done(refused.message, "recover.progress", kind="danger", bulkActionId=action.id)
    return await page.done(t(f"recover.cancelled_{action.kind}"), "recover.progress", bulkActionId=action.id)


async def _form(page: Page, kind: BulkActionKind, error: ApiError | None = None) -> Response:
    if error is not None:
        page.refused(error)
    async with page.resources.database.transaction() as connection:
        subscriptions = await all_subscriptions(connection, page.store_code)
        actions = await recent_bulk_actions(connection, page.store_code, ACTIONS_SHOWN)
    given: Mapping[str, Any] = {
        "webhookSubscriptionId": page.request.query_params.get("webhookSubscriptionId", ""),
        "since": for_field((datetime.now(UTC) - USUAL_WINDOW).replace(second=0), page.zone),
        "until": "",
        "ratePerSecond": "",
        "statuses": STATUSES[:1],
    }
    if page.route.method == "POST":
        given = {name: page.form.text(name) for name in given} | {"statuses": page.form.all("statuses")}
        for name in ("since", "until"):
            given |= {name: _as_field(page, str(given[name]))}
    return page.render(
        "recover/form.html",
        200 if error is None else error.status,
        kind=kind,
        given=given,
        subscriptions=sorted(subscriptions, key=lambda row: (row.event_name, row.name or "", row.url)),
        statuses=[(status, t(f"recover.status_{status}")) for status in STATUSES],
        actions=actions,
    )


async def _wanted(page: Page, kind: BulkActionKind) -> tuple[SubscriptionRow, Wanted]:
    """Parse the form. Raises ValidationFailed."""
    rate = page.form.text("ratePerSecond")
    sent: dict[str, Any] = {"ratePerSecond": whole(rate) if rate else None}
    for name in ("since", "until"):
        instant = moment(page.form.text(name), page.zone, name)
        if instant is not None:
            sent[name] = instant.isoformat()
    if kind is BulkActionKind.RECOVER:
        wanted = wanted_of(validate(RecoverRequest, {**sent, "statuses": list(page.form.all("statuses"))}))
    else:
        wanted = wanted_of(validate(BackfillRequest, sent))
    return await _subscription(page), wanted


async def _subscription(page: Page) -> SubscriptionRow:
    row = None
    chosen = page.form.text("webhookSubscriptionId")
    try:
        async with page.resources.database.transaction() as connection:
            row = await find_subscription(connection, page.store_code, parse_id(chosen))
    except NotFound:
        pass
    if row is None:
        raise invalid("webhookSubscriptionId", "missing", t("recover.no_webhook"))
    return row


async def _progress(page: Page) -> dict[str, Any]:
    action = await _found(page)
    async with page.resources.database.transaction() as connection:
        found = await bulk_action_progress(connection, page.store_code, action.id, action.kind)
    if found is None:
        raise NotFound
    answer = BulkActionOut.of(found)
    seconds = RUNNING_SECONDS if answer.status == "running" else WAITING_SECONDS if answer.waiting else None
    return {"action": action, "progress": answer, "seconds": seconds}


async def _found(page: Page) -> BulkActionRow:
    action_id: UUID = page.id("bulkActionId")
    async with page.resources.database.transaction() as connection:
        action = await find_bulk_action(connection, page.store_code, action_id)
    if action is None:
        raise NotFound
    return action


def _actions(page: Page) -> BulkActions:
    return BulkActions(page.resources, page.store_code, page.actor)


def _kind(page: Page) -> BulkActionKind:
    return BulkActionKind.BACKFILL if page.form.text("kind") == BulkActionKind.BACKFILL else BulkActionKind.RECOVER


def _rate_text(wanted: Wanted, count: int) -> str:
    rate = wanted.rate_per_second
    if rate is None:
        return t("recover.rate_none")
    return t("recover.rate_each", rate=rate, duration=timedelta(seconds=ceil(count / rate)))


def _as_field(page: Page, text: str) -> str:
    """Convert an instant to the format of its form field, and return other text unchanged."""
    try:
        instant = moment(text, page.zone, "")
    except ValidationFailed:
        return text
    return for_field(instant, page.zone)
