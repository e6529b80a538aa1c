"""Webhook receiver for tests and demos: accepts any request, detects duplicates, responds as configured.

Used by `loyalty-webhooks listen` and the demo of `loyalty-webhooks up`. It is not part of delivery.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
from aiohttp import web
from multidict import CIMultiDictProxy

from local.signature_check import SignedRequest, Verification, verify

BODY_LIMIT_BYTES = 16 * 1024 * 1024
"""Maximum request body. Far above the largest event, so that the body of a faulty sender is shown in full."""

FAILING_STATUS = 503
"""Response of `fail_first`. Every sender retries after a 503."""

REMEMBERED_IDS = 1_000_000
"""Maximum remembered message ids, some 100 MB. Bounds the memory of a receiver that runs for days."""

STOP_SECONDS = 1.0


@dataclass(frozen=True)
class ReceivedRequest:
    """One request as received, with the status of the response."""

    number: int
    """From 1, in order of arrival."""
    method: str
    host: str
    """Host header, as sent."""
    target: str
    """Path and query, as on the request line."""
    headers: CIMultiDictProxy[str]
    body: bytes
    format: str
    """`modern`, `legacy` or `other`."""
    event_name: str | None
    """`eventName` of a modern body, `type` of a legacy one."""
    message_id: str | None
    """`messageId` of a modern body, else the header `webhook-id`. None for an unsigned legacy request."""
    duplicate: bool
    """True if a request with this message id got a 2xx before."""
    verification: Verification | None
    """None if the receiver has no key."""
    status: int
    """Status of the response."""


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


class Receiver:
    """HTTP server on one address. Calls `on_request` once for each request, in order of arrival.

    `keys` are signing keys (`whsec_…`). A request verifies if one of them made its signatures.
    """

    def __init__(
        self,
        *,
        answering: Answering | None = None,
        keys: Sequence[str] = (),
        on_request: Callable[[ReceivedRequest], None] | None = None,
    ) -> None:
        self.counts = ReceiverCounts()
        self._answering = answering or Answering()
        self._keys = tuple(keys)
        self._on_request = on_request
        self._succeeded_ids: dict[str, None] = {}
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen and return the port; 0 takes a free one. Raises OSError if the address is not available."""
        listening = _listening_socket(host, port)
        server = web.Server(self._handle, access_log=None, max_field_size=65536)
        runner = web.ServerRunner(server, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        self._runner = runner
        bound: int = listening.getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        body = await request.clone(client_max_size=BODY_LIMIT_BYTES).read()
        received = self._receive(request, body)
        if self._on_request is not None:
            self._on_request(received)
        if self._answering.delay_seconds:
            await asyncio.sleep(self._answering.delay_seconds)
        return web.Response(status=received.status)

    def _receive(self, request: web.BaseRequest, body: bytes) -> ReceivedRequest:
        counts = self.counts
        counts.requests += 1
        status = FAILING_STATUS if counts.requests <= self._answering.fail_first else self._answering.status
        form, event_name, body_id = _described(body)
        message_id = body_id or request.headers.get("webhook-id")
        host = request.headers.get("Host", "")
        verification = self._verify(request, host, body, body_id) if self._keys else None
        received = ReceivedRequest(
            number=counts.requests,
            method=request.method,
            host=host,
            target=request.raw_path,
            headers=request.headers,
            body=body,
            format=form,
            event_name=event_name,
            message_id=message_id,
            duplicate=message_id is not None and message_id in self._succeeded_ids,
            verification=verification,
            status=status,
        )
        self._count(received)
        return received

    def _verify(self, request: web.BaseRequest, host: str, body: bytes, body_id: str | None) -> Verification:
        signed = SignedRequest(request.method, host, request.raw_path, request.headers, body, body_id)
        return verify(signed, self._keys, time.time())

    def _count(self, received: ReceivedRequest) -> None:
        counts = self.counts
        counts.duplicates += received.duplicate
        counts.without_id += received.message_id is None
        counts.unverified += received.verification is not None and not received.verification.passed
        if 200 <= received.status < 300:
            counts.succeeded += 1
            if received.message_id is not None:
                self._succeeded_ids[received.message_id] = None
                if len(self._succeeded_ids) > REMEMBERED_IDS:
                    del self._succeeded_ids[next(iter(self._succeeded_ids))]


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening


def _described(body: bytes) -> tuple[str, str | None, str | None]:
    """Return (format, event name, message id) of a body; ("other", None, None) for a body in neither format."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "other", None, None
    if not isinstance(value, dict):
        return "other", None, None
    if isinstance(value.get("type"), str) and "data" in value and "messageId" not in value:
        return "legacy", value["type"], None
    name, message_id = value.get("eventName"), value.get("messageId")
    if not isinstance(name, str) or not isinstance(message_id, str):
        return "other", None, None
    try:
        return "modern", name, str(UUID(message_id))
    except ValueError:
        return "other", name, None
