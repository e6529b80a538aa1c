"""A scripted receiver on a real socket: answers as told, well or badly, and remembers every request byte for byte.

    async with Receiver() as receiver:
        receiver.script(status(500), reset_before_answer(), status(200, body=b"ok"))   # one per request, in order
        receiver.script(hang(), path="/slow")                                          # a script of its own for a path
        await send_to(receiver.url("/hook"))
        await receiver.wait_for(3)
        assert receiver.requests[0].header("webhook-id")

When a script is used up, `receiver.otherwise` answers (200 with `ok` unless replaced). A reply is an async function of
one `Exchange`; write your own for anything special. Replies that never end are ended by the client or by `aclose`.
Speaks HTTP/1.1 with keep-alive. TLS: `Receiver(tls=Authority().server_context("localhost"))`.
"""

import asyncio
import gzip
import socket
import ssl
import struct
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

_HEAD_LIMIT = 1 << 20
_TICK_SECONDS = 0.005
_TICKS = 8
"""Within so many ticks the first request of a connection is read after it has come; within `_LATER_TICKS`, another."""
_LATER_TICKS = 3


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire.

    `arrived_at` is `time.monotonic()` when its last byte was read, `arrived_after` an instant before it could be read:
    in a process that has to wait for the CPU these lie apart, and requests sent one by one are read together.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    head: bytes
    arrived_after: float
    arrived_at: float
    connection: int

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case; None without one."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def span(self) -> tuple[float, float]:
        """The instants between which it arrived."""
        return self.arrived_after, self.arrived_at

    def header_dict(self) -> dict[str, str]:
        """All headers by lower-case name, as verifiers want them."""
        return {key.lower(): value for key, value in self.headers}


@dataclass
class Exchange:
    """What a reply works with: the request and the connection to write the answer to."""

    request: Received
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    keep_alive: bool = True

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection off with a TCP reset, not an orderly end."""
        self.keep_alive = False
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        """Wait until the client lets go, be it by an orderly end, which leaves the connection half open."""
        self.keep_alive = False
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


def client_of(exchange: Exchange) -> str:
    """The name in the client's certificate."""
    certificate = exchange.writer.get_extra_info("peercert")
    return str(next(value for kind, value in certificate["subjectAltName"] if kind == "DNS"))


Reply = Callable[[Exchange], Awaitable[None]]


def response(
    code: int = 200, body: bytes = b"ok", headers: tuple[tuple[str, str], ...] = (), *, length: int | None = None
) -> bytes:
    """The bytes of a plain response; `length` lies about the body's."""
    lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def status(code: int = 200, *, body: bytes = b"ok", headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """An ordinary answer."""
    return raw(response(code, body, headers))


def raw(data: bytes, *, close: bool = False) -> Reply:
    """Exactly these bytes; then, with `close`, the end of the connection."""

    async def reply(exchange: Exchange) -> None:
        exchange.keep_alive = not close
        await exchange.write(data)

    return reply


def after(seconds: float, then: Reply) -> Reply:
    """A slow receiver."""

    async def reply(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await then(exchange)

    return reply


def when(gate: asyncio.Event, then: Reply) -> Reply:
    """A receiver that answers once `gate` is set."""

    async def reply(exchange: Exchange) -> None:
        await gate.wait()
        await then(exchange)

    return reply


def hang() -> Reply:
    """Reads the request and never answers."""
    return Exchange.until_closed


def reset_before_answer() -> Reply:
    """A TCP reset instead of an answer."""

    async def reply(exchange: Exchange) -> None:
        exchange.reset()

    return reply


def close_before_answer() -> Reply:
    """An orderly end of the connection instead of an answer."""
    return raw(b"", close=True)


def reset_mid_response(code: int = 200) -> Reply:
    """A head that promises 1,000 bytes, ten of them, and a reset."""

    async def reply(exchange: Exchange) -> None:
        await exchange.write(response(code, b"0123456789", length=1000))
        await asyncio.sleep(0.02)  # a reset overtakes what the client has not read yet
        exchange.reset()

    return reply


def wrong_length(code: int = 200) -> Reply:
    """A body shorter than announced, and the orderly end of the connection."""
    return raw(response(code, b"short", length=1000), close=True)


def trickle(interval_seconds: float = 0.02) -> Reply:
    """A 200 whose body of 64,000 bytes comes one byte at a time."""

    async def reply(exchange: Exchange) -> None:
        await exchange.write(response(200, b"", length=64000))
        while not exchange.writer.transport.is_closing():
            await exchange.write(b".")
            await asyncio.sleep(interval_seconds)

    return reply


def packet_a_byte(body: bytes = b"x" * 100) -> Reply:
    """An ordinary answer, its bytes in packets of their own."""

    async def reply(exchange: Exchange) -> None:
        for byte in response(200, body):
            await exchange.write(bytes((byte,)))
            await asyncio.sleep(0.0005)

    return reply


def endless_body(code: int = 200) -> Reply:
    """A body without end, as fast as it is taken."""
    return _endless(f"HTTP/1.1 {code} X\r\nContent-Type: text/plain\r\n\r\n".encode(), b"x" * 65536)


def endless_headers() -> Reply:
    """One header after the other, never a body."""
    return _endless(b"HTTP/1.1 200 X\r\n", b"X-Filler: " + b"x" * 1000 + b"\r\n")


def one_endless_header() -> Reply:
    """A single header line that never ends."""
    return _endless(b"HTTP/1.1 200 X\r\nX-Filler: ", b"x" * 16384)


def endless_interim() -> Reply:
    """1xx responses without a final one."""
    return _endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100)


def gzip_bomb(megabytes: int = 100) -> Reply:
    """A small body that would unpack to `megabytes` MB."""
    bomb = gzip.compress(bytes(megabytes << 20), compresslevel=9)
    return status(200, body=bomb, headers=(("Content-Encoding", "gzip"), ("Content-Type", "text/plain")))


def _endless(start: bytes, piece: bytes) -> Reply:
    async def reply(exchange: Exchange) -> None:
        exchange.keep_alive = False
        await exchange.write(start)
        while not exchange.writer.transport.is_closing():
            await exchange.write(piece)
            await asyncio.sleep(0)  # over TLS only the event loop learns that the connection is lost

    return reply


@dataclass
class _Script:
    replies: deque[Reply] = field(default_factory=deque)


class Receiver:
    """The server. `requests` has every whole request in order of arrival, `connections` how many were accepted."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.otherwise: Reply = status(200)
        self.port = port
        self._host = host
        self._tls = tls
        self._scripts: dict[str | None, _Script] = defaultdict(_Script)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticks = deque[float](maxlen=_TICKS)
        """The last instants at which the event loop had its turn: one per `_TICK_SECONDS` unless held up."""
        self._arrival = asyncio.Condition()

    def script(self, *replies: Reply, path: str | None = None) -> None:
        """Add replies, one per request; those for a path are used for it alone (the query does not count)."""
        self._scripts[path].replies.extend(replies)

    def url(self, path: str = "/", host: str | None = None) -> str:
        """The URL of a path here; `host` names it otherwise (`localhost`)."""
        name = host or (f"[{self._host}]" if ":" in self._host else self._host)
        return f"{'https' if self._tls else 'http'}://{name}:{self.port}{path}"

    async def wait_for(self, count: int, *, within: float = 30.0) -> list[Received]:
        """Return the requests once there are `count`; raises TimeoutError with what there is instead."""
        try:
            async with asyncio.timeout(within), self._arrival:
                await self._arrival.wait_for(lambda: len(self.requests) >= count)
        except TimeoutError:
            raise TimeoutError(f"{len(self.requests)} of {count} requests arrived within {within} s") from None
        return self.requests

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, self._host, self.port, ssl=self._tls, limit=_HEAD_LIMIT, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._ticks.extend([time.monotonic()] * _TICKS)
        self._tasks.add(asyncio.create_task(self._tick()))

    async def _tick(self) -> None:
        while True:
            self._ticks.append(time.monotonic())
            await asyncio.sleep(_TICK_SECONDS)

    async def aclose(self) -> None:
        """Stop listening and end every connection, whatever its reply is doing."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError, TimeoutError):
            pass  # the client went away, or the test is over
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        keep_alive, ticks = True, _TICKS
        while keep_alive:
            received = await self._read_request(reader, connection, ticks)
            ticks = _LATER_TICKS
            async with self._arrival:
                self.requests.append(received)
                self._arrival.notify_all()
            exchange = Exchange(received, writer, reader)
            await self._reply_for(received)(exchange)
            keep_alive = exchange.keep_alive and not writer.transport.is_closing()
        if not writer.transport.is_closing():
            writer.close()
            await writer.wait_closed()

    async def _read_request(self, reader: asyncio.StreamReader, connection: int, ticks: int) -> Received:
        head = await reader.readuntil(b"\r\n\r\n")
        request_line, *header_lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = request_line.split(" ", 2)
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in header_lines)]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        body = await reader.readexactly(length)
        return Received(method, target, headers, body, head, self._ticks[-ticks], time.monotonic(), connection)

    def _reply_for(self, received: Received) -> Reply:
        for key in (received.target.partition("?")[0], None):
            script = self._scripts.get(key)
            if script is not None and script.replies:
                return script.replies.popleft()
        return self.otherwise


class Authority:
    """A certificate authority of the test's own; `ca_bundle` is the path of its certificate as PEM."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self._folder = tempfile.TemporaryDirectory(prefix="authority-")
        self.ca_bundle = self._write("ca.pem", self._ca.cert_pem.bytes())

    def server_context(self, *names: str, require_client: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for `names` (or addresses); may require a client's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        if require_client:
            self._ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_cert(self, name: str = "client.example.com") -> str:
        """The path of a PEM file with a client's certificate chain and key."""
        issued = self._ca.issue_cert(name)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return self._write("client.pem", issued.private_key_pem.bytes() + chain)

    def client_pems(self, name: str, **issuing: Any) -> tuple[str, str]:
        """A client's certificate chain and its key."""
        issued = self._ca.issue_cert(name, **issuing)
        return "".join(
            blob.bytes().decode() for blob in issued.cert_chain_pems
        ), issued.private_key_pem.bytes().decode()

    def _write(self, name: str, content: bytes) -> str:
        path = Path(self._folder.name) / name
        path.write_bytes(content)
        return str(path)
