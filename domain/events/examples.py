"""Example bodies made from the samples of the catalogue, and their schemas, for OpenAPI and the event pages."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from domain.events.event_type import EventType
from domain.wire.bodies import MAIN, EventFacts, legacy_body, modern_body, modern_data_text
from domain.wire.jsontext import JsonValue, dump, parse

EXAMPLE_STORE = "default"
EXAMPLE_TIMEZONE = "Europe/Warsaw"
EXAMPLE_MESSAGE_ID = UUID("6a0f5c1e-9b7d-5e3a-8c42-1d0e9f8a7b6c")
EXAMPLE_REQUEST_ID = UUID("0d1c2b3a-4958-4677-8695-a4b3c2d1e0f9")


def example_facts(event_type: EventType) -> EventFacts:
    """Return the event's sample as if it had been emitted, for documentation."""
    event_id, data_text = UUID("b7a69584-7362-4150-8f3e-2d1c0b9a8877"), dump(event_type.sample)
    return EventFacts(event_id, event_type.name, EXAMPLE_STORE, "2026-01-02T13:05:10Z", data_text)


def modern_example(event_type: EventType) -> JsonValue:
    """Return a modern body made from the sample."""
    facts = example_facts(event_type)
    data_text = modern_data_text(facts.name, facts.data_text)
    return parse(modern_body(facts, data_text, EXAMPLE_MESSAGE_ID, EXAMPLE_REQUEST_ID))


def legacy_example(event_type: EventType, variant: str = MAIN) -> JsonValue:
    """Return a legacy body made from the sample, or None if the event has no legacy form."""
    if event_type.legacy is None:
        return None
    return parse(legacy_body(example_facts(event_type), variant, EXAMPLE_TIMEZONE))


def modern_body_schema(event_type: EventType) -> dict[str, Any]:
    """Return the JSON Schema of the whole modern body, for receivers."""
    uuid, instant = {"type": "string", "format": "uuid"}, {"type": "string", "format": "date-time"}
    properties = {"messageId": uuid, "requestId": uuid, "eventName": {"const": event_type.name}}
    properties |= {"storeCode": {"type": "string"}, "createdAt": instant, "data": event_type.modern_schema()}
    return {"type": "object", "properties": properties, "required": list(properties)}
