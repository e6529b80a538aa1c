"""Requests and responses of subscriptions. Source: the wire contract, sections 1 and 5."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from api.body import WHOLE, Input, Output, checked_by
from api.instants import Instant
from api.subscriptions.authentication import SHOWN, Authentication
from domain.delivery.lifecycle import SubscriptionStatus
from domain.delivery.ordering import AfterExhausted, OrderKey
from domain.delivery.timeouts import LONGEST_REQUEST_SECONDS
from domain.events.catalogue import CATALOGUE, nearest_name
from domain.urls.rules import URL_MAX_CHARACTERS
from domain.wire.excerpts import MASK
from domain.wire.headers import (
    HEADERS_MOST,
    HOP_BY_HOP,
    NAME_MOST_CHARACTERS,
    REFUSED_NAMES,
    REFUSED_PREFIXES,
    TOKEN,
    VALUE,
    VALUE_MOST_CHARACTERS,
    name_problem,
    value_problem,
)

NAME_MOST = 255
"""Maximum length of a name, as wide as the panel shows."""

RETRIES_MOST = 50
"""Maximum number of delays in a retry schedule."""

RETRY_DELAY_MOST_SECONDS = 30 * 24 * 3600
"""Maximum delay before a retry: 30 days."""

RATE_MOST_PER_SECOND = 10_000
"""Maximum rate limit. Above the rate that one receiver can take."""

CONCURRENCY_MOST = 1_000
"""Maximum concurrency. Each request is a socket of the worker."""


def _either_case(text: str) -> str:
    """Return a case-insensitive pattern of the text. Patterns of JSON Schema have no flags."""
    return "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in text)


def _value_or_mask(value: str) -> str | None:
    return None if value == MASK else value_problem(value)


def _event_problem(name: str) -> str | None:
    if name in CATALOGUE:
        return None
    near = nearest_name(name)
    return "is not the name of an event" + (f"; did you mean {near}?" if near else "")


_REFUSED = "|".join(_either_case(name) for name in sorted(REFUSED_NAMES))
_REFUSED_BEGINNINGS = "|".join(_either_case(prefix) for prefix in REFUSED_PREFIXES)
_NAME_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": NAME_MOST_CHARACTERS,
    "pattern": f"^(?!(?:{_REFUSED})$)(?!{_REFUSED_BEGINNINGS}){TOKEN.pattern}$",
    "description": "RFC 9110 token; not a header that the sender sets: Host, Content-Length, Content-Type, "
    f"{', '.join(name.title() for name in HOP_BY_HOP)}, webhook-*, X-Webhook-*.",
    "examples": ["Authorization"],
}
_VALUE_SCHEMA = {
    "type": "string",
    "maxLength": VALUE_MOST_CHARACTERS,
    "pattern": f"^{VALUE.pattern}$",
    "description": f"A secret, returned as {MASK}. In an update, {MASK} keeps the stored value of that name, "
    "unless the URL gets another origin.",
    "examples": ["Bearer 0123456789"],
}
HeaderName = Annotated[str, checked_by("header_name", name_problem), WithJsonSchema(_NAME_SCHEMA)]
HeaderValue = Annotated[str, checked_by("header_value", _value_or_mask), WithJsonSchema(_VALUE_SCHEMA)]
EventName = Annotated[
    str, checked_by("unknown_event", _event_problem), WithJsonSchema({"type": "string", "enum": list(CATALOGUE)})
]
Name = Annotated[str, Field(min_length=1, max_length=NAME_MOST)]
RetryDelay = Annotated[int, Field(ge=1, le=RETRY_DELAY_MOST_SECONDS), WHOLE]
RetrySchedule = Annotated[list[RetryDelay], Field(max_length=RETRIES_MOST)]
RatePerSecond = Annotated[int, Field(ge=1, le=RATE_MOST_PER_SECOND), WHOLE]
Concurrency = Annotated[int, Field(ge=1, le=CONCURRENCY_MOST), WHOLE]
TimeoutSeconds = Annotated[
    int,
    Field(ge=1, le=LONGEST_REQUEST_SECONDS, description="Timeout of a whole request, connecting included, in seconds."),
    WHOLE,
]
Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_MAX_CHARACTERS,
        description="Destination of the POST requests. https, unless the installation allows http; no user, fragment "
        "or private address. Stored, signed and sent in a normal form.",
        examples=["https://receiver.example.com/webhooks"],
        json_schema_extra={"format": "uri"},
    ),
]


class Header(Input):
    """A header of each delivery."""

    header_name: HeaderName
    header_value: HeaderValue


def _single_header(schema: dict[str, Any]) -> None:
    """Document the deprecated single-header form: both fields or neither, and one of `headers` less beside it.

    Null is accepted but undocumented.
    """
    for name in ("headers", "headerName", "headerValue"):
        field = schema["properties"][name]
        field.update(field.pop("anyOf")[0])
    for name, other in (("headerName", "headerValue"), ("headerValue", "headerName")):
        schema["properties"][name]["deprecated"] = True
        schema.setdefault("dependentRequired", {})[name] = [other]
    given = {"required": ["headerName"], "properties": {"headerName": {"type": "string"}}}
    one_less = {"properties": {"headers": {"maxItems": HEADERS_MOST - 1}}}
    schema["allOf"] = [{"if": given, "then": one_less}]


def legacy_where_there_is_one(schema: dict[str, Any]) -> None:
    """Restrict `legacy` to events with a legacy format."""
    legacy_names = [name for name, event_type in CATALOGUE.items() if event_type.legacy is not None]
    schema["if"] = {"properties": {"legacy": {"const": True}}, "required": ["legacy"]}
    schema["then"] = {"properties": {"eventName": {"enum": legacy_names}}}


def _create_schema(schema: dict[str, Any]) -> None:
    _single_header(schema)
    legacy_where_there_is_one(schema)


def _update_schema(schema: dict[str, Any]) -> None:
    """Remove defaults: an omitted field stays unchanged."""
    _single_header(schema)
    for field in schema["properties"].values():
        field.pop("default", None)


class _SubscriptionInput(Input):
    """Fields of both create and update. Fields omitted from an update stay unchanged."""

    headers: Annotated[list[Header], Field(max_length=HEADERS_MOST)] | None = None
    header_name: HeaderName | None = None
    header_value: HeaderValue | None = None
    destination_type: Literal["rest"] = "rest"
    hmac_enabled: bool = False
    authentication: Authentication | None = None
    """Credentials of each request; null: none."""
    legacy: bool = False
    name: Name | None = None
    active_from: Instant | None = None
    rate_limit_per_second: RatePerSecond | None = None
    max_concurrency: Concurrency | None = None
    timeout_seconds: TimeoutSeconds | None = None
    ordered: bool = False
    order_key: OrderKey = "subscription"
    """Ordering key of an ordered webhook. With `customer`, events of different customers are independent."""
    after_exhausted: AfterExhausted = "skip"
    """Policy of an ordered webhook for the successors of a delivery that gave up: `skip` sends them, `hold` holds
    them until an operator redelivers, recovers or cancels it."""
    retry_schedule: RetrySchedule | None = None
    """Delays in seconds after each failed attempt; null: the installation's schedule."""

    @property
    def given_headers(self) -> list[Header] | None:
        """`headers` with the deprecated single header appended unless contained, or None if neither is given."""
        name, value = self.header_name, self.header_value
        if name is None or value is None:
            return self.headers
        if any(header.header_name.lower() == name.lower() for header in self.headers or ()):
            return self.headers
        return [*(self.headers or ()), Header.model_construct(header_name=name, header_value=value)]


class SubscriptionCreate(_SubscriptionInput):
    """A new webhook."""

    event_name: EventName
    url: Url

    model_config = ConfigDict(json_schema_extra=_create_schema)


class SubscriptionUpdate(_SubscriptionInput):
    """New values of a webhook. `eventName` cannot change, but may be repeated."""

    url: Url
    event_name: SkipJsonSchema[str | None] = None

    model_config = ConfigDict(json_schema_extra=_update_schema)


class MaskedHeader(Output):
    """A header in a response, with its value masked."""

    header_name: str
    header_value: str = Field(description=f"Always {MASK}.")


class SubscriptionRowOut(Output):
    """A webhook in a list. `headerName` and `headerValue` describe its first header."""

    webhook_subscription_id: UUID
    event_name: str
    url: str
    header_name: str | None
    header_value: str | None
    legacy: bool
    created_at: datetime
    destination_type: str
    name: str | None
    active_from: datetime | None
    hmac_enabled: bool
    active: bool


class SubscriptionDetails(SubscriptionRowOut):
    """A webhook with all its fields."""

    headers: list[MaskedHeader]
    authentication: dict[str, str] | None = Field(description=SHOWN)
    certificate_expires_at: datetime | None = Field(description="Expiry of the client certificate, if there is one.")
    status: SubscriptionStatus
    status_reason: str | None
    status_since: datetime
    rate_limit_per_second: int | None = Field(description="Null: no limit.")
    max_concurrency: int = Field(description="Maximum requests in flight; default: the installation's.")
    timeout_seconds: float = Field(description="Timeout of a whole request; default: the installation's.")
    ordered: bool
    order_key: OrderKey
    after_exhausted: AfterExhausted
    retry_schedule: list[int] = Field(
        description="Delays in seconds after each failed attempt; default: the installation's."
    )
    url_warning: str | None = Field(
        description="Why deliveries cannot reach the URL now: its host name has no address, or one that is not allowed."
    )


class Total(Output):
    """Number of rows in the store, and of rows that match the filters."""

    all: int
    filtered: int


class SubscriptionList(Output):
    """One page of webhooks."""

    items: list[SubscriptionRowOut]
    total: Total


class SubscriptionCreated(Output):
    """The new webhook. If signing is on, with its signing key, which no other call returns."""

    webhook_subscription_id: UUID
    hmac_secret: str | SkipJsonSchema[None] = Field(None, description="`whsec_…`, present if signing is on.")


class SigningSwitchedOn(Output):
    """The signing key. No other call returns it."""

    hmac_secret: str


class KeyRotated(Output):
    """The new signing key, which no other call returns, and its version."""

    hmac_secret: str
    signature_version: int
    shared_with: list[UUID] = Field(description="The other webhooks that had the same key and now have the new one.")
