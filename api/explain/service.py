"""Explanation why an event was not delivered, for the API and the panel."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, tzinfo
from uuid import UUID

from api.errors import NotFound
from api.explain.models import Explained, ExplainedItem
from api.resources import Resources
from domain.access import Principal
from domain.delivery.explain import (
    ExplainedDelivery,
    ExplainedEvent,
    ExplainedSubscription,
    ReasonCode,
    in_words,
    reason_of_delivery,
    reason_of_event,
    reason_without_delivery,
)
from storage.deliveries.explain import (
    database_now,
    explained_deliveries,
    explained_event,
    explained_subscriptions,
    stores_with_event,
)
from storage.events.rejected import find_rejected


async def explained(
    resources: Resources,
    principal: Principal,
    store_code: str,
    event_id: UUID,
    subscription_id: UUID | None = None,
    zone: tzinfo | None = None,
) -> Explained:
    """Explain the event's state for each subscription, or for one. Times in the texts are in `zone`, or UTC.

    Raises NotFound if the subscription does not belong to the store.
    """
    async with resources.database.transaction() as connection:
        event = await explained_event(connection, store_code, event_id)
        if event is None:
            stores = await stores_with_event(connection, store_code, event_id)
            rejected = await find_rejected(connection, store_code, event_id)
            return _unknown(principal, event_id, stores, rejected, zone)
        subscriptions = await explained_subscriptions(connection, store_code, event.name, subscription_id)
        deliveries = await explained_deliveries(connection, store_code, event_id)
        now = await database_now(connection)
    if subscription_id is not None and not subscriptions:
        raise NotFound
    of_subscription: dict[UUID, list[ExplainedDelivery | None]] = defaultdict(list)
    for id_, delivery in deliveries:
        of_subscription[id_].append(delivery)
    items = [
        _item(event, subscription, delivery, now, zone)
        for subscription in subscriptions
        for delivery in of_subscription[subscription.id] or [None]
    ]
    code = reason_of_event(event)
    words = in_words(code, event, zone=zone)
    return Explained(
        event_id=event_id,
        event_name=event.name,
        accepted_at=event.accepted_at,
        code=code,
        text=words.text,
        remedy=words.remedy,
        items=items,
    )


def _unknown(
    principal: Principal,
    event_id: UUID,
    stores: Sequence[str],
    rejected: tuple[datetime, str] | None,
    zone: tzinfo | None,
) -> Explained:
    """Explain an unknown event. Other stores that have it are named only if the caller may enter them."""
    named = tuple(code for code in stores if principal.may_enter(code))
    code = ReasonCode.event_elsewhere if named else ReasonCode.event_unknown
    if rejected is not None:
        code = ReasonCode.event_rejected
    words = in_words(code, stores=named, rejected=rejected, zone=zone)
    return Explained(
        event_id=event_id,
        event_name=None,
        accepted_at=None,
        code=code,
        text=words.text,
        remedy=words.remedy,
        items=[],
    )


def _item(
    event: ExplainedEvent,
    subscription: ExplainedSubscription,
    delivery: ExplainedDelivery | None,
    now: datetime,
    zone: tzinfo | None,
) -> ExplainedItem:
    if delivery is None:
        code = reason_without_delivery(event, subscription)
    else:
        code = reason_of_delivery(subscription, delivery, now)
    words = in_words(code, event, subscription, delivery, zone=zone)
    return ExplainedItem(
        webhook_subscription_id=subscription.id,
        name=subscription.name,
        url=subscription.url,
        code=code,
        text=words.text,
        remedy=words.remedy,
        message_id=delivery.message_id if delivery else None,
        variant=delivery.variant if delivery else None,
        status=delivery.status if delivery else None,
        attempts=delivery.attempts if delivery else None,
        last_status_code=delivery.last_status_code if delivery else None,
        last_failure=delivery.last_failure if delivery else None,
        next_attempt_at=delivery.next_attempt_at if delivery else None,
        behind_message_id=delivery.behind if delivery else None,
    )
