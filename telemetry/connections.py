"""HTTP connections of every port: uvicorn's protocol with bounds on heads, unfinished requests and open connections.

uvicorn has no setting for them. Its parser copies the unfinished part of a head for each packet, so a head has to be
refused before the parser has seen much of it.
"""

import json
import logging
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httptools
from prometheus_client import CollectorRegistry, Counter, Gauge
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from telemetry.logs import Repeated

MOST_PART_BYTES = 16 * 1024
"""Maximum size of the address, and of a header. Browsers, proxies, cookies and tokens need at most 8 KiB."""

MOST_HEAD_BYTES = 64 * 1024
"""Maximum size of all headers. Also the part of a packet that the parser gets at a time."""

MOST_HEADERS = 100
"""Maximum number of headers, as in Apache. Requests through several proxies have some 30."""

MOST_PIPELINED = 100
"""Maximum requests sent ahead of their responses. The parser finds thousands in one packet, and reads them at once."""

HEAD_SECONDS = 10.0
"""Time in which a head has to arrive, from the connection or from its first byte. A head is a packet or two."""

BODY_SECONDS = 30.0
"""Maximum pause within a body, and of a client in reading its response. Mobile networks pause for seconds."""

MOST_CONNECTIONS = 100
"""Maximum number of open connections of a port for probes, Prometheus or one person, who need a few."""

RETRY_SECONDS = 1
"""`Retry-After` beyond the maximum number of connections. Most connections are short."""

logger = logging.getLogger(__name__)


class CloseReason(StrEnum):
    """Reason for closing a connection before a request on it was answered."""

    LIMIT = "limit"
    HEAD_SIZE = "head_size"
    HEAD_TIME = "head_time"
    BODY_TIME = "body_time"
    RESPONSE_TIME = "response_time"


class ConnectionMetrics:
    """Numbers of open and of closed connections, exported by the registry if there is one."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.open = Gauge(
            "loyalty_webhooks_connections", "Open connections of clients to this process.", registry=registry
        )
        self.closed = Counter(
            "loyalty_webhooks_connections_closed",
            "Connections closed by this process, by reason: limit (more than CONNECTION_LIMIT), head_size (headers too "
            "large), head_time and body_time (request not sent in time), response_time (response not read in time).",
            ["reason"],
            registry=registry,
        )
        for reason in CloseReason:
            self.closed.labels(reason)


@dataclass
class ConnectionLimits:
    """Limits of the connections of a port: how many are open at a time, and how long requests may take to arrive."""

    most: int = MOST_CONNECTIONS
    metrics: ConnectionMetrics = field(default_factory=ConnectionMetrics)
    setting: str = "a fixed limit"
    head_seconds: float = HEAD_SECONDS
    body_seconds: float = BODY_SECONDS
    refusals: Repeated = field(default_factory=Repeated)


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 connection that refuses large heads, and ends requests that stay unfinished."""

    def __init__(self, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self.url = b""
        self._limits = limits
        self._unparsed_bytes = 0  # received since the parser last found a body or the end of a head
        self._awaited: CloseReason | None = CloseReason.HEAD_TIME  # the time-out that applies
        self._since = self.loop.time()
        self._unsent_bytes, self._read_at = 0, 0.0  # of the response, and when that last changed
        self._timer = self.loop.call_later(limits.head_seconds, self._check_time)

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and refuse it beyond the limit."""
        super().connection_made(transport)
        limits = self._limits
        limits.metrics.open.inc()
        if len(self.connections) > limits.most:
            used = "all %d connections (%s) are in use, further ones get 503"
            logger.log(limits.refusals.level(), used, limits.most, limits.setting)
            self._refuse(503, CloseReason.LIMIT, "Too many connections are open; try again.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._timer.cancel()
        self._limits.metrics.open.dec()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass the data to the parser in pieces, until a bound is exceeded."""
        if self._awaited is CloseReason.BODY_TIME:
            self._since = self.loop.time()
        elif self._awaited is None and self.cycle.response_complete:
            self._await(CloseReason.HEAD_TIME)
        for start in range(0, len(data), MOST_HEAD_BYTES):
            piece = data if len(data) <= MOST_HEAD_BYTES else data[start : start + MOST_HEAD_BYTES]
            self._unparsed_bytes += len(piece)
            self._parse(piece)
            if self._unparsed_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                self._refuse_head()
            if self.transport.is_closing():
                return
        if self._awaited is None and self.cycle.response_complete:  # A body that ends after its response is idle again.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _parse(self, piece: bytes) -> None:
        """Do as uvicorn's protocol does, without its WARNING lines, which any client could make in any number."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError:
            logger.debug("invalid HTTP request received")
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade:
            logger.debug("upgrade request received, the connection stays HTTP/1.1")

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._unparsed_bytes = 0
        if self._awaited is not CloseReason.HEAD_TIME:
            self._await(CloseReason.HEAD_TIME)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the request, or refuse its head."""
        self._unparsed_bytes = 0
        sizes = [len(name) + len(value) for name, value in self.headers]
        largest = max(len(self.url), *sizes) if sizes else len(self.url)
        too_many = len(sizes) > MOST_HEADERS or len(self.pipeline) >= MOST_PIPELINED
        if self.transport.is_closing():
            return
        if largest > MOST_PART_BYTES or sum(sizes) > MOST_HEAD_BYTES or too_many:
            self._refuse_head()
        else:
            self._await(CloseReason.BODY_TIME)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body to the application."""
        self._unparsed_bytes = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request. Its response may take as long as it needs."""
        self._unparsed_bytes, self._awaited = 0, None
        if not self.transport.is_closing():
            super().on_message_complete()

    def _await(self, reason: CloseReason) -> None:
        self._awaited, self._since = reason, self.loop.time()

    def _check_time(self) -> None:
        """Close the connection if its request or response has timed out, and check again when it may have."""
        now, unsent_bytes = self.loop.time(), self.transport.get_write_buffer_size()
        if not unsent_bytes or unsent_bytes != self._unsent_bytes:
            self._unsent_bytes, self._read_at = unsent_bytes, now
        elif now >= self._read_at + self._limits.body_seconds:
            self._limits.metrics.closed.labels(CloseReason.RESPONSE_TIME).inc()
            self.transport.abort()
            return
        if self._awaited is None or self.flow.read_paused or self.transport.is_closing():
            self._since = now  # No request is awaited, or its application does not read it.
        seconds = self._limits.body_seconds if self._awaited is CloseReason.BODY_TIME else self._limits.head_seconds
        if self._awaited and now >= self._since + seconds:
            self._refuse(408, self._awaited, "The request did not arrive in time.")
            self._since = now
        again_at = now + self._limits.head_seconds if unsent_bytes else self._since + seconds
        self._timer = self.loop.call_at(again_at, self._check_time)

    def _refuse_head(self) -> None:
        status, what = (414, "The address") if len(self.url) > MOST_PART_BYTES else (431, "The head of the request")
        self._refuse(status, CloseReason.HEAD_SIZE, f"{what} is too large.")

    def _refuse(self, status: int, reason: CloseReason, message: str) -> None:
        """Close the connection, after a response with the error if that is the response the client awaits next."""
        self._limits.metrics.closed.labels(reason).inc()
        if self._awaited is CloseReason.BODY_TIME:
            answers = not self.cycle.response_started and not self.pipeline
        elif self.cycle is None:
            answers = self.scope is not None or reason is not CloseReason.HEAD_TIME  # an unused connection gets none
        else:
            answers = self.cycle.response_complete
        if answers:
            body = json.dumps({"code": status, "message": message}).encode()
            retry = f"Retry-After: {RETRY_SECONDS}\r\n" if reason is CloseReason.LIMIT else ""
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{retry}\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
