"""HTTP/1.1 connection to a receiver: one exchange at a time, with limits on the size of the response.

Redirects are not followed, cookies are not stored, nothing is decompressed, and no error text quotes a response. The
status of a complete response decides; an oddity, such as bytes behind its end, is noted and closes the connection.
"""

import asyncio
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from domain.delivery.verdict import CONTROL_HEADER
from sending.http.tls import ConnectionWatch, ResumingContext

FRAMING_BYTES_MAX = 32768
"""Maximum size of a response without its body: heads (also interim ones), chunk lengths and extensions, trailers."""

_PIECE_BYTES = 1024
"""Maximum part of a packet parsed at once, so that the limits hold for packets of any size."""

PIECES_MAX = 1024
"""Maximum number of packets read of a response; a header, a chunk or a 1xx head counts as four. 64 KiB in one-byte
pieces took as much CPU as a hundred other responses."""

RECORDS_PER_PACKET = 16
"""TLS records that count as a packet. A record takes 1 to 2 µs of CPU, and 64 KiB may come in one-byte records."""

EARLY_BYTES_MAX = 131072
"""Maximum number of bytes kept that come before the first request: more than is read of a response."""

SURELY_SENT_BYTES = 65536
"""Maximum size of a request that is in a kernel's buffers once it is written. A part of a larger one may be unsent when
the response comes early, which a TLS transport does not report."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for 0 s."""

_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = (204, 304)
_TRANSFER_ENCODING = b"transfer-encoding"
_CONTENT_LENGTH = b"content-length"
_CONTROL = CONTROL_HEADER.encode()
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?i)\btimeout\s*=\s*\"?(\d{1,9})")
_USED_HEADERS = frozenset((_CONTENT_LENGTH, _CONTROL, b"keep-alive", b"location", b"retry-after"))
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
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    location: bytes | None = None
    retry_after: bytes | None = None
    control: bytes | None = None
    body: bytearray = field(default_factory=bytearray)
    proxy_reached: asyncio.Event | None = None
    """Set when the egress proxy is reached; None without one."""
    through_proxy: bool = False
    """True if the request's connection is a tunnel of the egress proxy, also a kept one."""
    packets: int = 0
    """Number of packets read, also of a response before another token."""
    notes: dict[str, None] = field(default_factory=dict)
    """Oddities that do not change the verdict, in their order."""

    def clear(self) -> None:
        """Forget what was received, for another request."""
        self.status_code = self.location = self.retry_after = self.control = self.proxy_reached = None
        self.headers = []
        self.body.clear()
        self.notes.clear()

    @property
    def at_proxy(self) -> bool:
        """Return True while the request waits for the egress proxy. Its failure is not the receiver's then."""
        return self.proxy_reached is not None and not self.proxy_reached.is_set()


def _final_head(received: bytes) -> int:
    """Return the start of the first head that is not interim."""
    plain = received.startswith(b"H") and received[9:10] != b"1"
    return 0 if plain else len(_INTERIM_HEADS.match(received)[0])  # type: ignore[index]  # it matches the empty text, too


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
            fields.append((name, value.strip(b" \t")))
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
        self.usable_until = 0.0  # loop clock, set by the pool
        self.keep_alive_seconds: int | None = None  # as the last response announced
        self.unanswered = True  # no byte of the current response has arrived
        self._answered: asyncio.Future[None] | None = None
        """Future of the current exchange: done when its response is complete, or with the error."""
        self._complete = False
        self._keep_alive = False
        self._early: bytes | None = b""
        """Bytes received before the first request, from a receiver that refuses without reading it; None after that."""
        self._beneath: asyncio.Transport | None = None
        """The socket's transport. That of TLS over it hands all to the socket's and then reports an empty buffer."""

    @property
    def untouched(self) -> bool:
        """Return True if nothing was received and the connection is open: TLS may begin."""
        return not self._early and not self.transport.is_closing()

    @property
    def _unsent(self) -> bool:
        beneath = self._beneath or self.transport
        return beneath.get_write_buffer_size() > 0 or self.transport.get_write_buffer_size() > 0

    @property
    def reusable(self) -> bool:
        if self._answered is not None or not self._keep_alive or self.transport.is_closing():
            return False
        if self._tls is not None and self._request_bytes > SURELY_SENT_BYTES:
            return False
        return not self._unsent  # else the response came before the whole request was sent

    async def exchange(self, request: bytes, response: Response) -> bool:
        """Send `request` and fill `response` until it is complete or at its limit. Return True if another may follow.
        Raises `ClosedBeforeAnswerError`, `MalformedResponseError`, or the OSError (`ssl.SSLError` among them) that
        broke the connection. When no other may follow, also after an error or a cancellation, the connection is
        closed. A 2xx to a request that was not sent whole is malformed."""
        self._response = response
        self._request_bytes = len(request)
        self._headers: dict[bytes, bytes] = {}
        self._fields: list[tuple[bytes, bytes]] = []
        self._framing_left = FRAMING_BYTES_MAX
        self._pieces_left, self.unanswered = PIECES_MAX, True
        self._head: bytes | None = b""
        self._refused: str | None = None
        self._complete = self._keep_alive = self._until_closed = False
        self._malformed: str | None = None
        self._answered = self._loop.create_future()
        self.transport.write(request)
        early, self._early = self._early, None
        if early:
            self.data_received(early)
        reusable = False
        try:
            await self._answered
            if self._unsent and 200 <= (response.status_code or 0) < 300:
                raise MalformedResponseError("a success before the request was sent whole")
            self._answered = None
            reusable = not early and not response.notes and self.reusable
        finally:
            self._answered = None
            if not reusable:
                self._keep_alive = False
                if not self._complete:
                    self._discard_unsent()
                self.transport.abort()
        return reusable

    def _discard_unsent(self) -> None:
        """Have the close reset the connection. Otherwise the kernel goes on sending the request: a receiver behind a
        cut network would get it after the cut, when the attempt has failed for long, and then the retry beside it."""
        opened: socket.socket | None = self.transport.get_extra_info("socket")
        if opened is not None:
            with suppress(OSError):  # It is closed.
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the parser. Called again when the TLS handshake is done."""
        self.transport = cast("asyncio.Transport", transport)
        self._beneath = self._beneath or self.transport
        self._tls: ConnectionWatch | None = transport.get_extra_info("ssl_object")
        self._records = 0
        self._new_parser()

    def _new_parser(self) -> None:
        self._parser = HttpResponseParser(self)
        # Old servers do this, and it cannot be read in two ways (RFC 9112, 2.2 and 7.1).
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. Bytes outside an exchange close the connection."""
        if self._answered is None:
            if self._early is None:
                self._keep_alive = False
                self.transport.abort()
            elif len(self._early) < EARLY_BYTES_MAX:
                self._early += data
            return
        if self._answered.done():
            if self._complete:
                self._response.notes[_EXCESS] = None
            return
        packets = 1
        if self._tls is not None:
            packets += (self._tls.records - self._records) // RECORDS_PER_PACKET
            self._records = self._tls.records
        self._pieces_left, self.unanswered = self._pieces_left - packets, False
        self._response.packets += packets
        for start in range(0, len(data), _PIECE_BYTES):
            self._read(data[start : start + _PIECE_BYTES])
            if self._malformed is not None:
                self._end(MalformedResponseError(self._malformed))
                return
            if self._complete:
                if self._keep_alive and start + _PIECE_BYTES < len(data):
                    self._response.notes[_EXCESS] = None
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
        elif self._head is not None and _HEAD_END.search(self._head, len(self._head) - len(piece) - 3):
            self._read_repaired()  # Not for each packet: it reads the whole head.
        if self._complete:
            return
        self._framing_left -= len(piece) - (len(self._response.body) - body_bytes)
        headless = self._response.status_code is None
        if self._framing_left < 0:
            part = "head is" if headless else "chunk extensions or trailers are"
            self._malformed = f"the response's {part} longer than {FRAMING_BYTES_MAX} bytes"
        elif self._pieces_left <= 0:
            if headless:
                self._malformed = f"the response's head came in more than {PIECES_MAX} pieces"
            else:
                self._response.notes[f"a response in more than {PIECES_MAX} pieces, the rest not read"] = None
                self._complete, self._keep_alive = True, False
                self.transport.pause_reading()  # The exchange ends later than the next packets come.

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            self._complete, self._keep_alive = True, False
        except HttpParserError as error:
            if self._complete:
                self._response.notes[_EXCESS] = None
            elif self._head is not None:
                self._refused = str(error)
            else:
                self._malformed = str(error)

    def _read_repaired(self) -> None:
        """Read the response once more whose head the parser has refused, if it can be read in one way only."""
        head = self._head or b""
        repaired = repaired_head(head)
        if repaired is None:
            self._head = head[_final_head(head) :]
            return
        data, notes = repaired
        self._headers.clear()
        self._fields.clear()
        self._new_parser()
        self._head = None
        self._response.notes.update(dict.fromkeys(notes))
        if notes:
            self._feed(data)
            self._refused = None
        else:
            self._malformed = self._refused

    def connection_lost(self, exc: Exception | None) -> None:
        """End the current exchange, and store the TLS session for the next connection to the same peer."""
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
        if answered is not None and not answered.done():
            answered.set_result(None) if error is None else answered.set_exception(error)

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Note a second response behind a complete one."""
        if self._complete:
            self._response.notes[_EXCESS] = None

    def on_header(self, name: bytes, value: bytes) -> None:
        self._pieces_left -= 4
        self._fields.append((name, value))
        name = name.lower()
        if name == _TRANSFER_ENCODING:
            self._headers[name] = value  # the last one says how the body ends
        elif name == _CONTROL and name in self._headers:
            self._headers[name] += b", " + value  # two words are none
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
        response.headers, self._fields = self._fields, []  # what follows are trailers
        response.location = headers.get(b"location")
        response.retry_after = headers.get(b"retry-after")
        response.control = headers.get(_CONTROL)
        chunked = headers.get(_TRANSFER_ENCODING, b"").rpartition(b",")[2].strip().lower() == b"chunked"
        timeout = _KEEP_ALIVE_TIMEOUT.search(headers[b"keep-alive"]) if b"keep-alive" in headers else None
        self.keep_alive_seconds = int(timeout[1]) if timeout is not None else None
        self._until_closed = not chunked and b"content-length" not in headers and status_code not in _WITHOUT_BODY

    def on_body(self, data: bytes) -> None:
        """Store the body up to the limit, where the exchange ends."""
        response = self._response
        self._pieces_left -= 4
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
        self._fields.clear()
        self._pieces_left -= 4
