"""Who is logged in to the admin panel."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, LargeBinary, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


def _instant(*, default_now: bool = False) -> Any:
    default = func.clock_timestamp() if default_now else None
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=default))


class PanelSession(SQLModel, table=True):
    """One log-in to the panel. Logging out deletes it; a new password or a deactivated account leaves it useless."""

    __tablename__ = "panel_session"

    token_sha256: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    administrator_id: UUID = Field(sa_column=Column(ForeignKey("administrator.id", ondelete="CASCADE"), nullable=False))
    password_version: int = Field(sa_column=Column(BigInteger, nullable=False))
    """The account's when it logged in."""
    expires_at: datetime = _instant()
    used_at: datetime = _instant(default_now=True)
    """To the minute."""
    notice: dict[str, str] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """What the next page says once: kind and text."""
