"""Cursors of the delivery log: where a page ended, as a text that clients hand back and never look into."""

import base64
import binascii
import struct
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from uuid import UUID

from api.errors import invalid
from api.listing import CURSOR
from storage.deliveries.log import Position

_PAYLOAD = struct.Struct(">q16s")  # microseconds since 1970, message id
_CHECK_BYTES = 6  # tells a mistyped or made-up cursor from one of ours; there is nothing in it to be kept secret
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write_cursor(position: Position) -> str:
    """40 URL-safe characters."""
    payload = _PAYLOAD.pack((position.created_at - _EPOCH) // _MICROSECOND, position.message_id.bytes)
    return base64.urlsafe_b64encode(payload + _check(payload)).decode()


def read_cursor(cursor: str) -> Position:
    """The position a cursor stands for; raises ValidationFailed for everything that is no cursor of ours."""
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        payload, check = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
        if check == _check(payload):
            microseconds, message_id = _PAYLOAD.unpack(payload)
            return Position(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=message_id))
    except (UnicodeEncodeError, binascii.Error, struct.error, OverflowError):
        pass
    raise invalid(CURSOR, "invalid_cursor", "is not a cursor of this list; take nextCursor of the page before")


def _check(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_CHECK_BYTES, person=b"delivery-log").digest()
