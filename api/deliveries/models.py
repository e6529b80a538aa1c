"""Responses with events and deliveries (wire contract, section 5)."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, WithJsonSchema

from api.body import Output
from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus

_KNOWN_FAILURES = {"type": "string", "enum": [kind.value for kind in FailureKind]}
Failure = Annotated[str, WithJsonSchema({"anyOf": [_KNOWN_FAILURES, {"type": "string"}]})]
"""A failure kind. Documented as one of those known or any text, since a later version may add kinds."""


class DeliveryOut(Output):
    """A delivery as an item of a list."""

    message_id: UUID
    event_id: UUID
    event_name: str
    webhook_subscription_id: UUID = Field(validation_alias="subscription_id")
    variant: str
    url: str
    status: DeliveryStatus
    attempts: int
    last_status_code: int | None
    last_failure: Failure | None
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    reason: str | None = Field(description="Why it is held, exhausted or cancelled.")


class DeliveryPage(Output):
    """Deliveries, newest first. `nextCursor` is null on the last page only; other pages may be short, even empty."""

    items: list[DeliveryOut]
    next_cursor: str | None


class AttemptOut(Output):
    """One request. Without a duration it is in progress, or its worker died before it recorded the outcome."""

    number: int
    request_id: UUID
    trigger: Literal["automatic", "manual", "test"]
    started_at: datetime
    duration_ms: int | None
    status_code: int | None
    failure: Failure | None
    detail: str | None = Field(
        description="In words: why it failed, oddities of the response, and what it was sent through and with."
    )
    response_excerpt: str | None


class DeliveryDetails(DeliveryOut):
    """A delivery with all its details. `body` is the body of the last attempt, with masked secrets."""

    attempt_list: list[AttemptOut]
    body: str | None
    body_note: str | None
    temporal_url: str | None


class EventDetails(Output):
    """An accepted event; secrets in its data are masked."""

    event_id: UUID
    event_name: str
    store_code: str
    created_at: str
    accepted_at: datetime
    data: Any
    deliveries: list[DeliveryOut]
    temporal_url: str | None
