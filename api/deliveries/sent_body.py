"""The body of an attempt as it was sent, made again from the event: bodies are derived, not stored.

What makes it certain is the SHA-256 recorded with the attempt. Secrets are part of what is hashed and masked in what is
shown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from domain.wire.bodies import EventFacts, legacy_body, modern_body, modern_data_text
from storage.deliveries.log import AttemptRow, DeliveryRow
from storage.events.log import EventRow
from storage.sealing import SealBrokenError


@dataclass(frozen=True, slots=True)
class SentBody:
    """`text` is the body, secrets masked; where it cannot be shown, `note` says why. With a text, `note` says what is
    not certain about it, and `size_bytes` is that of what was sent, secrets and all."""

    text: str | None
    note: str | None = None
    size_bytes: int | None = None


def sent_body(
    event: EventRow | None, delivery: DeliveryRow, attempt: AttemptRow | None, unseal: Callable[[bytes], str]
) -> SentBody:
    """What the attempt sent. `unseal` opens sealed data."""
    if attempt is None:
        return SentBody(None, "Nothing has been sent yet.")
    if event is None or event.data is None:
        return SentBody(None, "The data of this delivery's event is no longer stored.")
    try:
        sent = _body(event, delivery, attempt, event.data if event.sealed_data is None else unseal(event.sealed_data))
        shown = sent if event.sealed_data is None else _body(event, delivery, attempt, event.data)
    except SealBrokenError as error:
        return SentBody(None, f"The event's data cannot be opened: {error}.")
    except (KeyError, ValueError):
        return SentBody(None, "This version no longer has the form in which the body was sent.")
    return _compared(sent, shown.decode(), attempt.body_sha256)


def _compared(sent: bytes, shown: str, recorded_sha256: bytes | None) -> SentBody:
    if recorded_sha256 is None:
        return SentBody(shown, "The attempt has no recorded hash; this is what it had to send.", len(sent))
    if sha256(sent).digest() != recorded_sha256:
        return SentBody(
            None, "What was sent differs from what would be made now: the store's time zone or the form has changed."
        )
    return SentBody(shown, size_bytes=len(sent))


def _body(event: EventRow, delivery: DeliveryRow, attempt: AttemptRow, data: str) -> bytes:
    facts = EventFacts(event.event_id, event.name, event.store_code, event.created_at_text, data)
    if attempt.legacy:
        return legacy_body(facts, delivery.variant, event.timezone)
    return modern_body(facts, modern_data_text(event.name, data), delivery.message_id, attempt.request_id)
