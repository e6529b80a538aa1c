"""Whose turn it is to let go what a subscription with a limit holds."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, text
from sqlmodel import Field, SQLModel


class KeeperTurn(SQLModel, table=True):
    """The worker that keeps a subscription's limit, for as long as it says so: at most one at a time."""

    __tablename__ = "keeper_turn"

    subscription_id: UUID = Field(primary_key=True)
    worker_id: UUID
    seen_at: datetime = Field(
        default=None,
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    )
