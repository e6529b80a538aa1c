"""Signature verification of a receiver, with the failing part of each scheme.

Implemented from the published definitions alone, independently of `domain.wire.signing`, so that it can find errors
there. Two schemes: `X-Webhook-*` and Standard Webhooks (`webhook-*`).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

KEY_PREFIX = "whsec_"
TOLERANCE_SECONDS = 300
"""Maximum difference between the sender's clock and ours, as in the Standard Webhooks libraries."""

PLATFORM_SCHEME = "X-Webhook-Signature"
STANDARD_SCHEME = "webhook-signature"


@dataclass(frozen=True)
class SignedRequest:
    """Signed parts of a request, as received."""

    method: str
    host: str
    """Host header, as sent."""
    target: str
    """Path and query, as on the request line."""
    headers: Mapping[str, str]
    """Mapping with case-insensitive lookup."""
    body: bytes
    message_id: str | None
    """`messageId` of a modern body."""


@dataclass(frozen=True)
class SchemeCheck:
    """Result of one scheme. Passed if `problems` is empty."""

    scheme: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """Results of both schemes."""

    checks: tuple[SchemeCheck, ...]

    @property
    def passed(self) -> bool:
        """True if both schemes passed."""
        return not any(check.problems for check in self.checks)


def usable_key(text: str) -> str:
    """Return the key if it is `whsec_` and the standard base64 of 32 bytes. Raises ValueError with the reason."""
    if not text.startswith(KEY_PREFIX):
        raise ValueError(f"a signing key starts with {KEY_PREFIX}")
    try:
        secret = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows {KEY_PREFIX} is not standard base64: {error}") from error
    if len(secret) != 32:
        raise ValueError(f"a signing key has 32 bytes; this one has {len(secret)}")
    return text


def verify(request: SignedRequest, keys: Sequence[str], now: float) -> Verification:
    """Check both schemes against each key (`usable_key`); `now` in Unix seconds."""
    return Verification((_platform_check(request, keys, now), _standard_check(request, keys, now)))


def _platform_check(request: SignedRequest, keys: Sequence[str], now: float) -> SchemeCheck:
    names = (
        "X-Webhook-Signature",
        "X-Webhook-Signature-Algorithm",
        "X-Webhook-Timestamp",
        "X-Webhook-Request-Id",
        "X-Webhook-Signature-Version",
    )
    missing = _missing(request, names)
    if missing:
        return SchemeCheck(PLATFORM_SCHEME, missing)
    signature, algorithm, timestamp, request_id, version = (request.headers[name] for name in names)
    problems = [*_clock_problems("X-Webhook-Timestamp", timestamp, now)]
    if algorithm != "hmac-sha256":
        problems.append(f"X-Webhook-Signature-Algorithm is {algorithm!r}, not 'hmac-sha256'")
    if not version.isdecimal():
        problems.append(f"X-Webhook-Signature-Version is {version!r}, not an integer")
    in_body = _request_id_in(request.body)
    if in_body is not None and in_body != request_id:
        problems.append(f"X-Webhook-Request-Id is {request_id}, the body's requestId {in_body}")
    path = request.target.partition("?")[0] or "/"
    text = "\n".join(
        (
            request.method,
            f"{len(request.host.encode())}:{request.host}",
            f"{len(path.encode())}:{path}",
            hashlib.sha256(request.body).hexdigest(),
            timestamp,
            request_id,
        )
    )
    made = [hmac.new(key.removeprefix(KEY_PREFIX).encode(), text.encode(), "sha256").hexdigest() for key in keys]
    if not any(hmac.compare_digest(signature.encode(), candidate.encode()) for candidate in made):
        problems.append(
            f"X-Webhook-Signature does not match: another key, or one of the signed parts changed in transit "
            f"(here: {', '.join(text.split(chr(10)))})"
        )
    return SchemeCheck(PLATFORM_SCHEME, tuple(problems))


def _standard_check(request: SignedRequest, keys: Sequence[str], now: float) -> SchemeCheck:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    missing = _missing(request, names)
    if missing:
        return SchemeCheck(STANDARD_SCHEME, missing)
    message_id, timestamp, signatures = (request.headers[name] for name in names)
    problems = [*_clock_problems("webhook-timestamp", timestamp, now)]
    if request.message_id is not None and request.message_id != message_id:
        problems.append(f"webhook-id is {message_id}, the body's messageId {request.message_id}")
    signed = f"{message_id}.{timestamp}.".encode() + request.body
    made = {_standard_signature(key, signed) for key in keys}
    given = [part.partition(",") for part in signatures.split()]
    if not any(version == "v1" and value in made for version, _, value in given):
        problems.append("webhook-signature does not match: another key, or id, timestamp or body changed in transit")
    return SchemeCheck(STANDARD_SCHEME, tuple(problems))


def _standard_signature(key: str, signed: bytes) -> str:
    secret = base64.b64decode(key.removeprefix(KEY_PREFIX))
    return base64.b64encode(hmac.new(secret, signed, "sha256").digest()).decode()


def _missing(request: SignedRequest, names: Sequence[str]) -> tuple[str, ...]:
    missing = [name for name in names if name not in request.headers]
    if len(missing) == len(names):
        return ("not signed: none of its headers is present",)
    return tuple(f"header {name} is missing" for name in missing)


def _clock_problems(name: str, timestamp: str, now: float) -> list[str]:
    if not (timestamp.isascii() and timestamp.isdecimal()):
        return [f"{name} is {timestamp!r}, not Unix seconds"]
    away = int(timestamp) - now
    if abs(away) <= TOLERANCE_SECONDS:
        return []
    direction = "ahead of" if away > 0 else "behind"
    return [f"{name} is {abs(away):.0f} s {direction} this clock, more than {TOLERANCE_SECONDS} s"]


def _request_id_in(body: bytes) -> str | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    request_id = value.get("requestId") if isinstance(value, dict) else None
    return request_id if isinstance(request_id, str) else None
