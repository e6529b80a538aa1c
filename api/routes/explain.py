"""Why did this not arrive? In codes and words, for each subscription of the store."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from api.access import DeliveryRead, StoreAccess
from api.body import Output
from api.errors import NotFound, Problem, ValidationFailed
from api.ids import is_id
from api.resources import FromResources
from domain.explain import (
    ExplainedDelivery,
    ExplainedEvent,
    ExplainedSubscription,
    ReasonCode,
    reason_of_delivery,
    reason_without_delivery,
)
from domain.explain_words import in_words
from storage.explaining import (
    database_now,
    explained_deliveries,
    explained_event,
    explained_subscriptions,
    stores_with_event,
)
from storage.rejected_emits import find_rejected

router = APIRouter(prefix="/api/{storeCode}/webhook/explain", tags=["deliveries"])

EVENT_ID, SUBSCRIPTION_ID = "eventId", "webhookSubscriptionId"


class ExplainedItem(Output):
    """One subscription, and its delivery of the event if there is one (two where an event makes two webhooks)."""

    webhook_subscription_id: UUID
    name: str | None
    url: str
    code: ReasonCode
    text: str
    remedy: str = Field(description="What can be done about it.")
    message_id: UUID | None
    variant: str | None
    status: str | None = Field(description="Of the delivery.")
    attempts: int | None
    last_status_code: int | None
    last_failure: str | None
    next_attempt_at: datetime | None
    behind_message_id: UUID | None = Field(description="The delivery that an ordered subscription sends before this.")


class Explained(Output):
    """The event, and each subscription of the store: those to the event first."""

    event_id: UUID
    event_name: str | None
    accepted_at: datetime | None
    code: ReasonCode
    text: str
    remedy: str
    items: list[ExplainedItem]


@dataclass(frozen=True, slots=True)
class Question:
    """Which event, and about which subscription alone, if any."""

    event_id: UUID
    subscription_id: UUID | None


@dataclass(frozen=True)
class QuestionQuery:
    """A dependency: the query string as a `Question`; listed after the right."""

    refuses = (400,)

    async def __call__(self, request: Request) -> Question:
        """Raises ValidationFailed with every problem."""
        problems: list[Problem] = []
        given: dict[str, UUID] = {}
        for name, value in request.query_params.multi_items():
            if name not in (EVENT_ID, SUBSCRIPTION_ID):
                problems.append(
                    Problem(name, "unknown_field", f"is not known; there are {EVENT_ID}, {SUBSCRIPTION_ID}")
                )
            elif name in given:
                problems.append(Problem(name, "repeated", "is given twice"))
            elif not is_id(value):
                problems.append(Problem(name, "invalid_value", "must be a UUID"))
            else:
                given[name] = UUID(value)
        if EVENT_ID not in given and not any(problem.path == EVENT_ID for problem in problems):
            problems.append(Problem(EVENT_ID, "missing", "is required"))
        if problems:
            raise ValidationFailed(problems)
        return Question(given[EVENT_ID], given.get(SUBSCRIPTION_ID))

    def parameters(self) -> Iterator[dict[str, Any]]:
        """Parameter objects of OpenAPI."""
        words = {EVENT_ID: "Id of the event.", SUBSCRIPTION_ID: "Explain this subscription alone."}
        for name, description in words.items():
            schema = {"type": "string", "format": "uuid"}
            yield {
                "name": name,
                "in": "query",
                "required": name == EVENT_ID,
                "description": description,
                "schema": schema,
            }


@router.get("", summary="Why an event did not arrive")
async def explain(
    access: DeliveryRead, resources: FromResources, question: Annotated[Question, Depends(QuestionQuery())]
) -> Explained:
    """Where the event stands with each subscription: matched or why not, waiting for what, ended how.

    `docs/explain.md` lists the codes. An event that is not known gets an answer too, which says what is likely.
    """
    async with resources.database.transaction() as connection:
        event = await explained_event(connection, access.store_code, question.event_id)
        if event is None:
            stores = await stores_with_event(connection, access.store_code, question.event_id)
            rejected = await find_rejected(connection, access.store_code, question.event_id)
            return _unknown(access, question, stores, rejected)
        subscriptions = await explained_subscriptions(
            connection, access.store_code, event.name, question.subscription_id
        )
        deliveries = await explained_deliveries(connection, access.store_code, question.event_id)
        now = await database_now(connection)
    if question.subscription_id is not None and not subscriptions:
        raise NotFound
    of_subscription: dict[UUID, list[ExplainedDelivery | None]] = defaultdict(list)
    for subscription_id, delivery in deliveries:
        of_subscription[subscription_id].append(delivery)
    items = [
        _item(event, subscription, delivery, now)
        for subscription in subscriptions
        for delivery in of_subscription[subscription.id] or [None]
    ]
    code = ReasonCode.event_waiting if event.matched_at is None else ReasonCode.event_matched
    if event.test:
        code = ReasonCode.event_test
    words = in_words(code, event)
    return Explained(
        event_id=question.event_id,
        event_name=event.name,
        accepted_at=event.accepted_at,
        code=code,
        text=words.text,
        remedy=words.remedy,
        items=items,
    )


def _unknown(
    access: StoreAccess, question: Question, stores: Sequence[str], rejected: tuple[datetime, str] | None
) -> Explained:
    """Other stores are named to those alone who may enter them."""
    named = tuple(code for code in stores if access.principal.may_enter(code))
    code = ReasonCode.event_elsewhere if named else ReasonCode.event_unknown
    if rejected is not None:
        code = ReasonCode.event_rejected
    words = in_words(code, stores=named, rejected=rejected)
    return Explained(
        event_id=question.event_id,
        event_name=None,
        accepted_at=None,
        code=code,
        text=words.text,
        remedy=words.remedy,
        items=[],
    )


def _item(
    event: ExplainedEvent, subscription: ExplainedSubscription, delivery: ExplainedDelivery | None, now: datetime
) -> ExplainedItem:
    if delivery is None:
        code = reason_without_delivery(event, subscription)
    else:
        code = reason_of_delivery(subscription, delivery, now)
    words = in_words(code, event, subscription, delivery)
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
