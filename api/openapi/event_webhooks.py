"""The `webhooks` section of the OpenAPI document: every request a receiver may get, with schema and example.

Receivers generate code from it. Names are the event's, with `.legacy` for the legacy format and the variant behind it
for the second legacy webhook of an event.
"""

from collections.abc import Iterator
from typing import Any

from domain.events.catalogue import CATALOGUE, EventType
from domain.events.examples import legacy_example, modern_body_schema, modern_example
from domain.wire.bodies import MAIN

_TEXT = {"type": "string"}
_SIGNATURE_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "X-Webhook-Signature": (_TEXT, "HMAC-SHA256 in hex over method, host, path, body hash, timestamp and request id."),
    "X-Webhook-Signature-Algorithm": ({"const": "hmac-sha256"}, "The algorithm."),
    "X-Webhook-Timestamp": ({"type": "integer"}, "When it was signed, in Unix seconds."),
    "X-Webhook-Request-Id": ({"type": "string", "format": "uuid"}, "New for each attempt."),
    "X-Webhook-Signature-Version": ({"type": "integer"}, "Grows with each rotation of the key."),
    "webhook-id": ({"type": "string", "format": "uuid"}, "The messageId; the same for each attempt."),
    "webhook-timestamp": ({"type": "integer"}, "As X-Webhook-Timestamp (Standard Webhooks)."),
    "webhook-signature": (_TEXT, "`v1,` and a signature in base64 (Standard Webhooks); after a rotation two of them."),
}


def event_webhooks() -> dict[str, Any]:
    """Path items by name. The examples hold exact numbers: write them with `domain.wire.jsontext`."""
    return {name: item for event_type in CATALOGUE.values() for name, item in _webhooks_of(event_type)}


def _webhooks_of(event_type: EventType) -> Iterator[tuple[str, dict[str, Any]]]:
    name, description = event_type.name, event_type.description
    yield name, _path_item(name, description, modern_body_schema(event_type), modern_example(event_type))
    form = event_type.legacy
    if form is None:
        return
    for variant in (MAIN,) if form.second is None else (MAIN, form.second.variant):
        legacy_name = f"{name}.legacy" if variant == MAIN else f"{name}.legacy.{variant}"
        schema, example = event_type.legacy_schema(variant), legacy_example(event_type, variant)
        yield legacy_name, _path_item(legacy_name, f"{description} Legacy format.", schema, example)


def _path_item(name: str, description: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {
        "post": {
            "operationId": f"receive{name.replace('.', '_')}",
            "summary": name,
            "description": description,
            "tags": ["webhooks"],
            "security": [],
            "parameters": [
                {"name": header, "in": "header", "required": False, "schema": header_schema, "description": meaning}
                for header, (header_schema, meaning) in _SIGNATURE_HEADERS.items()
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
            "responses": {
                "2XX": {"description": "Delivered. Of the body, the beginning is kept for the log."},
                "410": {"description": "Gone for good: the subscription is disabled."},
                "default": {"description": "Failed; tried again by the subscription's schedule."},
            },
        }
    }
