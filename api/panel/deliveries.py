"""Deliveries: the delivery log of a store, which announces new deliveries; bulk redelivery; a delivery; an event."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from api.actions.service import OperatorActions
from api.bulk_actions.service import Wanted
from api.deliveries.service import log_page, read_cursor, sent_body, sent_request, write_cursor
from api.errors import Conflict, NotFound, Unavailable, ValidationFailed, existing
from api.explain.models import ExplainedItem
from api.explain.service import explained
from api.ids import is_id, parse_id
from api.listing import CURSOR, ITEMS, ITEMS_MOST, Listing
from api.panel.frame.page import Page, PanelRoutes
from api.panel.recover import count_page
from api.panel.texts import TEXTS, t
from api.temporal_links import existing_url
from domain.access import Scope
from domain.delivery.failure_kinds import EXPLANATIONS, FailureExplanation, failure_explanation
from domain.delivery.lifecycle import OPEN, DeliveryStatus, SubscriptionStatus
from domain.events.catalogue import CATALOGUE
from domain.urls.targets import webhook_title
from domain.wire.bodies import TEST
from storage.deliveries.bulk_actions import BulkActionKind, TimeWindow
from storage.deliveries.log import (
    LOG_FIELDS,
    LOOKED_AT,
    AttemptRow,
    DeliveryRow,
    attempts_of,
    deliveries_of_event,
    delivery_page,
    find_delivery,
)
from storage.events.intake import find_event
from storage.listing import Condition, Operator
from storage.subscriptions.queries import (
    NamedSubscription,
    SubscriptionRow,
    all_subscriptions,
    find_subscription,
    named_subscriptions,
)

ITEMS_SHOWN = 25
ANNOUNCED_MOST = 100
"""Maximum number of new deliveries that are counted; above it the page says "more than"."""
OPEN_ROWS = "open"
"""Query parameter of the list's script: ids of the rows shown that may have changed."""
SCALE_LEAST_MS = 1000
"""Minimum scale of the duration bars, which is otherwise the longest attempt. Without it, 12 ms could fill the bar."""
QUOTES = " \t\r\n\"'`,;<>{}"
"""Characters stripped around an id, which come along when it is copied from logs and code."""
WITHOUT_SUCCESS = (DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELLED)

pages = PanelRoutes()


class UnfitFilterError(Exception):
    """Filter that is not a time window of one webhook's deliveries; the message says which part to change."""


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
        # The subscription of the filter stays selectable even when it is deleted.
        ids = {row.subscription_id for row in found.rows}.union(chosen_webhooks(listing.conditions))
        names = await named_subscriptions(connection, page.store_code, ids, others=True)
        unfit = None
        if page.filtered and page.may(Scope.DELIVERY_ACT):
            try:
                await recoverable(connection, page.store_code, listing.conditions)
            except UnfitFilterError as error:
                unfit = str(error)
    top = {CURSOR: write_cursor(found.rows[0])} if found.rows else {}
    live = listing.cursor is None and not page.errors
    return page.render(
        "deliveries/list.html",
        found=found,
        further=listing.cursor is not None,
        looked_at=LOOKED_AT,
        names=names,
        events=[(name, name) for name in sorted(CATALOGUE)],
        webhooks=[
            (str(one.id), ", ".join(filter(None, (one.name, one.event_name, one.url)))) for one in names.values()
        ],
        statuses=[(status, TEXTS.get(f"frame.status_{status}", status)) for status in DeliveryStatus],
        kinds=[
            (kind, t("deliveries.failure_of", words=explanation.words, code=kind))
            for kind, explanation in EXPLANATIONS.items()
        ],
        filter=_query(page, CURSOR, ITEMS),
        unfit=unfit,
        fresh=page.url("deliveries.fresh", _query(page, CURSOR) | top) if live else None,
    )


@pages.get("/{storeCode}/deliveries/fresh", Scope.DELIVERY_READ)
async def fresh(page: Page) -> Response:
    """Return the number of deliveries newer than `_cursor`, and the current open rows, for the list's script."""
    listing = _listing(page, besides=(OPEN_ROWS,))
    shown = [UUID(one) for one in page.query(OPEN_ROWS).split(",") if is_id(one)][:ITEMS_MOST]
    newer, rows = 0, list[DeliveryRow]()
    names: dict[UUID, NamedSubscription] = {}
    async with page.resources.database.transaction() as connection:
        if not page.errors:
            after = None if listing.cursor is None else read_cursor(listing.cursor)
            since = [] if after is None else [Condition("createdAt", Operator.GTE, after.created_at)]
            conditions = [*listing.conditions, *since]
            found = await delivery_page(connection, page.store_code, conditions, None, ANNOUNCED_MOST + 1)
            newer = sum(
                after is None or (row.created_at, row.message_id) > (after.created_at, after.message_id)
                for row in found.rows
            )
        if shown:
            wanted = [Condition("messageId", Operator.IN, tuple(shown))]
            rows = (await delivery_page(connection, page.store_code, wanted, None, ITEMS_MOST)).rows
            names = await named_subscriptions(connection, page.store_code, {row.subscription_id for row in rows})
    return page.render(
        "deliveries/fresh.html",
        count=min(newer, ANNOUNCED_MOST),
        more=newer > ANNOUNCED_MOST,
        rows=rows,
        names=names,
        newest=page.url("deliveries.listed", _query(page, CURSOR, OPEN_ROWS)),
    )


@pages.get("/{storeCode}/deliveries/redeliver", Scope.DELIVERY_ACT)
async def chosen(page: Page) -> Response:
    """Ask for confirmation to redeliver the deliveries `messageId`."""
    ids = [UUID(one) for one in page.request.query_params.getlist("messageId") if is_id(one)][:ITEMS_MOST]
    async with page.resources.database.transaction() as connection:
        conditions = [Condition("messageId", Operator.IN, tuple(ids))]
        rows = (await delivery_page(connection, page.store_code, conditions, None, ITEMS_MOST)).rows if ids else []
        subscriptions = {row.id: row for row in await all_subscriptions(connection, page.store_code)} if rows else {}
    fit = [row for row in rows if "redeliver" in actions_on(row, subscriptions.get(row.subscription_id))]
    counts = Counter(row.subscription_id for row in fit)
    return page.render(
        "deliveries/chosen.html",
        rows=fit,
        webhooks=[
            (webhook_title(subscriptions[one].name, subscriptions[one].url), count)
            for one, count in counts.most_common()
        ],
        left_out=len(rows) - len(fit),
        list_of=dict(parse_qsl(page.query("from"))),
    )


@pages.post("/{storeCode}/deliveries/redeliver", Scope.DELIVERY_ACT)
async def redelivered(page: Page) -> Response:
    """Start one more attempt of each `messageId`. The notice counts those started, and the refused ones by reason."""
    actions = page.actions(OperatorActions)
    begun, refused = 0, Counter[str]()
    for text in page.form.getlist("messageId")[:ITEMS_MOST]:
        try:
            await actions.redeliver(parse_id(text))
            begun += 1
        except (Conflict, NotFound) as refusal:
            refused[refusal.message] += 1
        except Unavailable as refusal:
            refused[refusal.message] += 1
            break
    said = [t("redelivery.begun_one") if begun == 1 else t("redelivery.begun", count=begun)]
    said += [t("redelivery.not_begun", count=count, why=why) for why, count in refused.items()]
    kind = "success" if not refused else "warning" if begun else "danger"
    back = dict(parse_qsl(page.form.text("from")))  # the list's filter and cursor
    return await page.done(" ".join(said), "deliveries.listed", kind=kind, query=back)


@pages.get("/{storeCode}/deliveries/recover", Scope.DELIVERY_ACT)
async def filtered(page: Page) -> Response:
    """Ask for confirmation to recover all deliveries that match the list's filter."""
    listing = page.listing(LOG_FIELDS, cursor=True)
    try:
        subscription, window = await page.resources.database.run(recoverable, page.store_code, listing.conditions)
    except UnfitFilterError as unfit:
        return page.render("deliveries/unfit.html", problem=str(unfit))
    return await count_page(page, subscription, Wanted(BulkActionKind.RECOVER, window, None))


@pages.get("/{storeCode}/deliveries/{messageId}", Scope.DELIVERY_READ)
async def shown(page: Page) -> Response:
    """Show the page with the request of the attempt in the query, by default of the last attempt."""
    resources = page.resources
    async with resources.database.transaction() as connection:
        row = existing(await find_delivery(connection, page.store_code, page.id("messageId")))
        attempts = await attempts_of(connection, row.message_id)
        event = await find_event(connection, page.store_code, row.event_id)
        subscription = await find_subscription(connection, page.store_code, row.subscription_id)
    last = attempts[-1] if attempts else None
    chosen = next((one for one in attempts if str(one.number) == page.query("attempt")), last)
    body = sent_body(event, row, chosen, resources.sealer.open)
    request = None
    if chosen is not None:
        request = sent_request(row, chosen, subscription, body, resources.settings.user_agent, resources.sealer)
    return page.render(
        "deliveries/one.html",
        row=row,
        steps=steps_of(attempts),
        under_way=row.status in OPEN or page.notice is not None or any(one.outcome_at is None for one in attempts),
        chosen=chosen,
        request=request,
        subscription=subscription,
        why=await _why(page, row),
        actions=actions_on(row, subscription),
        temporal_url=await existing_url(resources, workflow_id=row.workflow_id, retry_id=row.retry_id),
    )


@pages.post("/{storeCode}/deliveries/{messageId}/act", Scope.DELIVERY_ACT, refused="deliveries.shown")
async def acted(page: Page) -> Response:
    """Send now, redeliver or cancel, as the field `act` says."""
    action = page.form.text("act")
    if action not in ("send_now", "redeliver", "cancel"):
        raise NotFound
    await getattr(page.actions(OperatorActions), action)(page.id("messageId"))
    return await page.done(t(f"delivery.done_{action}"), "deliveries.shown")


@pages.get("/{storeCode}/events", Scope.DELIVERY_READ)
async def found(page: Page) -> Response:
    """Redirect to the delivery or the event with the id in the query; an invalid id gets the search page."""
    wished = page.query("id").strip(QUOTES)
    if not is_id(wished):
        page.status = NotFound.status if wished else 200
        return page.render("events/find.html", wished=wished)
    delivery = await page.read(find_delivery, UUID(wished))
    if delivery is not None:
        return page.redirect("deliveries.shown", messageId=delivery.message_id)
    return page.redirect("deliveries.of_event", eventId=UUID(wished))


@pages.get("/{storeCode}/events/{eventId}", Scope.DELIVERY_READ)
async def of_event(page: Page) -> Response:
    """Show the event: its data, its deliveries and the explanation for each webhook, those of this event first."""
    event_id = page.id("eventId")
    why = await explained(page.resources, page.principal, page.store_code, event_id, zone=page.zone)
    async with page.resources.database.transaction() as connection:
        event = await find_event(connection, page.store_code, event_id)
        deliveries = await deliveries_of_event(connection, page.store_code, event_id)
        ids = {row.subscription_id for row in deliveries} | {item.webhook_subscription_id for item in why.items}
        names = await named_subscriptions(connection, page.store_code, ids)
    if event is None and not deliveries:
        page.status = NotFound.status
        return page.render("events/none.html", event_id=event_id, why=why)
    return page.render(
        "events/one.html",
        event_id=event_id,
        event=event,
        why=why,
        deliveries=deliveries,
        under_way=not deliveries or any(row.status in OPEN for row in deliveries),
        names=names,
        temporal_url=None if event is None else await existing_url(page.resources, workflow_id=event.workflow_id),
    )


class ShownAttempt(NamedTuple):
    """Attempt of the timeline: `waited` since the previous attempt, and the bar's `share` of the width in percent."""

    attempt: AttemptRow
    outcome: str
    """CSS state: `delivered`, `failed`, or `running` while no outcome is recorded."""
    waited: timedelta | None
    share: float
    why: FailureExplanation | None
    """Explanation of the failure; None if the previous attempt failed for the same reason."""


def steps_of(attempts: Sequence[AttemptRow]) -> list[ShownAttempt]:
    """Return the steps of the timeline."""
    longest = max([SCALE_LEAST_MS, *(one.duration_ms or 0 for one in attempts)])
    steps, before = [], None
    for one in attempts:
        ended = None if before is None else before.outcome_at or before.started_at
        waited = None if ended is None else max(one.started_at - ended, timedelta(0))
        kind = one.failure if before is None or before.failure != one.failure else None
        why = failure_explanation(kind)
        outcome = "running" if one.outcome_at is None else "failed" if one.failure else DeliveryStatus.DELIVERED
        steps.append(ShownAttempt(one, outcome, waited, 100 * (one.duration_ms or 0) / longest, why))
        before = one
    return steps


def actions_on(row: DeliveryRow, subscription: SubscriptionRow | None) -> list[str]:
    """Return the operator actions to offer for the delivery. The action itself checks again and may refuse."""
    sending = subscription is not None and subscription.status == SubscriptionStatus.ACTIVE and row.variant != TEST
    if row.status in OPEN:
        return ["send_now", "cancel"] if sending else ["cancel"]
    return [*(["redeliver"] if sending else []), *(["cancel"] if row.holds_group else [])]


async def _why(page: Page, row: DeliveryRow) -> ExplainedItem | None:
    """Return the explanation of the delivery's status, or None if the log no longer has its event."""
    try:
        found = await explained(
            page.resources, page.principal, page.store_code, row.event_id, row.subscription_id, page.zone
        )
    except NotFound:
        return None
    return next((item for item in found.items if item.message_id == row.message_id), None)


def _listing(page: Page, besides: Collection[str] = ()) -> Listing:
    listing = page.listing(LOG_FIELDS, cursor=True, besides=besides)
    return listing if ITEMS in page.request.query_params else replace(listing, items=ITEMS_SHOWN)


def _query(page: Page, *without: str) -> dict[str, object]:
    return {name: value for name, value in page.request.query_params.multi_items() if name not in without}


async def recoverable(
    connection: AsyncConnection, store_code: str, conditions: Sequence[Condition]
) -> tuple[SubscriptionRow, TimeWindow]:
    """Return the subscription and the time window that the list's filter selects. Raises UnfitFilterError."""
    ids = chosen_webhooks(conditions)
    if len(ids) != 1:
        raise UnfitFilterError(t("redelivery.no_webhook"))
    found = await find_subscription(connection, store_code, ids[0])
    if found is None:
        raise UnfitFilterError(t("redelivery.webhook_gone"))
    if found.status == SubscriptionStatus.DISABLED:
        raise UnfitFilterError(t("redelivery.disabled"))
    return found, window_of(conditions, found, datetime.now(UTC))


def chosen_webhooks(conditions: Sequence[Condition]) -> list[UUID]:
    """Return the webhooks that the list's filter selects."""
    return [one.value for one in conditions if one.field == "webhookSubscriptionId" and one.operator is Operator.EQ]


def window_of(conditions: Sequence[Condition], subscription: SubscriptionRow, now: datetime) -> TimeWindow:
    """Convert the filter to a window of the webhook's deliveries. Raises UnfitFilterError for any other condition."""
    since, until, statuses = subscription.created_at, now, set(WITHOUT_SUCCESS)
    for one in conditions:
        match one.field, one.operator:
            case "webhookSubscriptionId", _:
                pass
            case "eventName", Operator.EQ if one.value == subscription.event_name:
                pass
            case "status", Operator.EQ | Operator.IN:
                statuses = {one.value} if one.operator is Operator.EQ else set(one.value)
            case "createdAt", Operator.GTE:
                since = max(since, one.value)
            case "createdAt", Operator.LT:
                until = min(until, one.value)
            case _:
                raise UnfitFilterError(t("redelivery.unfit", field=one.field))
    if not statuses <= {DeliveryStatus.DELIVERED, *WITHOUT_SUCCESS}:
        raise UnfitFilterError(t("redelivery.still_open"))
    return TimeWindow(since, until, sorted(statuses))
