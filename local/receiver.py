"""Webhook receiver for tests and demos: accepts any request, detects duplicates, responds as configured.

Used by `loyalty-webhooks listen` and the demo of `loyalty-webhooks up`. It is not part of delivery. It verifies both
signature schemes, `X-Webhook-*` and Standard Webhooks (`webhook-*`), and names the failing part of each. The
verification is implemented from the published definitions alone, independently of `domain.wire.signing`, so that it can
find errors there.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

import httpx
import orjson
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from telemetry.serving import serving

BODY_LIMIT_BYTES = 16 * 1024 * 1024
"""Maximum request body. Far above the largest event, so that the body of a faulty sender is shown in full."""

FAILING_STATUS = 503
"""Response of `fail_first`. Every sender retries after a 503."""

REMEMBERED_IDS = 1_000_000
"""Maximum remembered message ids, some 100 MB. Bounds the memory of a receiver that runs for days."""

UNVERIFIED_STATUS = 401
"""Response to a wrong signature, as of the receivers in docs/receiving.md."""

TOO_LARGE_STATUS = 413
WITHOUT_BODY = (204, 304)
KEY_PREFIX = "whsec_"
TOLERANCE_SECONDS = 300
"""Maximum difference between the sender's clock and ours, as in the Standard Webhooks libraries."""

PLATFORM_SCHEME = "X-Webhook-Signature"
STANDARD_SCHEME = "webhook-signature"


@dataclass(frozen=True)
class ReceivedRequest:
    """One request as received, with the status of the response."""

    number: int
    """From 1, in order of arrival."""
    method: str
    host: str
    target: str
    """Path and query, as on the request line."""
    headers: httpx.Headers
    """`raw` has the names as they were sent."""
    body: bytes
    format: str
    """`modern`, `legacy` or `other`."""
    event_name: str | None
    """`eventName` of a modern body, `type` of a legacy one."""
    message_id: str | None
    """`messageId` of a modern body, else the header `webhook-id`. None for an unsigned legacy request."""
    duplicate: bool
    """True if a request with this message id got a 2xx before."""
    status: int
    verification: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Problems by scheme, an empty list for one that passed. Empty if the receiver has no key."""


@dataclass
class ReceiverCounts:
    """Counts of a receiver so far."""

    requests: int = 0
    succeeded: int = 0
    """Requests that got a 2xx."""
    duplicates: int = 0
    without_id: int = 0
    unverified: int = 0
    """Requests whose signatures did not verify. Always 0 without a key."""


@dataclass(frozen=True)
class Answering:
    """Configured response: `status` after `delay_seconds`; the first `fail_first` requests get a 503."""

    status: int = 200
    delay_seconds: float = 0.0
    fail_first: int = 0


class _UnchangedProtocol(HttpToolsProtocol):
    """HTTP/1.1 connection that passes the target and the names of headers on as they were sent."""

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self.headers[-1] = (name, value)

    def on_headers_complete(self) -> None:
        cast("Scope", self.scope)["target"] = self.url
        super().on_headers_complete()


class Receiver:
    """HTTP server on one address. Calls `on_request` once for each request, in order of arrival. `keys` are signing
    keys (`whsec_…`). A request verifies if one of them made its signatures."""

    def __init__(
        self,
        *,
        answering: Answering | None = None,
        keys: Sequence[str] = (),
        on_request: Callable[[ReceivedRequest], None] = lambda _: None,
    ) -> None:
        self.counts = ReceiverCounts()
        self._answering = answering or Answering()
        self._keys = tuple(keys)
        self._on_request = on_request
        self._succeeded_ids: dict[str, None] = {}
        self._serving = AsyncExitStack()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen and return the port; 0 takes a free one. Raises OSError if the address is not available."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1024)
        await self._serving.enter_async_context(serving(self._answer, _UnchangedProtocol, sock=listening))
        bound: int = listening.getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        await self._serving.aclose()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as an ASGI application."""
        content, whole = bytearray(), False
        while not whole and len(content) <= BODY_LIMIT_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message["body"]
            whole = not message["more_body"]
        status = TOO_LARGE_STATUS
        if len(content) <= BODY_LIMIT_BYTES:
            received = self._receive(scope, bytes(content))
            self._on_request(received)
            status = received.status
            with suppress(TimeoutError):
                async with asyncio.timeout(self._answering.delay_seconds):
                    await receive()  # returns when the client has gone, or when the receiver stops
        length = [] if status in WITHOUT_BODY else [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": length})
        await send({"type": "http.response.body"})

    def _receive(self, scope: Scope, body: bytes) -> ReceivedRequest:
        counts = self.counts
        counts.requests += 1
        failing = counts.requests <= self._answering.fail_first
        headers = httpx.Headers(scope["headers"])
        form, event_name, body_id = _described(body)
        message_id = body_id or headers.get("webhook-id")
        received = ReceivedRequest(
            number=counts.requests,
            method=scope["method"],
            host=headers.get("Host", ""),
            target=scope["target"].decode(errors="replace"),
            headers=headers,
            body=body,
            format=form,
            event_name=event_name,
            message_id=message_id,
            duplicate=message_id is not None and message_id in self._succeeded_ids,
            status=FAILING_STATUS if failing else self._answering.status,
        )
        if self._keys:
            verification = verify(received, self._keys, time.time())
            wrong = any(verification.values())
            counts.unverified += wrong
            status = UNVERIFIED_STATUS if wrong and not failing else received.status
            received = replace(received, verification=verification, status=status)
        counts.duplicates += received.duplicate
        counts.without_id += message_id is None
        if 200 <= received.status < 300:
            counts.succeeded += 1
            if message_id is not None:
                self._succeeded_ids[message_id] = None
                if len(self._succeeded_ids) > REMEMBERED_IDS:
                    del self._succeeded_ids[next(iter(self._succeeded_ids))]
        return received


def _fields(body: bytes) -> dict[str, Any]:
    """Return the fields of a body, none if it is not a JSON object."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _described(body: bytes) -> tuple[str, str | None, str | None]:
    """Return (format, event name, message id) of a body; ("other", None, None) for a body in neither format."""
    value = _fields(body)
    if isinstance(value.get("type"), str) and "data" in value and "messageId" not in value:
        return "legacy", value["type"], None
    name, message_id = value.get("eventName"), value.get("messageId")
    if not isinstance(name, str) or not isinstance(message_id, str):
        return "other", None, None
    try:
        return "modern", name, str(UUID(message_id))
    except ValueError:
        return "other", name, None


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


def verify(request: ReceivedRequest, keys: Sequence[str], now: float) -> dict[str, list[str]]:
    """Check both schemes against each key (`usable_key`); `now` in Unix seconds. Return the problems by scheme."""
    return {
        PLATFORM_SCHEME: _platform_problems(request, keys, now),
        STANDARD_SCHEME: _standard_problems(request, keys, now),
    }


def _platform_problems(request: ReceivedRequest, keys: Sequence[str], now: float) -> list[str]:
    of_scheme = ("Signature", "Signature-Algorithm", "Timestamp", "Request-Id", "Signature-Version")
    names = tuple(f"X-Webhook-{name}" for name in of_scheme)
    missing = _missing(request, names)
    if missing:
        return missing
    signature, algorithm, timestamp, request_id, version = (request.headers[name] for name in names)
    problems = _clock_problems("X-Webhook-Timestamp", timestamp, now)
    if algorithm != "hmac-sha256":
        problems.append(f"X-Webhook-Signature-Algorithm is {algorithm!r}, not 'hmac-sha256'")
    if not version.isdecimal():
        problems.append(f"X-Webhook-Signature-Version is {version!r}, not an integer")
    in_body = _fields(request.body).get("requestId")
    if isinstance(in_body, str) and in_body != request_id:
        problems.append(f"X-Webhook-Request-Id is {request_id}, the body's requestId {in_body}")
    path = request.target.partition("?")[0] or "/"
    sized = (f"{len(part.encode())}:{part}" for part in (request.host, path))
    parts = (request.method, *sized, hashlib.sha256(request.body).hexdigest(), timestamp, request_id)
    text = "\n".join(parts)
    made = [hmac.new(key.removeprefix(KEY_PREFIX).encode(), text.encode(), "sha256").hexdigest() for key in keys]
    if not any(hmac.compare_digest(signature.encode(), candidate.encode()) for candidate in made):
        problems.append(
            "X-Webhook-Signature does not match: another key, or one of the signed parts changed in transit "
            f"(here: {', '.join(parts)})"
        )
    return problems


def _standard_problems(request: ReceivedRequest, keys: Sequence[str], now: float) -> list[str]:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    missing = _missing(request, names)
    if missing:
        return missing
    message_id, timestamp, signatures = (request.headers[name] for name in names)
    problems = _clock_problems("webhook-timestamp", timestamp, now)
    if request.message_id is not None and request.message_id != message_id:
        problems.append(f"webhook-id is {message_id}, the body's messageId {request.message_id}")
    signed = f"{message_id}.{timestamp}.".encode() + request.body
    secrets = [base64.b64decode(key.removeprefix(KEY_PREFIX)) for key in keys]
    made = {base64.b64encode(hmac.new(secret, signed, "sha256").digest()).decode() for secret in secrets}
    given = [part.partition(",") for part in signatures.split()]
    if not any(version == "v1" and value in made for version, _, value in given):
        problems.append("webhook-signature does not match: another key, or id, timestamp or body changed in transit")
    return problems


def _missing(request: ReceivedRequest, names: Sequence[str]) -> list[str]:
    missing = [name for name in names if name not in request.headers]
    if len(missing) == len(names):
        return ["not signed: none of its headers is present"]
    return [f"header {name} is missing" for name in missing]


def _clock_problems(name: str, timestamp: str, now: float) -> list[str]:
    if not (timestamp.isascii() and timestamp.isdecimal()):
        return [f"{name} is {timestamp!r}, not Unix seconds"]
    away = int(timestamp) - now
    if abs(away) <= TOLERANCE_SECONDS:
        return []
    direction = "ahead of" if away > 0 else "behind"
    return [f"{name} is {abs(away):.0f} s {direction} this clock, more than {TOLERANCE_SECONDS} s"]
