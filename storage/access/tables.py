"""Tables of access: administrators, their tokens and sessions, API keys, and the audit.

Of each secret that grants access, only a hash is stored.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, ForeignKey, Identity, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from storage.table_fields import instant


class Administrator(SQLModel, table=True):
    """A person who logs in. Belongs to the installation; `stores` lists the accessible stores (`*`: all)."""

    __tablename__ = "administrator"

    id: UUID = Field(primary_key=True)
    username: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    password_hash: str = Field(sa_column=Column(Text, nullable=False))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    stores: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    password_changed_at: datetime = instant(default_now=True)
    """Part of each token; a token issued for an earlier password is refused."""
    created_at: datetime = instant(default_now=True)
    last_login_at: datetime | None = instant(nullable=True)


class ApiKey(SQLModel, table=True):
    """A permanent key for the header X-AUTH-TOKEN; only its SHA-256 is stored (it has 256 random bits)."""

    __tablename__ = "api_key"

    id: UUID = Field(primary_key=True)
    name: str = Field(sa_column=Column(Text, nullable=False))
    key_sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    stores: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    created_at: datetime = instant(default_now=True)
    expires_at: datetime | None = instant(nullable=True)
    revoked_at: datetime | None = instant(nullable=True)
    last_used_at: datetime | None = instant(nullable=True)


class RefreshToken(SQLModel, table=True):
    """A refresh token works once; using a used one revokes its family."""

    __tablename__ = "refresh_token"

    token_sha256: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    administrator_id: UUID = Field(sa_column=Column(ForeignKey("administrator.id", ondelete="CASCADE"), nullable=False))
    family: UUID
    expires_at: datetime = instant()
    used_at: datetime | None = instant(nullable=True)


class PanelSession(SQLModel, table=True):
    """One log-in to the panel. Logging out deletes it; a new password or deactivation invalidates it."""

    __tablename__ = "panel_session"

    token_sha256: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    administrator_id: UUID = Field(sa_column=Column(ForeignKey("administrator.id", ondelete="CASCADE"), nullable=False))
    password_version: int = Field(sa_column=Column(BigInteger, nullable=False))
    """The administrator's password version at log-in."""
    expires_at: datetime = instant()
    used_at: datetime = instant(default_now=True)
    """Last use, to the minute."""
    notice: dict[str, str] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """Notice that the next page shows once: kind and text."""


class AuditEntry(SQLModel, table=True):
    """One change: actor, action, object, changes (secrets masked)."""

    __tablename__ = "audit"

    id: int = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    at: datetime = instant(default_now=True)
    store_code: str | None = Field(default=None, sa_column=Column(Text))
    actor: str = Field(sa_column=Column(Text, nullable=False))
    action: str = Field(sa_column=Column(Text, nullable=False))
    object_type: str = Field(sa_column=Column(Text, nullable=False))
    object_id: str = Field(sa_column=Column(Text, nullable=False))
    changes: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))

    __table_args__ = (Index("audit_by_store", "store_code", "id"),)
