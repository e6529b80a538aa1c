"""Request bodies: modern by splicing the data's text into its envelope, legacy by rendering the event's form."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from domain.events.catalogue import CATALOGUE
from domain.timestamps import local_iso, zone
from domain.wire.jsontext import JsonTextError, JsonValue, dump, dump_bytes, parse
from domain.wire.legacy import LegacySource, find, render

MAIN = "main"
"""Variant of a delivery of an event's first or only webhook."""

TEST = "test"
"""Variant of a test delivery, with which a person checks that a receiver answers. Its body is that of MAIN."""


@dataclass(slots=True)  # not frozen: a frozen one takes 3× as long to create, for each event
class EventFacts:
    """The facts of an event from which bodies are made.

    `created_at` is the date-time as the body has it; `data_text` is the compact JSON text of the data as accepted.
    """

    event_id: UUID
    name: str
    store_code: str
    created_at: str
    data_text: str


def modern_data_text(name: str, data_text: str) -> str:
    """Return the text of a modern body's `data`, without legacy-only fields; the argument itself if it has none."""
    event_type = CATALOGUE.get(name)
    if event_type is None or not any(f'"{field}":' in data_text for field in event_type.legacy_only):
        return data_text
    data = parse(data_text.encode())
    if not isinstance(data, dict) or event_type.legacy_only.isdisjoint(data):
        return data_text
    return dump({key: value for key, value in data.items() if key not in event_type.legacy_only})


def modern_body(facts: EventFacts, modern_data: str, message_id: UUID | str, request_id: UUID | str) -> bytes:
    """Return the modern body. `modern_data` comes from `modern_data_text`, once for all requests of an event."""
    return (
        f'{{"messageId":"{message_id}","requestId":"{request_id}","eventName":{dump(facts.name)},'
        f'"storeCode":{dump(facts.store_code)},"createdAt":{dump(facts.created_at)},"data":{modern_data}}}'
    ).encode()


def variants(name: str, data_text: str, legacy: bool) -> tuple[str, ...]:
    """Return the variants that an event delivers to a subscription: `("main",)`, or also a second one of its own type.
    Empty for a legacy subscription to an event without a legacy form; such a subscription is refused at creation."""
    if not legacy:
        return (MAIN,)
    event_type = CATALOGUE.get(name)
    form = event_type.legacy if event_type else None
    if form is None:
        return ()
    second = form.second
    if second is None or f'"{second.when}":true' not in data_text:
        return (MAIN,)
    try:
        given = find(parse(data_text.encode()), (second.when,))
    except JsonTextError:
        # A damaged row must not stop the matching of the rest of its batch; its attempt fails when the body is built.
        return (MAIN,)
    return (MAIN, second.variant) if given is True else (MAIN,)


def legacy_body(facts: EventFacts, variant: str, timezone: str) -> bytes:
    """Return the legacy body of the variant, with instants in the store's IANA `timezone`. Raises KeyError for an
    unknown event and ValueError for a variant without a legacy form; never for the contents of the event's data."""
    type_, shape, created_at = CATALOGUE[facts.name].legacy_parts(MAIN if variant == TEST else variant)
    source = LegacySource(parse(facts.data_text.encode()), facts.store_code, zone(timezone))
    body: dict[str, JsonValue] = {"type": type_}
    if created_at:
        body["createdAt"] = local_iso(facts.created_at, source.zone) or facts.created_at
    body["data"] = render(shape, source)
    return dump_bytes(body)
