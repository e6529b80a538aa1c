"""Responses that explain why an event was not delivered."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.body import Output
from api.deliveries.models import Failure
from domain.delivery.explain import ReasonCode
from domain.delivery.lifecycle import DeliveryStatus


class ExplainedItem(Output):
    """A webhook and its delivery of the event, if any; two items if the event makes two deliveries."""

    webhook_subscription_id: UUID
    name: str | None
    url: str
    code: ReasonCode
    text: str
    remedy: str = Field(description="Possible remedy.")
    message_id: UUID | None
    variant: str | None
    status: DeliveryStatus | None = Field(description="Status of the delivery.")
    attempts: int | None
    last_status_code: int | None
    last_failure: Failure | None
    next_attempt_at: datetime | None = Field(
        description="Instant of the next attempt, or of the probe behind an open breaker; null if it is due or unknown."
    )
    behind_message_id: UUID | None = Field(description="The delivery that an ordered webhook sends before this one.")
    last_answer_message_id: UUID | None = Field(
        description="While the receiver fails: the delivery that failed last, with the receiver's answer, if any."
    )
    temporal_url: str | None = Field(
        description="Page of the delivery's workflow, or of the activity that retries it, in the Temporal Web UI; null "
        "if Temporal has none."
    )


class Explained(Output):
    """The event and each webhook of the store, webhooks to the event first."""

    event_id: UUID
    event_name: str | None
    accepted_at: datetime | None
    code: ReasonCode
    text: str
    remedy: str
    items: list[ExplainedItem]
