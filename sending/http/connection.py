"""HTTP/1.1 connection to a receiver: one exchange at a time, with limits on the size of the response.

Redirects are not followed, cookies are not stored, nothing is decompressed, and no error text quotes a response.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sending.http.tls import ResumingContext

FRAMING_BYTES_MAX = 32768
"""Maximum size of a response without its body: heads (also interim ones), chunk lengths and extensions, trailers."""

_FRAMING_PER_BODY_BYTE = 8
"""Additional framing bytes allowed per byte of the body. Even chunks of one byte need only five."""

_PIECE_BYTES = 4096
"""Maximum part of a packet parsed at once, so that the limits hold for packets of any size."""

INTERIM_RESPONSES_MAX = 16
"""Maximum number of 1xx responses before the final one. RFC 9110 sets no limit, and a flood of them costs CPU."""

SURELY_SENT_BYTES = 65536
"""Maximum size of a request that is in a kernel's buffers once it is written. A part of a larger one may be unsent when
the response comes early, which a TLS transport does not report."""

_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = (204, 304)
_TRANSFER_ENCODING = b"transfer-encoding"
_USED_HEADERS = frozenset((b"content-length", b"location", b"retry-after"))


class ClosedBeforeAnswerError(ConnectionError):
    """The receiver closed the connection without a response."""


class MalformedResponseError(Exception):
    """The received bytes are no HTTP/1.1 response, or one that exceeds the limits."""


@dataclass(slots=True)
class Response:
    """Received part of a response. It remains available when the rest does not arrive."""

    body_limit: int
    """Maximum number of body bytes; the rest is not read."""
    status_code: int | None = None
    location: bytes | None = None
    retry_after: bytes | None = None
    body: bytearray = field(default_factory=bytearray)


class Connection(asyncio.Protocol):
    """Connection that carries one exchange at a time. After each one, `reusable` tells if another may follow."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed."""
        self.idle_since = 0.0
        """Start of the idle time (loop clock), set by the pool."""
        self._answered: asyncio.Future[None] | None = None
        """Future of the current exchange: done when its response is complete, or with the error."""
        self._complete = False
        self._keep_alive = False
        self._early: bytes | None = b""
        """Bytes received before the first request, from a receiver that refuses without reading it; None after that."""

    @property
    def reusable(self) -> bool:
        if self._answered is not None or not self._keep_alive or self._transport.is_closing():
            return False
        if self._tls is not None and self._request_bytes > SURELY_SENT_BYTES:
            return False
        return self._transport.get_write_buffer_size() == 0  # else the response came before the whole request was sent

    async def exchange(self, request: bytes, response: Response) -> bool:
        """Send `request` and fill `response` until it is complete or at its limit. Return True if another may follow.
        Raises `ClosedBeforeAnswerError`, `MalformedResponseError`, or the OSError (`ssl.SSLError` among them) that
        broke the connection. When no other may follow, also after an error or a cancellation, the connection is
        closed."""
        self._response = response
        self._request_bytes = len(request)
        self._headers: dict[bytes, bytes] = {}
        self._framing_left = FRAMING_BYTES_MAX
        self._interim_responses = 0
        self._complete = self._keep_alive = self._until_closed = False
        self._malformed: str | None = None
        self._answered = self._loop.create_future()
        self._transport.write(request)
        early, self._early = self._early, None
        if early:
            self._transport.resume_reading()
            self.data_received(early)
        reusable = False
        try:
            await self._answered
            self._answered = None
            reusable = not early and self.reusable
        finally:
            self._answered = None
            if not reusable:
                self._keep_alive = False
                self._transport.abort()
        return reusable

    def close(self) -> None:
        """Close the connection while no exchange is under way."""
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the parser. Over TLS the handshake is done."""
        self._transport = cast("asyncio.Transport", transport)
        self._tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._parser = HttpResponseParser(self)
        # Old servers do this, and it cannot be read in two ways (RFC 9112, 2.2 and 7.1).
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. Bytes outside an exchange close the connection."""
        if self._answered is None:
            if self._early is None:
                self._keep_alive = False
                self._transport.abort()
            else:
                self._early += data
                self._transport.pause_reading()
            return
        for start in range(0, len(data), _PIECE_BYTES):
            self._read(data[start : start + _PIECE_BYTES])
            if self._malformed is not None:
                self._end(MalformedResponseError(self._malformed))
                return
        if self._complete:
            self._end(None)

    def _read(self, piece: bytes) -> None:
        body_bytes = len(self._response.body)
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            self._complete, self._keep_alive = True, False
        except HttpParserError as error:
            self._malformed = str(error)
        if self._complete:
            return
        body_bytes = len(self._response.body) - body_bytes
        left = self._framing_left - len(piece) + body_bytes * (1 + _FRAMING_PER_BODY_BYTE)
        self._framing_left = min(left, FRAMING_BYTES_MAX)
        if left < 0:
            part = "head is" if self._response.status_code is None else "chunk extensions or trailers are"
            self._malformed = f"the response's {part} longer than {FRAMING_BYTES_MAX} bytes"

    def connection_lost(self, exc: Exception | None) -> None:
        """End the current exchange, and store the TLS session for the next connection to the same host."""
        self._keep_alive = False
        del self._parser  # It refers to this connection, and a reference cycle is not freed at once.
        if not self.lost.done():
            self.lost.set_result(None)
        if self._answered is not None:
            self._end(self._cut_off(exc))
        if self._tls is not None and isinstance(self._tls.context, ResumingContext):
            self._tls.context.store(self._tls)

    def _cut_off(self, exc: Exception | None) -> Exception | None:
        """Return the error of an exchange whose connection was closed; None if that ends the response regularly."""
        if exc is not None:
            return exc
        if self._response.status_code is None:
            return ClosedBeforeAnswerError("the connection was closed before an answer")
        if self._until_closed:
            return None
        return MalformedResponseError("the response's body is incomplete or malformed")

    def _end(self, error: Exception | None) -> None:
        if error is not None:
            self._keep_alive = False
        answered = self._answered
        if answered is None or answered.done():
            return
        if error is None:
            answered.set_result(None)
        else:
            answered.set_exception(error)

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Reject a second response behind a complete one."""
        if self._complete:
            self._malformed = "more was sent than one response"

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == _TRANSFER_ENCODING:
            self._headers[name] = value  # the last one says how the body ends
        elif name in _USED_HEADERS:
            self._headers.setdefault(name, value)

    def on_headers_complete(self) -> None:
        """Take over the head of a final response; ignore an interim one."""
        if self._malformed is not None:
            return
        status_code = self._parser.get_status_code()
        if status_code < 200 and status_code != _SWITCHING_PROTOCOLS:
            if status_code < 100:
                self._malformed = "a status code below 100"
            return
        headers, response = self._headers, self._response
        response.status_code = status_code
        response.location = headers.get(b"location")
        response.retry_after = headers.get(b"retry-after")
        chunked = headers.get(_TRANSFER_ENCODING, b"").rpartition(b",")[2].strip().lower() == b"chunked"
        self._until_closed = not chunked and b"content-length" not in headers and status_code not in _WITHOUT_BODY

    def on_body(self, data: bytes) -> None:
        """Store the body up to the limit, where the exchange ends."""
        response = self._response
        if not self._complete:
            response.body += data[: response.body_limit - len(response.body)]
            self._complete = len(response.body) >= response.body_limit

    def on_message_complete(self) -> None:
        """End the exchange at a final response; count an interim one."""
        if self._response.status_code is not None:
            if not self._complete:
                self._complete = True
                self._keep_alive = self._parser.should_keep_alive()
            return
        self._headers.clear()
        self._interim_responses += 1
        if self._interim_responses > INTERIM_RESPONSES_MAX:
            self._malformed = f"more than {INTERIM_RESPONSES_MAX} interim responses"
