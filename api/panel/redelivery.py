"""Bulk redelivery of chosen deliveries or of all that match a filter, with a count first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from api.actions.service import OperatorActions
from api.bulk_actions.service import Wanted
from api.errors import Conflict, NotFound, Unavailable
from api.ids import is_id, parse_id
from api.listing import ITEMS_MOST
from api.panel.delivery import actions_on
from api.panel.page import Page, PanelRoutes
from api.panel.recover import count_page
from api.panel.texts import t
from domain.access import Scope
from domain.delivery.lifecycle import DeliveryStatus, SubscriptionStatus
from storage.deliveries.bulk_actions import BulkActionKind, TimeWindow
from storage.deliveries.log import LOG_FIELDS, DeliveryRow, delivery_page
from storage.listing import Condition, Operator
from storage.subscriptions.queries import SubscriptionRow, all_subscriptions, find_subscription

pages = PanelRoutes()

WITHOUT_SUCCESS = (DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELLED)
ENDED = (DeliveryStatus.DELIVERED, *WITHOUT_SUCCESS)
_JUST_AFTER = timedelta(microseconds=1)


class UnfitFilterError(Exception):
    """Filter that is not a time window of one webhook's deliveries; the message says which part to change."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Chosen deliveries that can be redelivered, their counts by webhook, and the number that cannot."""

    rows: list[DeliveryRow]
    webhooks: list[tuple[str, int]]
    left_out: int


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
    webhooks = [(_title(subscriptions[one]), count) for one, count in counts.most_common()]
    return page.render(
        "deliveries/chosen.html",
        chosen=Chosen(fit, webhooks, len(rows) - len(fit)),
        list_of=_list_of(page.request.query_params.get("from", "")),
    )


@pages.post("/{storeCode}/deliveries/redeliver", Scope.DELIVERY_ACT)
async def redelivered(page: Page) -> Response:
    """Start one more attempt of each `messageId`. The notice counts those started, and the refused ones by reason."""
    actions = OperatorActions(page.resources, page.store_code, page.actor)
    begun, refused = 0, Counter[str]()
    for text in page.form.all("messageId")[:ITEMS_MOST]:
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
    return await page.done(" ".join(said), "deliveries.listed", kind=kind, query=_list_of(page.form.text("from")))


@pages.get("/{storeCode}/deliveries/recover", Scope.DELIVERY_ACT)
async def filtered(page: Page) -> Response:
    """Ask for confirmation to recover all deliveries that match the list's filter."""
    listing = page.listing(LOG_FIELDS, cursor=True)
    try:
        async with page.resources.database.transaction() as connection:
            subscription, window = await recoverable(connection, page.store_code, listing.conditions)
    except UnfitFilterError as unfit:
        return page.render("deliveries/unfit.html", problem=str(unfit))
    return await count_page(page, subscription, Wanted(BulkActionKind.RECOVER, window, None))


async def recoverable(
    connection: AsyncConnection, store_code: str, conditions: Sequence[Condition]
) -> tuple[SubscriptionRow, TimeWindow]:
    """Return the subscription and the time window that the list's filter selects. Raises UnfitFilterError."""
    ids = [one.value for one in conditions if one.field == "webhookSubscriptionId" and one.operator is Operator.EQ]
    if len(ids) != 1:
        raise UnfitFilterError(t("redelivery.no_webhook"))
    found = await find_subscription(connection, store_code, ids[0])
    if found is None:
        raise UnfitFilterError(t("redelivery.webhook_gone"))
    if found.status == SubscriptionStatus.DISABLED:
        raise UnfitFilterError(t("redelivery.disabled"))
    return found, window_of(conditions, found, datetime.now(UTC))


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
    if not statuses <= set(ENDED):
        raise UnfitFilterError(t("redelivery.still_open"))
    return TimeWindow(since, until, sorted(statuses))


def _list_of(query: str) -> dict[str, str]:
    """Return the query of the list, filter and cursor, to return to the same page."""
    return dict(parse_qsl(query))


def _title(subscription: SubscriptionRow) -> str:
    return subscription.name or subscription.event_name
