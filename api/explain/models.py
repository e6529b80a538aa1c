"""Explanations why an event did not arrive, as the API returns them."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.body import Output
from domain.delivery.explain import ReasonCode


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
