"""The bodies of requests: modern by splicing the data's text into its envelope, legacy as the event's form says."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from domain.events.catalogue import CATALOGUE
from domain.timestamps import local_iso, zone
from domain.wire.jsontext import JsonTextError, JsonValue, dump, dump_bytes, parse
from domain.wire.legacy import LegacySource, find, render

MAIN = "main"

TEST = "test"
"""The variant of a delivery that a person asked for to see whether a receiver answers; its body is the main one."""


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each event
class EventFacts:
    """What bodies are made of.

    `created_at` is a date-time in the text of the body; `data_text` the compact JSON text of the data as accepted.
    """

    event_id: UUID
    name: str
    store_code: str
    created_at: str
    data_text: str


def modern_data_text(name: str, data_text: str) -> str:
    """The text of a modern body's `data`: without the legacy-only fields, the very object given if it has none."""
    event_type = CATALOGUE.get(name)
    if event_type is None or not any(f'"{field}":' in data_text for field in event_type.legacy_only):
        return data_text
    data = parse(data_text.encode())
    if not isinstance(data, dict) or event_type.legacy_only.isdisjoint(data):
        return data_text
    return dump({key: value for key, value in data.items() if key not in event_type.legacy_only})


def modern_body(facts: EventFacts, modern_data: str, message_id: UUID | str, request_id: UUID | str) -> bytes:
    """The modern body. `modern_data` comes from `modern_data_text`, once for all requests of an event."""
    return (
        f'{{"messageId":"{message_id}","requestId":"{request_id}","eventName":{dump(facts.name)},'
        f'"storeCode":{dump(facts.store_code)},"createdAt":{dump(facts.created_at)},"data":{modern_data}}}'
    ).encode()


def variants(name: str, data_text: str, legacy: bool) -> tuple[str, ...]:
    """The deliveries an event makes for one subscription: `("main",)`, or with a second one of its own type.

    Empty for a legacy subscription to an event without a legacy form; such a subscription is refused when made.
    """
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
        return (MAIN,)  # a damaged row must not keep the rest of its batch from being matched; its own body will fail
    return (MAIN, second.variant) if given is True else (MAIN,)


def legacy_body(facts: EventFacts, variant: str, timezone: str) -> bytes:
    """The legacy body of that variant, instants in the store's IANA `timezone`.

    Raises KeyError for an unknown event, ValueError where there is no legacy form of that variant; never for what the
    event's data hold.
    """
    type_, shape, created_at = CATALOGUE[facts.name].legacy_parts(MAIN if variant == TEST else variant)
    source = LegacySource(parse(facts.data_text.encode()), facts.store_code, zone(timezone))
    body: dict[str, JsonValue] = {"type": type_}
    if created_at:
        body["createdAt"] = local_iso(facts.created_at, source.zone) or facts.created_at
    body["data"] = render(shape, source)
    return dump_bytes(body)
