"""Deliveries and attempts written straight into the log, as the worker leaves them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from domain.delivery.identity import message_id
from domain.wire.bodies import EventFacts, legacy_body, modern_body, modern_data_text
from tests.api.running import STORE, RunningApi

URL = "https://receiver.example.com/hooks?tenant=1"


@dataclass(frozen=True)
class Logged:
    """A delivery in the log; `body` is what its last attempt sent."""

    message_id: UUID
    event_id: UUID
    subscription_id: UUID
    request_id: UUID
    body: bytes


async def subscribe(api: RunningApi, event_name: str, url: str = URL, *, legacy: bool = False) -> UUID:
    """A subscription of the API's store."""
    identity = uuid4()
    await api.execute(
        "INSERT INTO subscription (id, store_code, event_name, url, legacy) VALUES (:id, :store, :name, :url, :legacy)",
        id=identity,
        store=api.store,
        name=event_name,
        url=url,
        legacy=legacy,
    )
    return identity


async def deliver(
    api: RunningApi, event_name: str, data: Any, whole_text: str, *, legacy: bool = False, **columns: Any
) -> Logged:
    """Emit through the API, then write a delivery with one attempt. `whole_text` is the data's compact text."""
    answer = await api.emit(event_name, data, createdAt="2026-01-02T03:04:05Z")
    assert answer.status_code == 202, answer.text
    event_id = UUID(answer.json()["eventId"])
    subscription_id = await subscribe(api, event_name, legacy=legacy)
    identity, request_id = message_id(event_id, subscription_id, "main"), uuid4()
    facts = EventFacts(event_id, event_name, STORE, "2026-01-02T03:04:05Z", whole_text)
    body = (
        legacy_body(facts, "main", "UTC")
        if legacy
        else modern_body(facts, modern_data_text(event_name, whole_text), identity, request_id)
    )
    values = {
        "message_id": identity,
        "store_code": api.store,
        "event_id": event_id,
        "event_name": event_name,
        "subscription_id": subscription_id,
        "variant": "main",
        "url": URL,
        "status": "delivered",
        "attempts": 1,
        "last_status_code": 200,
        "workflow_id": f"event/{api.store}/{event_id}",
        "ended_at": datetime.now(UTC),
    } | columns
    await _insert(api, "delivery", values)
    attempt = {
        "accepted_on": datetime.now(UTC).date(),
        "message_id": identity,
        "number": 1,
        "request_id": request_id,
        "trigger": "automatic",
        "worker_id": uuid4(),
        "legacy": legacy,
        "outcome_at": datetime.now(UTC),
        "duration_ms": 12,
        "status_code": 200,
        "response_excerpt": "thanks <b>",
        "body_sha256": sha256(body).digest(),
    }
    await _insert(api, "attempt", attempt)
    return Logged(identity, event_id, subscription_id, request_id, body)


async def _insert(api: RunningApi, table: str, values: dict[str, Any]) -> None:
    names = ", ".join(values)
    await api.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})", **values)
