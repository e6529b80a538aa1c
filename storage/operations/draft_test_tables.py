"""Table of the tests of drafts, that is, of webhooks that are not saved."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, Column, DateTime, Index, Integer, LargeBinary, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class DraftTest(SQLModel, table=True):
    """One test of a draft. Its secrets are deleted once it was sent."""

    __tablename__ = "draft_test"

    id: UUID = Field(primary_key=True)
    store_code: str = Field(sa_column=Column(Text, nullable=False))
    event_name: str = Field(sa_column=Column(Text, nullable=False))
    url: str = Field(sa_column=Column(Text, nullable=False))
    legacy: bool = Field(sa_column=Column(Boolean, nullable=False))
    sealed_headers: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sealed_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    signature_version: int = Field(sa_column=Column(Integer, nullable=False))
    created_at: datetime = Field(
        default=None,
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    )
    begun_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    """Set by the one worker that sends it."""
    sent_headers: list[list[str]] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """Name and value, secrets masked; with all that follows set once there is a result."""
    sent_body: str | None = Field(default=None, sa_column=Column(Text))
    duration_ms: int | None = Field(default=None, sa_column=Column(Integer))
    status_code: int | None = Field(default=None, sa_column=Column(Integer))
    failure: str | None = Field(default=None, sa_column=Column(Text))
    detail: str | None = Field(default=None, sa_column=Column(Text))
    response_excerpt: str | None = Field(default=None, sa_column=Column(Text))

    __table_args__ = (Index("draft_test_by_age", "store_code", "created_at"),)
