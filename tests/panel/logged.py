"""Deliveries in the log of a test's store, as workers leave them."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from domain.wire.bodies import EventFacts, modern_body, modern_data_text
from tests.api.installation import Installation, Shop

CREATED_AT = "2026-01-02T03:04:05Z"
CUSTOMER = '{"customer":{"customerId":"3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b"}}'


async def add_event(shop: Shop, data: str | None = CUSTOMER, name: str = "CustomerUpdated") -> UUID:
    """An accepted and matched event; its body is gone where `data` is None."""
    event_id = uuid4()
    values = {"store": shop.store, "id": event_id, "name": name, "created_at": CREATED_AT}
    await shop.installation.execute(
        """
        INSERT INTO event (store_code, event_id, name, created_at, created_at_text, digest, matched_at)
        VALUES (:store, :id, :name, now(), :created_at, '', now())
        """,
        **values,
    )
    if data is not None:
        await shop.installation.execute(
            """
            INSERT INTO event_body (accepted_on, store_code, event_id, data)
            SELECT accepted_on, store_code, event_id, :data FROM event WHERE store_code = :store AND event_id = :id
            """,
            store=shop.store,
            id=event_id,
            data=data,
        )
    return event_id


async def add_delivery(shop: Shop, subscription_id: str, event_id: UUID | None = None, **columns: Any) -> UUID:
    """A delivery, delivered unless the columns say otherwise."""
    values = {
        "message_id": uuid4(),
        "store_code": shop.store,
        "event_id": event_id or await add_event(shop),
        "event_name": "CustomerUpdated",
        "subscription_id": UUID(subscription_id),
        "variant": "main",
        "url": "https://receiver.example.com/hook?x=1",
        "status": "delivered",
        "attempts": 1,
        "last_status_code": 200,
        "ended_at": datetime.now(UTC),
    } | columns
    await _insert(shop.installation, "delivery", values)
    message_id: UUID = values["message_id"]
    return message_id


async def add_attempt(shop: Shop, message_id: UUID, number: int = 1, data: str = CUSTOMER, **columns: Any) -> None:
    """An attempt of a delivery, with the hash of the body that its event makes."""
    [row] = await shop.installation.execute("SELECT * FROM delivery WHERE message_id = :id", id=message_id)
    request_id, started_at = uuid4(), row["created_at"] + timedelta(minutes=number - 1)
    facts = EventFacts(row["event_id"], row["event_name"], shop.store, CREATED_AT, data)
    body = modern_body(facts, modern_data_text(row["event_name"], data), message_id, request_id)
    values = {
        "accepted_on": row["accepted_on"],
        "message_id": message_id,
        "number": number,
        "request_id": request_id,
        "trigger": "automatic",
        "worker_id": uuid4(),
        "legacy": False,
        "started_at": started_at,
        "outcome_at": started_at + timedelta(milliseconds=120),
        "duration_ms": 120,
        "status_code": 200,
        "response_excerpt": "thanks",
        "body_sha256": sha256(body).digest(),
    } | columns
    await _insert(shop.installation, "attempt", values)


async def fail(shop: Shop, webhook: str, last_failed_id: UUID | None = None) -> None:
    """A receiver whose breaker is open."""
    await shop.installation.execute(
        """
        INSERT INTO subscription_health (subscription_id, failures_in_row, failing_since, breaker_opened_at, probe_at,
            last_failed_id)
        VALUES (:id, 20, now() - interval '2 hours', now() - interval '1 hour', now() + interval '1 hour', :last)
        """,
        id=UUID(webhook),
        last=last_failed_id,
    )


async def _insert(installation: Installation, table: str, values: dict[str, Any]) -> None:
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    await installation.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", **values)
