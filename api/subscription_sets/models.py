"""Requests and responses of subscription sets: all subscriptions of a store, read and replaced as one."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, WithJsonSchema

from api.body import Input, Output, checked_by
from api.ids import is_id
from api.instants import Instant
from api.subscriptions.authentication import SHOWN, Authentication
from api.subscriptions.models import (
    Concurrency,
    EventName,
    Header,
    MaskedHeader,
    Name,
    RatePerSecond,
    RetrySchedule,
    TimeoutSeconds,
    Url,
    legacy_where_there_is_one,
)
from domain.delivery.ordering import AfterExhausted, OrderKey
from domain.wire.headers import HEADERS_MOST

ENTRIES_MOST = 10_000
"""Maximum number of entries. Above any limit of a store; the size of the body is limited as well."""

PLAN_CHARACTERS = 64
"""Length of a plan: a SHA-256 in hex."""


def _entry_schema(schema: dict[str, Any]) -> None:
    """Require a name or an id, and a legacy format for `legacy`."""
    legacy_where_there_is_one(schema)
    named = {"required": ["name"], "properties": {"name": {"type": "string"}}}
    known = {"required": ["webhookSubscriptionId"], "properties": {"webhookSubscriptionId": {"type": "string"}}}
    schema["anyOf"] = [named, known]


SubscriptionId = Annotated[
    str,
    checked_by("uuid", lambda text: None if is_id(text) else "must be a UUID"),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]


class SubscriptionEntry(Input):
    """Desired state of a webhook; omitted fields get their defaults.

    The entry applies to the webhook with its id, or else with its event and name. Without one, it creates one.
    """

    model_config = ConfigDict(json_schema_extra=_entry_schema)

    webhook_subscription_id: SubscriptionId | None = None
    event_name: EventName
    name: Name | None = None
    url: Url
    legacy: bool = False
    headers: Annotated[list[Header], Field(default_factory=list, max_length=HEADERS_MOST)]
    authentication: Authentication | None = None
    hmac_enabled: bool = False
    active_from: Instant | None = None
    rate_limit_per_second: RatePerSecond | None = None
    max_concurrency: Concurrency | None = None
    timeout_seconds: TimeoutSeconds | None = None
    ordered: bool = False
    order_key: OrderKey = "subscription"
    after_exhausted: AfterExhausted = "skip"
    retry_schedule: RetrySchedule | None = None


class SubscriptionSet(Input):
    """Desired webhooks of a store."""

    subscriptions: Annotated[list[SubscriptionEntry], Field(max_length=ENTRIES_MOST)]
    prune: bool = Field(False, description="Delete webhooks that are not in the set.")
    dry_run: bool = Field(False, description="Apply the set, report the changes, and roll back.")
    expected_plan: str | None = Field(
        None,
        max_length=PLAN_CHARACTERS,
        description="`plan` of the approved dry run; a 409 if the changes would differ now.",
    )


class StoredSubscription(Output):
    """A stored webhook; null where the installation's value applies."""

    webhook_subscription_id: UUID
    event_name: str
    name: str | None
    url: str
    legacy: bool
    headers: list[MaskedHeader]
    authentication: dict[str, str] | None = Field(description=SHOWN)
    hmac_enabled: bool
    active_from: datetime | None
    rate_limit_per_second: int | None
    max_concurrency: int | None
    timeout_seconds: int | None
    ordered: bool
    order_key: OrderKey
    after_exhausted: AfterExhausted
    retry_schedule: list[int] | None


class StoredSet(Output):
    """All webhooks of the store, ordered by event, name and URL."""

    subscriptions: list[StoredSubscription]


class FieldChange(Output):
    """Old and new value of a field. For headers: their names, and which values are new."""

    field: str
    before: Any
    after: Any


class PlannedChange(Output):
    """Change of one webhook."""

    action: Literal["create", "update", "delete"]
    index: int | None = Field(description="Index in the request; null for a deletion.")
    webhook_subscription_id: UUID | None = Field(description="Null for a creation in a dry run.")
    event_name: str
    name: str | None
    url: str
    changes: list[FieldChange]
    loses: list[str] = Field(description="Irrecoverable losses, in words.")
    warning: str | None = Field(description="The URL was accepted although its name does not resolve now.")
    hmac_secret: str | None = Field(
        None, description="The new signing key, if any, shown now, later in the panel alone."
    )


class OtherSubscription(Output):
    """A webhook that is not in the set and stays unchanged."""

    webhook_subscription_id: UUID
    event_name: str
    name: str | None
    url: str


class SetAnswer(Output):
    """Changes that were made, or would be made in a dry run."""

    plan: str = Field(description="Fingerprint of exactly these changes.")
    applied: bool
    changes: list[PlannedChange]
    unchanged: int
    others: list[OtherSubscription]
