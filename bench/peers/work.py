"""The work every contestant does: an event, whom it goes to, and the signed request of each delivery.

What the peers do here they do with our own code for bodies and signatures, so that only the way there differs. To their
favour subscriptions stand in memory.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import orjson

from domain.delivery.identity import message_id
from domain.wire.bodies import MAIN, EventFacts, modern_body, modern_data_text
from domain.wire.signing import format_secret, signature_headers

Event: TypeAlias = dict[str, Any]
"""As a platform emits it: eventId, eventName, createdAt, data."""

EVENT_NAMES = {1: "CustomerUpdated", 5: "CustomerDeactivated"}
"""Number of subscriptions -> the event that has so many."""

STORE = "default"
SECRET = format_secret(bytes(range(32)))
RECEIVER_VARIABLE = "BENCH_RECEIVER"
"""Environment variable with the receiver's root address."""

AUTHORITY_VARIABLE = "BENCH_AUTHORITY"
"""Environment variable with the PEM file of the authority of its certificate, for HTTPS."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where an event goes."""

    id: UUID
    url: str


def new_event(name: str) -> Event:
    """An event of now, so that the receiver can tell the latency."""
    customer = {
        "customerId": str(uuid4()),
        "email": "member@example.com",
        "phone": "+48123456789",
        "loyaltyCardNumber": "1234567890123",
    }
    created_at = datetime.now(UTC).isoformat()
    return {"eventId": str(uuid4()), "eventName": name, "createdAt": created_at, "data": {"customer": customer}}


def paths(name: str) -> list[str]:
    """The receiver's path of each subscription to an event."""
    return next(
        [f"/{name}/{number}" for number in range(count)] for count, known in EVENT_NAMES.items() if known == name
    )


@cache
def subscriptions(name: str) -> tuple[Subscription, ...]:
    """Who gets an event of this name."""
    root = os.environ[RECEIVER_VARIABLE]
    return tuple(Subscription(uuid5(NAMESPACE_URL, path), root + path) for path in paths(name))


@cache
def url_of(subscription_id: str) -> str:
    """The URL of a subscription, for a task that was given its id."""
    return next(
        one.url for name in EVENT_NAMES.values() for one in subscriptions(name) if str(one.id) == subscription_id
    )


def request_of(event: Mapping[str, object], subscription_id: str) -> tuple[str, dict[str, str], bytes]:
    """URL, headers and body of one delivery, signed now."""
    url = url_of(subscription_id)
    facts = EventFacts(
        UUID(str(event["eventId"])),
        str(event["eventName"]),
        STORE,
        str(event["createdAt"]),
        orjson.dumps(event["data"]).decode(),
    )
    identity, request_id = message_id(facts.event_id, UUID(subscription_id), MAIN), uuid4()
    body = modern_body(facts, modern_data_text(facts.name, facts.data_text), identity, request_id)
    parts = urlsplit(url)
    signature = signature_headers(
        method="POST",
        host=parts.netloc,
        path=parts.path,
        body=body,
        timestamp=int(time.time()),
        request_id=str(request_id),
        message_id=str(identity),
        secret=SECRET,
        previous_secret=None,
        version=1,
    )
    return url, {"Content-Type": "application/json", **dict(signature)}, body
