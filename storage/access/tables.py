"""Tables of access: stores, administrators, their tokens and sessions, API keys, and the audit.

Of each secret that grants access, only a hash is stored.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, ForeignKey, Identity, Index, Integer, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from domain.access import Principal
from domain.expiry.rows import Kind
from storage.columns import TableModel, counter, instant

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Store(TableModel, table=True):
    """A tenant, named by its code, and its settings. Stores are never deleted."""

    __tablename__ = "store"

    code: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = Field(sa_column=Column(Text, nullable=False))
    timezone: str = Field(default="UTC", sa_column=Column(Text, nullable=False, server_default="UTC"))
    expire_points_notification_days: int = counter(10)
    expire_levels_notification_days: int = counter(10)
    expire_coupons_notification_days: int = counter(10)
    expiry_kinds_from_events: list[str] = Field(
        default_factory=list, sa_column=Column(ARRAY(Text), nullable=False, server_default="{}")
    )
    """Kinds (`domain.expiry.rows.Kind`) whose rows are also updated from this store's events."""
    retention_days: int | None = Field(default=None, sa_column=Column(Integer))
    """Retention of bodies, deliveries and attempts; null: the installation's setting applies."""
    retention_exhausted_days: int | None = Field(default=None, sa_column=Column(Integer))
    """Retention for events that were not delivered everywhere; null: the installation's setting applies."""
    created_at: datetime = instant(default_now=True)

    def days_ahead(self, kind: Kind) -> int:
        """Return the number of days between a notice and the expiry it announces."""
        return int(getattr(self, f"expire_{kind}_notification_days"))


class StoreOperator(TableModel, table=True):
    """URL of a store's operational webhooks and the key that signs them. No row: none are sent."""

    __tablename__ = "store_operator"

    store_code: str = Field(sa_column=Column(Text, ForeignKey("store.code"), primary_key=True))
    url: str = Field(sa_column=Column(Text, nullable=False))
    sealed_secret: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed_previous_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    previous_secret_until: datetime | None = instant(nullable=True)


class Administrator(TableModel, table=True):
    """A person who logs in. Belongs to the installation; `stores` lists the accessible stores (`*`: all)."""

    __tablename__ = "administrator"

    id: UUID = Field(primary_key=True)
    username: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    password_hash: str = Field(sa_column=Column(Text, nullable=False))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    stores: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    password_changed_at: datetime = instant(default_now=True)
    created_at: datetime = instant(default_now=True)
    last_login_at: datetime | None = instant(nullable=True)

    @property
    def password_version(self) -> int:
        """Part of each token and session: those of an earlier password are refused."""
        return (self.password_changed_at - _EPOCH) // timedelta(microseconds=1)

    @property
    def principal(self) -> Principal:
        scopes, stores = frozenset(self.scopes), frozenset(self.stores)
        return Principal("administrator", str(self.id), self.username, scopes, stores)


class ApiKey(TableModel, table=True):
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


class RefreshToken(TableModel, table=True):
    """A refresh token works once; using a used one revokes its family."""

    __tablename__ = "refresh_token"

    token_sha256: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    administrator_id: UUID = Field(sa_column=Column(ForeignKey("administrator.id", ondelete="CASCADE"), nullable=False))
    family: UUID
    expires_at: datetime = instant()
    used_at: datetime | None = instant(nullable=True)


class PanelSession(TableModel, table=True):
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


class AuditEntry(TableModel, table=True):
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


class IdempotencyKey(TableModel, table=True):
    """Object created by a call with the header `Idempotency-Key`, so that a repeated call creates nothing."""

    __tablename__ = "idempotency_key"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    actor: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """SHA-256 of the call's body."""
    object_id: UUID
    created_at: datetime = instant(default_now=True)

    __table_args__ = (Index("idempotency_key_by_age", "created_at"),)
