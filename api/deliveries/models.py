"""Responses with events and deliveries (wire contract, section 5)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from api.body import Output
from storage.deliveries.log import AttemptRow, DeliveryRow


class DeliveryOut(Output):
    """A delivery as an item of a list."""

    message_id: UUID
    event_id: UUID
    event_name: str
    webhook_subscription_id: UUID
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


def shared(row: DeliveryRow) -> dict[str, Any]:
    """Return the fields of a DeliveryOut."""
    return {
        "message_id": row.message_id,
        "event_id": row.event_id,
        "event_name": row.event_name,
        "webhook_subscription_id": row.subscription_id,
        "variant": row.variant,
        "url": row.url,
        "status": row.status,
        "attempts": row.attempts,
        "last_status_code": row.last_status_code,
        "last_failure": row.last_failure,
        "next_attempt_at": row.next_attempt_at,
        "created_at": row.created_at,
        "ended_at": row.ended_at,
    }


def delivery_items(rows: Iterable[DeliveryRow]) -> list[DeliveryOut]:
    """Return deliveries as items of a list."""
    return [DeliveryOut(**shared(row)) for row in rows]


def attempt_items(rows: Iterable[AttemptRow]) -> list[AttemptOut]:
    """Return attempts as items of an attempt list."""
    return [
        AttemptOut(
            number=row.number,
            request_id=row.request_id,
            trigger=row.trigger,
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            status_code=row.status_code,
            failure=row.failure,
            detail=row.detail,
            response_excerpt=row.response_excerpt,
        )
        for row in rows
    ]
