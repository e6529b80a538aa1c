"""Responses with events and deliveries (wire contract, section 5)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from api.body import Output


class DeliveryOut(Output):
    """A delivery as an item of a list."""

    message_id: UUID
    event_id: UUID
    event_name: str
    webhook_subscription_id: UUID = Field(validation_alias="subscription_id")
    variant: str
    url: str
    status: str
    attempts: int
    last_status_code: int | None
    last_failure: str | None
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None


class DeliveryPage(Output):
    """Deliveries, newest first. `nextCursor` is null on the last page only; other pages may be short, even empty."""

    items: list[DeliveryOut]
    next_cursor: str | None


class AttemptOut(Output):
    """One request. Without a duration it is in progress, or its worker died before it recorded the outcome."""

    number: int
    request_id: UUID
    trigger: str
    started_at: datetime
    duration_ms: int | None
    status_code: int | None
    failure: str | None
    detail: str | None
    response_excerpt: str | None


class DeliveryDetails(DeliveryOut):
    """A delivery with all its details. `body` is the body of the last attempt, with masked secrets."""

    reason: str | None
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
