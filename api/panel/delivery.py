"""Page of a delivery: attempts, request, reason of its status, and operator actions."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.responses import Response

from api.actions.service import OperatorActions
from api.deliveries.service import sent_body, sent_request
from api.errors import Conflict, NotFound, Unavailable
from api.explain.models import ExplainedItem
from api.explain.service import explained
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from api.temporal_links import existing_delivery_url
from domain.access import Scope
from domain.delivery.failure_kinds import EXPLANATIONS, FailureExplanation, FailureKind
from domain.delivery.lifecycle import OPEN, DeliveryStatus, SubscriptionStatus
from domain.wire.bodies import TEST
from domain.wire.jsontext import JsonTextError, pretty
from storage.deliveries.log import AttemptRow, DeliveryRow, attempts_of, find_delivery
from storage.events.log import find_event
from storage.subscriptions.queries import SubscriptionRow, find_subscription

pages = PanelRoutes()

SCALE_LEAST_MS = 1000
"""Minimum scale of the duration bars, which is otherwise the longest attempt. Without it, 12 ms could fill the bar."""


@dataclass(frozen=True, slots=True)
class ShownAttempt:
    """Attempt of the timeline: `waited` since the previous attempt, and the bar's `share` of the width in percent."""

    attempt: AttemptRow
    waited: timedelta | None
    share: float
    why: FailureExplanation | None = None
    """Explanation of the failure; None if the previous attempt failed for the same reason."""

    @property
    def outcome(self) -> str:
        """Return the CSS state: `delivered`, `failed`, or `running` while no outcome is recorded."""
        if self.attempt.outcome_at is None:
            return "running"
        return "failed" if self.attempt.failure else DeliveryStatus.DELIVERED


def steps_of(attempts: Sequence[AttemptRow]) -> list[ShownAttempt]:
    """Return the steps of the timeline."""
    longest = max([SCALE_LEAST_MS, *(one.duration_ms or 0 for one in attempts)])
    steps, before = [], None
    for one in attempts:
        ended = None if before is None else before.outcome_at or before.started_at
        waited = None if ended is None else max(one.started_at - ended, timedelta(0))
        kind = one.failure if before is None or before.failure != one.failure else None
        why = EXPLANATIONS[FailureKind(kind)] if kind and kind in FailureKind.__members__ else None
        steps.append(ShownAttempt(one, waited, 100 * (one.duration_ms or 0) / longest, why))
        before = one
    return steps


@pages.get("/{storeCode}/deliveries/{messageId}", Scope.DELIVERY_READ)
async def shown(page: Page) -> Response:
    """Show the page with the request of the attempt in the query, by default of the last attempt."""
    resources = page.resources
    async with resources.database.transaction() as connection:
        row = await find_delivery(connection, page.store_code, page.id("messageId"))
        if row is None:
            raise NotFound
        attempts = await attempts_of(connection, row.message_id)
        event = await find_event(connection, page.store_code, row.event_id)
        subscription = await find_subscription(connection, page.store_code, row.subscription_id)
    chosen = _chosen(attempts, page.request.query_params.get("attempt"))
    body = sent_body(event, row, chosen, resources.sealer.open)
    request = None
    if chosen is not None:
        request = sent_request(row, chosen, subscription, body, resources.settings.user_agent, resources.sealer)
    return page.render(
        "deliveries/one.html",
        row=row,
        steps=steps_of(attempts),
        chosen=chosen,
        request=request,
        pretty=pretty_or_plain(body.text),
        subscription=subscription,
        why=await _why(page, row),
        actions=actions_on(row, subscription),
        temporal_url=await existing_delivery_url(resources, workflow_id=row.workflow_id, retry_id=row.retry_id),
    )


@pages.post("/{storeCode}/deliveries/{messageId}/act", Scope.DELIVERY_ACT)
async def acted(page: Page) -> Response:
    """Send now, redeliver or cancel, as the field `act` says."""
    actions = OperatorActions(page.resources, page.store_code, page.actor)
    known: Mapping[str, Callable[[UUID], Awaitable[None]]] = {
        "send_now": actions.send_now,
        "redeliver": actions.redeliver,
        "cancel": actions.cancel,
    }
    action, message_id = page.form.text("act"), page.id("messageId")
    if action not in known:
        raise NotFound
    text, kind = t(f"delivery.done_{action}"), "success"
    try:
        await known[action](message_id)
    except (Conflict, Unavailable) as refused:
        text, kind = refused.message, "danger"
    return await page.done(text, "delivery.shown", kind=kind, messageId=message_id)


def actions_on(row: DeliveryRow, subscription: SubscriptionRow | None) -> list[str]:
    """Return the operator actions to offer for the delivery. The action itself checks again and may refuse."""
    sending = subscription is not None and subscription.status == SubscriptionStatus.ACTIVE and row.variant != TEST
    if row.status in OPEN:
        return ["send_now", "cancel"] if sending else ["cancel"]
    return [*(["redeliver"] if sending else []), *(["cancel"] if row.holds_group else [])]


def _chosen(attempts: Sequence[AttemptRow], number: str | None) -> AttemptRow | None:
    found = (one for one in attempts if str(one.number) == number)
    return next(found, attempts[-1] if attempts else None)


def pretty_or_plain(body: str | None) -> str | None:
    """Return JSON text indented, other text unchanged, and None for None."""
    if body is None:
        return None
    try:
        return pretty(body)
    except JsonTextError:
        return body


async def _why(page: Page, row: DeliveryRow) -> ExplainedItem | None:
    """Return the explanation of the delivery's status, or None if the log no longer has its event."""
    try:
        found = await explained(
            page.resources, page.principal, page.store_code, row.event_id, row.subscription_id, page.zone
        )
    except NotFound:
        return None
    return next((item for item in found.items if item.message_id == row.message_id), None)
