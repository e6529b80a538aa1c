"""Explanation why an event was not delivered, for the API and the panel."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, tzinfo
from uuid import UUID

from api.errors import NotFound
from api.explain.models import Explained, ExplainedItem
from api.resources import Resources
from api.temporal_links import existing_url
from domain.access import Principal
from domain.delivery.explain import (
    ExplainedDelivery,
    ExplainedEvent,
    ExplainedSubscription,
    Explanation,
    ReasonCode,
    in_words,
    next_attempt_at,
    reason_of_delivery,
    reason_of_event,
    reason_without_delivery,
)
from domain.delivery.lifecycle import OPEN
from storage.deliveries.explain import (
    explained_deliveries,
    explained_event,
    explained_subscriptions,
    stores_with_event,
)
from storage.deliveries.log import find_delivery
from storage.events.intake import find_rejected

DELIVERY_FACTS = ("message_id", "variant", "status", "attempts", "last_status_code", "last_failure")
"""Fields that an explained item has in common with its delivery, and that are None without one."""


async def explained(
    resources: Resources,
    principal: Principal,
    store_code: str,
    event_id: UUID,
    subscription_id: UUID | None = None,
    zone: tzinfo | None = None,
) -> Explained:
    """Explain the event's state for each subscription, or for one. Times in the texts are in `zone`, or UTC.

    `event_id` may be a delivery's message id instead, which explains this delivery.

    Raises NotFound if the subscription does not belong to the store.
    """
    message_id = None
    async with resources.database.transaction() as connection:
        event = await explained_event(connection, store_code, event_id)
        if event is None and (found := await find_delivery(connection, store_code, event_id)) is not None:
            message_id, event_id, subscription_id = event_id, found.event_id, found.subscription_id
            event = await explained_event(connection, store_code, event_id)
        if event is None:
            stores = await stores_with_event(connection, store_code, event_id)
            rejected = await find_rejected(connection, store_code, event_id)
            return _unknown(principal, event_id, stores, rejected, zone)
        subscriptions = await explained_subscriptions(connection, store_code, event.name, subscription_id)
        deliveries = await explained_deliveries(connection, store_code, event_id)
    if subscription_id is not None and not subscriptions:
        raise NotFound
    of_subscription: dict[UUID, list[ExplainedDelivery | None]] = defaultdict(list)
    for id_, delivery in deliveries:
        of_subscription[id_].append(delivery)
    items = await asyncio.gather(
        *(
            _item(resources, event, subscription, delivery, zone)
            for subscription in subscriptions
            for delivery in of_subscription[subscription.id] or [None]
            if message_id is None or (delivery is not None and delivery.message_id == message_id)
        )
    )
    code = reason_of_event(event)
    return _answer(event_id, event, code, in_words(code, event, zone=zone), items)


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
    return _answer(event_id, None, code, in_words(code, stores=named, rejected=rejected, zone=zone), [])


def _answer(
    event_id: UUID, event: ExplainedEvent | None, code: ReasonCode, words: Explanation, items: list[ExplainedItem]
) -> Explained:
    return Explained(
        event_id=event_id,
        event_name=event.name if event else None,
        accepted_at=event.accepted_at if event else None,
        code=code,
        text=words.text,
        remedy=words.remedy,
        items=items,
    )


async def _item(
    resources: Resources,
    event: ExplainedEvent,
    subscription: ExplainedSubscription,
    delivery: ExplainedDelivery | None,
    zone: tzinfo | None,
) -> ExplainedItem:
    if delivery is None:
        code, url = reason_without_delivery(event, subscription), None
    else:
        code = reason_of_delivery(subscription, delivery)
        url = await existing_url(resources, workflow_id=delivery.workflow_id, retry_id=delivery.retry_id)
    words = in_words(code, event, subscription, delivery, zone=zone)
    return ExplainedItem(
        webhook_subscription_id=subscription.id,
        name=subscription.name,
        url=subscription.url,
        code=code,
        text=words.text,
        remedy=words.remedy,
        **{name: getattr(delivery, name) if delivery else None for name in DELIVERY_FACTS},
        next_attempt_at=next_attempt_at(subscription, delivery) if delivery else None,
        behind_message_id=delivery.behind if delivery else None,
        last_answer_message_id=subscription.last_failed_id if delivery and delivery.status in OPEN else None,
        temporal_url=url,
    )
