"""HTTP/1.1 connection to a receiver: one exchange at a time, with limits on the size of the response.

Redirects are not followed, cookies are not stored, nothing is decompressed, and no error text quotes a response.

Lenient about the verdict, strict about reuse: the status of a complete response decides, and an oddity of it (a length
stated twice, bytes behind its end) is noted and closes the connection.
"""

import asyncio
import re
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

PIECES_MAX = 1024
"""Maximum number of packets, headers and chunks read of one response. Each costs some 1 to 20 µs, so that a response of
64 KiB in one-byte pieces would take as much CPU as a hundred others."""

SURELY_SENT_BYTES = 65536
"""Maximum size of a request that is in a kernel's buffers once it is written. A part of a larger one may be unsent when
the response comes early, which a TLS transport does not report."""

_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = (204, 304)
_TRANSFER_ENCODING = b"transfer-encoding"
_CONTENT_LENGTH = b"content-length"
_KEEP_ALIVE = b"keep-alive"
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?i)\btimeout\s*=\s*\"?(\d{1,9})")
_USED_HEADERS = frozenset((_CONTENT_LENGTH, _KEEP_ALIVE, b"location", b"retry-after"))
_START = b"HTTP/1."
_INTERIM_HEADS = re.compile(rb"(?:[\r\n]*HTTP/1\.\d 1(?!01)\d\d(?!\d)[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n)*[\r\n]*")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_EXCESS = "bytes behind the response"


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
    notes: list[str] = field(default_factory=list)
    """Oddities that do not change the verdict."""
    sent_again: bool = False
    """The first connection, an idle one, was closed before a byte of the response."""
    unsent: bool = False
    """A success has come, and the rest of the request is still to be sent."""

    def note(self, oddity: str) -> None:
        if oddity not in self.notes:
            self.notes.append(oddity)


def _final_head(received: bytes) -> int:
    """Return the start of the first head that is not interim."""
    found = _INTERIM_HEADS.match(received)
    return found.end() if found is not None else 0


def repaired_head(received: bytes) -> tuple[bytes, list[str]] | None:
    """Return the final response in `received` with its head in the form that the parser accepts, and the oddities that
    were removed; none if they are not the reason why it is refused. Return None while the head is incomplete."""
    start = _final_head(received)
    if not received.startswith(_START, start):
        return received, []
    end = _HEAD_END.search(received, start)
    if end is None:
        return None
    first, *lines = re.split(rb"\r?\n", received[start : end.start()])
    notes: list[str] = []
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] = (fields[-1][0], b"%b %b" % (fields[-1][1], line.strip()))
            notes.append("a folded header")
        elif colon:
            fields.append((name.rstrip(b" \t"), value.strip(b" \t")))
            if name != fields[-1][0]:
                notes.append("a space before the colon of a header")
        else:
            return received, []
    lengths = [part.strip() for name, value in fields if name.lower() == _CONTENT_LENGTH for part in value.split(b",")]
    coded = any(name.lower() == _TRANSFER_ENCODING for name, _ in fields)
    if lengths and (coded or len(lengths) > 1 == len(set(lengths))):
        fields = [one for one in fields if one[0].lower() != _CONTENT_LENGTH]
        if not coded:
            fields.append((_CONTENT_LENGTH, lengths[0]))
        notes.append("Content-Length beside Transfer-Encoding" if coded else "Content-Length more than once")
    head = b"".join([first, *(b"\r\n%b: %b" % one for one in fields), b"\r\n\r\n"])
    return head + received[end.end() :], notes


class Connection(asyncio.Protocol):
    """Connection that carries one exchange at a time. After each one, `reusable` tells if another may follow."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed."""
        self.usable_until = 0.0
        """End of the time in which an idle connection may be used again (loop clock), set by the pool."""
        self.keep_alive_seconds: int | None = None
        """Idle time after which the receiver closes the connection, as its last response announced."""
        self._answered: asyncio.Future[None] | None = None
        """Future of the current exchange: done when its response is complete, or with the error."""
        self._sent: asyncio.Future[None] | None = None
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

    @property
    def unanswered(self) -> bool:
        """Return True if no byte of the current response has arrived."""
        return self._pieces_left == PIECES_MAX

    async def exchange(self, request: bytes, response: Response) -> bool:
        """Send `request` and fill `response` until it is complete or at its limit. Return True if another may follow.
        Raises `ClosedBeforeAnswerError`, `MalformedResponseError`, or the OSError (`ssl.SSLError` among them) that
        broke the connection. When no other may follow, also after an error or a cancellation, the connection is
        closed. A 2xx that comes early counts once the request was sent whole."""
        self._response = response
        self._request_bytes = len(request)
        self._headers: dict[bytes, bytes] = {}
        self._framing_left = FRAMING_BYTES_MAX
        self._interim_responses = 0
        self._pieces_left = PIECES_MAX
        self._head: bytes | None = b""
        self._refused: str | None = None
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
            if self._transport.get_write_buffer_size() and 200 <= (response.status_code or 0) < 300:
                await self._send_rest()
            self._answered = None
            reusable = not early and not response.notes and self.reusable
        finally:
            self._answered = None
            if not reusable:
                self._keep_alive = False
                self._transport.abort()
        return reusable

    async def _send_rest(self) -> None:
        """Wait until the request was sent whole. Raises `ClosedBeforeAnswerError`."""
        self._response.unsent = True
        self._sent = self._loop.create_future()
        self._transport.set_write_buffer_limits(0)
        await asyncio.wait([self.lost, self._sent], return_when=asyncio.FIRST_COMPLETED)
        if not self._sent.done():
            raise ClosedBeforeAnswerError("the connection was closed before the request was sent whole")
        self._response.unsent = False
        self._response.note("a success before the request was sent whole")

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
        self._new_parser()

    def _new_parser(self) -> None:
        self._parser = HttpResponseParser(self)
        # Old servers do this, and it cannot be read in two ways (RFC 9112, 2.2 and 7.1).
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)

    def resume_writing(self) -> None:
        """Note that little of the request is unsent, or nothing in `_send_rest`."""
        if self._sent is not None and not self._sent.done():
            self._sent.set_result(None)

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
        if self._answered.done():
            if self._complete:
                self._response.note(_EXCESS)
            return
        self._pieces_left -= 1
        for start in range(0, len(data), _PIECE_BYTES):
            self._read(data[start : start + _PIECE_BYTES])
            if self._malformed is not None:
                self._end(MalformedResponseError(self._malformed))
                return
            if self._complete:
                if self._keep_alive and start + _PIECE_BYTES < len(data):
                    self._response.note(_EXCESS)
                self._end(None)
                return

    def _read(self, piece: bytes) -> None:
        body_bytes = len(self._response.body)
        if self._head is not None:
            self._head = self._head + piece if self._head else piece
        if self._refused is None:
            self._feed(piece)
        if self._refused is not None:
            self._read_repaired()
        if self._complete:
            return
        body_bytes = len(self._response.body) - body_bytes
        left = self._framing_left - len(piece) + body_bytes * (1 + _FRAMING_PER_BODY_BYTE)
        self._framing_left = min(left, FRAMING_BYTES_MAX)
        headless = self._response.status_code is None
        if left < 0:
            part = "head is" if headless else "chunk extensions or trailers are"
            self._malformed = f"the response's {part} longer than {FRAMING_BYTES_MAX} bytes"
        elif self._pieces_left <= 0:
            if headless:
                self._malformed = f"the response's head came in more than {PIECES_MAX} pieces"
            else:
                self._response.note(f"a response in more than {PIECES_MAX} pieces, of which the rest was not read")
                self._complete, self._keep_alive = True, False

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            self._complete, self._keep_alive = True, False
        except HttpParserError as error:
            if self._complete:
                self._response.note(_EXCESS)
            elif self._head is not None:
                self._refused = str(error)
            else:
                self._malformed = str(error)

    def _read_repaired(self) -> None:
        """Read the response once more whose head the parser has refused, if it can be read in one way only."""
        repaired = repaired_head(self._head or b"")
        if repaired is None:
            return
        data, notes = repaired
        self._headers.clear()
        self._new_parser()
        self._head = None
        for oddity in notes:
            self._response.note(oddity)
        if notes:
            self._feed(data)
            self._refused = None
        else:
            self._malformed = self._refused

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
            if self._refused is not None:
                return MalformedResponseError(self._refused)
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
        """Note a second response behind a complete one."""
        if self._complete:
            self._response.note(_EXCESS)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._pieces_left -= 1
        name = name.lower()
        if name == _TRANSFER_ENCODING:
            self._headers[name] = value  # the last one says how the body ends
        elif name in _USED_HEADERS:
            self._headers.setdefault(name, value)

    def on_headers_complete(self) -> None:
        """Take over the head of a final response; ignore an interim one."""
        if self._malformed is not None or self._complete:
            return
        status_code = self._parser.get_status_code()
        if status_code < 200 and status_code != _SWITCHING_PROTOCOLS:
            if status_code < 100:
                self._malformed = "a status code below 100"
            return
        if self._head is not None and not self._head.startswith(_START, _final_head(self._head)):
            self._malformed = "the response is neither HTTP/1.0 nor HTTP/1.1"
            return
        headers, response = self._headers, self._response
        self._head = None
        response.status_code = status_code
        response.location = headers.get(b"location")
        response.retry_after = headers.get(b"retry-after")
        chunked = headers.get(_TRANSFER_ENCODING, b"").rpartition(b",")[2].strip().lower() == b"chunked"
        keep_alive = headers.get(_KEEP_ALIVE)
        timeout = _KEEP_ALIVE_TIMEOUT.search(keep_alive) if keep_alive is not None else None
        self.keep_alive_seconds = int(timeout[1]) if timeout is not None else None
        self._until_closed = not chunked and b"content-length" not in headers and status_code not in _WITHOUT_BODY

    def on_body(self, data: bytes) -> None:
        """Store the body up to the limit, where the exchange ends."""
        response = self._response
        self._pieces_left -= 1
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
