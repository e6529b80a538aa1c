"""Route that explains why an event was not delivered, as a code and a text per subscription of the store."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from api.access import DeliveryRead
from api.errors import Problem, ValidationFailed
from api.explain.models import Explained
from api.explain.service import explained
from api.ids import is_id
from api.resources import FromResources

router = APIRouter(prefix="/api/{storeCode}/webhook/explain", tags=["deliveries"])

EVENT_ID, SUBSCRIPTION_ID = "eventId", "webhookSubscriptionId"


@dataclass(frozen=True, slots=True)
class Question:
    """The event to explain, and optionally the only subscription to explain."""

    event_id: UUID
    subscription_id: UUID | None


@dataclass(frozen=True)
class QuestionQuery:
    """Dependency that returns the query string as a `Question`. List it after the right."""

    refuses = (400,)

    async def __call__(self, request: Request) -> Question:
        """Return the question. Raises ValidationFailed with all problems."""
        problems: list[Problem] = []
        given: dict[str, UUID] = {}
        for name, value in request.query_params.multi_items():
            if name not in (EVENT_ID, SUBSCRIPTION_ID):
                problems.append(
                    Problem(
                        name, "unknown_field", f"is not a parameter of this call; use {EVENT_ID} or {SUBSCRIPTION_ID}"
                    )
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
        """Yield the OpenAPI parameter objects."""
        words = {EVENT_ID: "Id of the event.", SUBSCRIPTION_ID: "Explain only this subscription."}
        for name, description in words.items():
            schema = {"type": "string", "format": "uuid"}
            yield {
                "name": name,
                "in": "query",
                "required": name == EVENT_ID,
                "description": description,
                "schema": schema,
            }


@router.get("", summary="Explain why an event was not delivered")
async def explain(
    access: DeliveryRead, resources: FromResources, question: Annotated[Question, Depends(QuestionQuery())]
) -> Explained:
    """Explain the event's state per subscription: match or mismatch, cause of waiting, outcome.

    `docs/explain.md` lists the codes. For an unknown event, the response gives the likely causes.
    """
    return await explained(resources, access.principal, access.store_code, question.event_id, question.subscription_id)
