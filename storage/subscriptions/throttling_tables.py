"""Which receivers have answered 429, and how fast they are sent to since."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Float
from sqlmodel import Field, SQLModel


def _instant() -> Any:
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))


class SubscriptionPace(SQLModel, table=True):
    """What a subscription's receiver has asked for by its 429s."""

    __tablename__ = "subscription_pace"

    subscription_id: UUID = Field(primary_key=True)
    rests_until: datetime | None = _instant()
    """Nothing is sent before, by its `Retry-After`."""
    slowed_to: float | None = Field(default=None, sa_column=Column(Float))
    """Requests a second after the last 429; more with time (`domain/delivery/throttling.py`)."""
    slowed_at: datetime | None = _instant()
    slowed_until: datetime | None = _instant()
