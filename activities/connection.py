"""One HTTP/1.1 connection to a receiver: a request out, its response in within bounds, then the next request.

Redirects are not followed, cookies not kept, nothing is decompressed, and no byte of a response is in an error's words.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from activities.tls import SessionKeepingContext

HEAD_BYTES_MAX = 32768
"""Of a response before its body, interim responses included."""

INTERIM_RESPONSES_MAX = 16
"""RFC 9110 sets no limit to 1xx responses before the final one; nobody needs more, and a flood of them burns CPU."""

_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = (204, 304)
_KEPT = frozenset((b"content-length", b"transfer-encoding", b"location", b"retry-after"))


class ClosedBeforeAnswerError(ConnectionError):
    """The receiver closed the connection instead of answering."""


class MalformedResponseError(Exception):
    """What came is no response of HTTP/1.1, or one without end."""


@dataclass(slots=True)
class Response:
    """What has arrived of a response so far, kept also when the rest does not."""

    body_limit: int
    """Bytes; what comes after them is not read."""
    status_code: int | None = None
    location: bytes | None = None
    retry_after: bytes | None = None
    body: bytes = b""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. `reusable` says after each whether another may follow."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is no more."""
        self.idle_since = 0.0
        """By the loop's clock; whoever keeps it while it is idle sets this."""
        self._answered: asyncio.Future[None] | None = None
        """Of the exchange under way: done when its response is complete, or with what went wrong."""
        self._complete = False
        self._keep_alive = False

    @property
    def reusable(self) -> bool:
        """Whether it can carry another exchange."""
        if self._answered is not None or not self._keep_alive or self._transport.is_closing():
            return False
        return self._transport.get_write_buffer_size() == 0  # else it was answered before all of it was sent

    async def exchange(self, request: bytes, response: Response) -> None:
        """Send `request` and fill `response`; returns when that is complete or at its limit.

        Raises `ClosedBeforeAnswerError`, `MalformedResponseError`, or the OSError (`ssl.SSLError` among them) that
        broke the connection. After an error, or when cancelled, the connection is closed.
        """
        self._response = response
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = self._interim_responses = 0
        self._complete = self._keep_alive = self._until_closed = False
        self._malformed: str | None = None
        self._answered = self._loop.create_future()
        self._transport.write(request)
        try:
            await self._answered
        finally:
            self._answered = None
            if not self._keep_alive:
                self._transport.abort()

    def close(self) -> None:
        """End it while nothing is under way."""
        self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; over TLS the handshake is done by now."""
        self._transport = cast("asyncio.Transport", transport)
        self._tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._parser = HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Read on; whatever nobody asked for ends the connection."""
        if self._answered is None:
            self._keep_alive = False
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._complete, self._keep_alive = True, False
        except HttpParserError as error:
            self._malformed = str(error)
        if self._malformed is None and self._response.status_code is None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._malformed = f"the response's head is longer than {HEAD_BYTES_MAX} bytes"
        if self._malformed is not None:
            self._end(MalformedResponseError(self._malformed))
        elif self._complete:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits, and keep the TLS session for the next connection to the same host."""
        if self._tls is not None and isinstance(self._tls.context, SessionKeepingContext):
            self._tls.context.keep(self._tls)
        self._keep_alive = False
        del self._parser  # it refers to this connection: what is in a circle is not freed at once
        if not self.lost.done():
            self.lost.set_result(None)
        if self._answered is None:
            return
        if exc is not None:
            self._end(exc)
        elif self._response.status_code is None:
            self._end(ClosedBeforeAnswerError("the connection was closed before an answer"))
        elif self._until_closed:
            self._end(None)
        else:
            self._end(MalformedResponseError("the response's body is incomplete or malformed"))

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

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A response begins; behind a complete one it is another than the one that was asked for."""
        if self._complete:
            self._malformed = "more was sent than one response"

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what says something to a sender."""
        name = name.lower()
        if name in _KEPT:
            self._headers.setdefault(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: an interim one, or the final."""
        status_code = self._parser.get_status_code()
        if status_code < 200 and status_code != _SWITCHING_PROTOCOLS:
            return
        headers, response = self._headers, self._response
        response.status_code = status_code
        response.location = headers.get(b"location")
        response.retry_after = headers.get(b"retry-after")
        chunked = headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
        self._until_closed = not chunked and b"content-length" not in headers and status_code not in _WITHOUT_BODY

    def on_body(self, data: bytes) -> None:
        """Keep it up to the limit, where the exchange ends."""
        response = self._response
        if not self._complete:
            response.body = (response.body + data)[: response.body_limit]
            self._complete = len(response.body) >= response.body_limit

    def on_message_complete(self) -> None:
        """A response is complete: an interim one, or the final."""
        if self._response.status_code is not None:
            if not self._complete:
                self._complete = True
                self._keep_alive = self._parser.should_keep_alive()
            return
        self._headers.clear()
        self._interim_responses += 1
        if self._interim_responses > INTERIM_RESPONSES_MAX:
            self._malformed = f"more than {INTERIM_RESPONSES_MAX} interim responses"
