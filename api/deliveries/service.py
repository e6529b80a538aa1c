"""Delivery log for the API and the panel: pages with cursors, and the requests of past attempts.

Bodies are not stored. They are rebuilt from the event and compared with the SHA-256 recorded with the attempt; the hash
covers secrets, which are masked in the text shown. Headers are not stored either: they are those the sender adds and
the subscription's current ones. Of a secret header, only the name is shown.
"""

import base64
import binascii
import shlex
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, sha256
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import invalid
from api.listing import CURSOR, Listing
from domain.wire.authentication import AUTHORIZATION, sends_authorization
from domain.wire.bodies import TEST, EventFacts, legacy_body, modern_body, modern_data_text
from domain.wire.signing import ALGORITHM
from storage.deliveries.log import AttemptRow, DeliveryRow, Position, delivery_page
from storage.events.intake import EventRow
from storage.sealing import SealBrokenError, Sealer
from storage.subscriptions.queries import SubscriptionRow, open_authentication, open_headers


@dataclass(frozen=True, slots=True)
class LogPage:
    """Deliveries, newest first. `next_cursor` is None on the last page; earlier pages may be short, even empty."""

    rows: list[DeliveryRow]
    next_cursor: str | None
    stopped_short: bool = False
    """The page ended at the bound of the scan, not at the requested number of rows."""


async def log_page(connection: AsyncConnection, store_code: str, listing: Listing) -> LogPage:
    """Return the requested page. Raises ValidationFailed for an invalid cursor."""
    after = None if listing.cursor is None else read_cursor(listing.cursor)
    found = await delivery_page(connection, store_code, listing.conditions, after, listing.items + 1)
    page = found.rows[: listing.items]
    if len(found.rows) > listing.items:
        return LogPage(page, write_cursor(page[-1]))
    if found.looked_to is not None:
        return LogPage(page, write_cursor(found.looked_to), stopped_short=True)
    return LogPage(page, None)


_PAYLOAD = struct.Struct(">q16s")  # microseconds since 1970, message id
_CHECK_BYTES = 6  # size of a checksum against mistyped and made-up cursors, which hold no secret
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write_cursor(position: Position | DeliveryRow) -> str:
    """Return the cursor of the page after a position or delivery: 40 URL-safe characters."""
    payload = _PAYLOAD.pack((position.created_at - _EPOCH) // _MICROSECOND, position.message_id.bytes)
    return base64.urlsafe_b64encode(payload + _check(payload)).decode()


def read_cursor(cursor: str) -> Position:
    """Return the position that a cursor encodes. Raises ValidationFailed for any other text."""
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        payload, check = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
        if check == _check(payload):
            microseconds, message_id = _PAYLOAD.unpack(payload)
            return Position(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=message_id))
    except (UnicodeEncodeError, binascii.Error, struct.error, OverflowError):
        pass
    raise invalid(CURSOR, "invalid_cursor", "is not a cursor of this list; use nextCursor of the previous page")


def _check(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_CHECK_BYTES, person=b"delivery-log").digest()


@dataclass(frozen=True, slots=True)
class SentBody:
    """Body of a past attempt, with masked secrets.

    Without a `text`, `note` gives the reason. With a `text`, `note` states what is uncertain about it, and `size_bytes`
    is the size of the sent body, secrets included.
    """

    text: str | None
    note: str | None = None
    size_bytes: int | None = None


def sent_body(
    event: EventRow | None, delivery: DeliveryRow, attempt: AttemptRow | None, unseal: Callable[[bytes], str]
) -> SentBody:
    """Return the body of an attempt. `unseal` decrypts sealed data."""
    if attempt is None:
        return SentBody(None, "Nothing has been sent yet.")
    if event is None or event.data is None:
        return SentBody(None, "The data of this delivery's event is no longer stored.")
    try:
        sent = _body(event, delivery, attempt, event.data if event.sealed_data is None else unseal(event.sealed_data))
        shown = sent if event.sealed_data is None else _body(event, delivery, attempt, event.data)
    except SealBrokenError as error:
        return SentBody(None, f"The event's data cannot be decrypted: {error}.")
    except (KeyError, ValueError):
        return SentBody(None, "This version cannot rebuild the format in which the body was sent.")
    note = None if attempt.body_sha256 else "The attempt has no recorded hash; this is the body it was to send."
    if attempt.body_sha256 not in (None, sha256(sent).digest()):
        return SentBody(
            None, "The sent body differs from the one rebuilt now: the store's time zone or the format has changed."
        )
    return SentBody(shown.decode(), note, len(sent))


def _body(event: EventRow, delivery: DeliveryRow, attempt: AttemptRow, data: str) -> bytes:
    facts = EventFacts(event.event_id, event.name, event.store_code, event.created_at_text, data)
    if attempt.legacy:
        return legacy_body(facts, delivery.variant, event.timezone)
    return modern_body(facts, modern_data_text(event.name, data), delivery.message_id, attempt.request_id)


ARGUMENT_BYTES = 100_000
"""Maximum body inside a `curl` command; a larger body is in a file next to it. Linux limits an argument to 128 KiB."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """Request of a past attempt; `headers` in the order sent, None for a value that is secret or held only then."""

    url: str
    headers: list[tuple[str, str | None]]
    own_headers_known: bool
    body: SentBody
    method: str = "POST"

    @property
    def curl(self) -> str | None:
        """Shell command, or None without a body. Placeholders such as `<AUTHORIZATION>` replace secrets."""
        if self.body.text is None:
            return None
        large = len(self.body.text.encode()) > ARGUMENT_BYTES
        parts = [f"curl -sS -i --globoff -X {self.method} " + shlex.quote(self.url)]
        parts += [
            "-H " + shlex.quote(f"{name}: {value or f'<{name.upper()}>'}")
            for name, value in self.headers
            if name not in ("Host", "Content-Length")
        ]
        parts.append("--data-binary @body.json" if large else "--data-raw " + shlex.quote(self.body.text))
        return " \\\n  ".join(parts)


def sent_request(
    delivery: DeliveryRow,
    attempt: AttemptRow,
    subscription: SubscriptionRow | None,
    body: SentBody,
    user_agent: str,
    sealer: Sealer,
) -> SentRequest:
    """Return the request of an attempt. `subscription` is None if deleted: its own headers are then unknown."""
    size = None if body.size_bytes is None else str(body.size_bytes)
    headers: list[tuple[str, str | None]] = [
        ("Host", urlsplit(delivery.url).netloc),
        ("Content-Type", "application/json"),
        ("Content-Length", size),
        ("Accept-Encoding", "identity"),
    ]
    if delivery.variant == TEST:
        headers.append(("X-Webhook-Test", "true"))
    names = _own_names(subscription, sealer)
    headers += [(name, None) for name in names or ()]
    signed_at = None if attempt.signed_at is None else str(attempt.signed_at)
    if subscription is not None and subscription.hmac_enabled:
        headers += [
            ("X-Webhook-Signature", None),
            ("X-Webhook-Signature-Algorithm", ALGORITHM),
            ("X-Webhook-Timestamp", signed_at),
            ("X-Webhook-Request-Id", str(attempt.request_id)),
            ("X-Webhook-Signature-Version", str(subscription.signature_version)),
            ("webhook-id", str(delivery.message_id)),
            ("webhook-timestamp", signed_at),
            ("webhook-signature", None),
        ]
    own = {name.lower() for name in names or ()}
    headers += [
        (name, value) for name, value in (("User-Agent", user_agent), ("Accept", "*/*")) if name.lower() not in own
    ]
    return SentRequest(delivery.url, headers, names is not None, body)


def _own_names(subscription: SubscriptionRow | None, sealer: Sealer) -> list[str] | None:
    if subscription is None:
        return None
    try:
        names = [header.name for header in open_headers(subscription.sealed_headers, sealer)]
        authentication = open_authentication(subscription.sealed_authentication, sealer)
        return [*names, AUTHORIZATION] if sends_authorization(authentication) else names
    except SealBrokenError:
        return None
