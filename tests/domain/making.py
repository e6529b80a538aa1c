"""Events and their bodies made for tests, with ids that are easy to see."""

from uuid import UUID

from domain.wire.bodies import EventFacts, modern_body, modern_data_text

EVENT_ID = UUID("11111111-2222-4333-8444-555555555555")
MESSAGE_ID = UUID("66666666-7777-5888-9999-aaaaaaaaaaaa")
REQUEST_ID = UUID("bbbbbbbb-cccc-4ddd-8eee-ffffffffffff")


def facts(name: str, data_text: str, created_at: str = "2026-01-02T03:04:05+01:00") -> EventFacts:
    return EventFacts(EVENT_ID, name, "default", created_at, data_text)


def modern_of(name: str, data_text: str) -> bytes:
    return modern_body(facts(name, data_text), modern_data_text(name, data_text), MESSAGE_ID, REQUEST_ID)
