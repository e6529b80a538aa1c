"""All subscriptions of a store as one thing: read whole, compared with what is wanted, brought to it in one step."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.body import WHOLE, Input, Output
from api.errors import NotFound
from api.ids import parse_id
from api.instants import Instant
from api.subscriptions.models import (
    CONCURRENCY_MOST,
    RATE_MOST_PER_SECOND,
    RETRIES_MOST,
    EventName,
    Header,
    MaskedHeader,
    Name,
    RetryDelay,
    Url,
    legacy_where_there_is_one,
)
from domain.delivery.ordering import AfterExhausted, OrderKey
from domain.wire.headers import HEADERS_MOST

ENTRIES_MOST = 10_000  # beyond any limit of a store; the body's size is bounded too
PLAN_CHARACTERS = 64


def _check_id(text: str) -> str:
    try:
        parse_id(text)
    except NotFound:
        raise PydanticCustomError("uuid", "must be a UUID") from None
    return text


def _entry_schema(schema: dict[str, Any]) -> None:
    """Named, or known by its id; legacy only where there is a legacy form."""
    legacy_where_there_is_one(schema)
    named = {"required": ["name"], "properties": {"name": {"type": "string"}}}
    known = {"required": ["webhookSubscriptionId"], "properties": {"webhookSubscriptionId": {"type": "string"}}}
    schema["anyOf"] = [named, known]


SubscriptionId = Annotated[str, AfterValidator(_check_id), WithJsonSchema({"type": "string", "format": "uuid"})]


class SubscriptionEntry(Input):
    """A subscription as it is to be; what is left out is to be as the default.

    It is the one with this event and name, a new one when there is none; or the one with this id.
    """

    model_config = ConfigDict(json_schema_extra=_entry_schema)

    webhook_subscription_id: SubscriptionId | None = None
    event_name: EventName
    name: Name | None = None
    url: Url
    legacy: bool = False
    headers: Annotated[list[Header], Field(default_factory=list, max_length=HEADERS_MOST)]
    hmac_enabled: bool = False
    active_from: Instant | None = None
    rate_limit_per_second: Annotated[int, Field(ge=1, le=RATE_MOST_PER_SECOND), WHOLE] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=CONCURRENCY_MOST), WHOLE] | None = None
    ordered: bool = False
    order_key: OrderKey = "subscription"
    after_exhausted: AfterExhausted = "skip"
    retry_schedule: Annotated[list[RetryDelay], Field(max_length=RETRIES_MOST)] | None = None


class SubscriptionSet(Input):
    """The subscriptions a store is to have."""

    subscriptions: Annotated[list[SubscriptionEntry], Field(max_length=ENTRIES_MOST)]
    prune: bool = Field(False, description="Delete those that are not among them.")
    dry_run: bool = Field(False, description="Do everything, answer what it did, and undo it.")
    expected_plan: str | None = Field(
        None,
        max_length=PLAN_CHARACTERS,
        description="`plan` of the dry run that was agreed to: when something else would be done now, it is a 409.",
    )


class StoredSubscription(Output):
    """A subscription as it is stored; null where the installation's value applies."""

    webhook_subscription_id: UUID
    event_name: str
    name: str | None
    url: str
    legacy: bool
    headers: list[MaskedHeader]
    hmac_enabled: bool
    active_from: datetime | None
    rate_limit_per_second: int | None
    max_concurrency: int | None
    ordered: bool
    order_key: OrderKey
    after_exhausted: AfterExhausted
    retry_schedule: list[int] | None


class StoredSet(Output):
    """All subscriptions of the store, by event, name and URL."""

    subscriptions: list[StoredSubscription]


class FieldChange(Output):
    """What a field was and will be; of headers, which names and which values are new."""

    field: str
    before: Any
    after: Any


class PlannedChange(Output):
    """What is done to one subscription."""

    action: Literal["create", "update", "delete"]
    index: int | None = Field(description="Place among the subscriptions sent; null of one that is deleted.")
    webhook_subscription_id: UUID | None = Field(description="Null in a dry run of one that is created.")
    event_name: str
    name: str | None
    url: str
    changes: list[FieldChange]
    loses: list[str] = Field(description="What nobody can bring back, in words.")
    warning: str | None = Field(description="The URL was accepted although its name does not resolve now.")
    hmac_secret: str | None = Field(None, description="The new signing key when there is one, shown this once.")


class OtherSubscription(Output):
    """A subscription that was not among those sent, and was left alone."""

    webhook_subscription_id: UUID
    event_name: str
    name: str | None
    url: str


class SetAnswer(Output):
    """What was done, or in a dry run would be."""

    plan: str = Field(description="Names exactly these changes.")
    applied: bool
    changes: list[PlannedChange]
    unchanged: int
    others: list[OtherSubscription]
