"""Connection pool for all receivers, with permitted addresses only.

There is no limit per host, so that no request waits for another. The environment's proxies and `.netrc` are not read.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from traceback import clear_frames

from aiohappyeyeballs import AddrInfoType, start_connection

from domain.urls.rules import NormalisedUrl, UrlRules
from sending.http.address_guard import GuardedResolver, GuardedSocketFactory
from sending.http.connection import ClosedBeforeAnswerError, Connection, Response
from sending.http.tls import client_context

KEEP_ALIVE_SECONDS = 4.0
"""Maximum idle time of a connection. Common servers close idle connections after 5 s (Node, Apache, uvicorn). A request
on a connection that is just being closed would be a failed attempt, because a POST is not repeated automatically."""

NEXT_ADDRESS_SECONDS = 0.25
"""Delay after which the next address of a name is tried beside the first (RFC 8305)."""

_TLS_GOODBYE_SECONDS = 2.0
"""Maximum time for the receiver's part of a TLS shutdown. Python's default is 30 s."""

_CLOSED = "the sender is closed"
_Peer = tuple[str, str, int]


class HandshakeCutError(ConnectionError):
    """The connection was closed during the TLS handshake."""


class Connections:
    """Connection pool. Build it inside the running event loop, close it with `aclose`."""

    def __init__(self, rules: UrlRules, *, ca_bundle: str | None = None, client_cert: str | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._resolver = GuardedResolver(rules)
        self._sockets = GuardedSocketFactory(rules)
        self._tls = client_context(ca_bundle, client_cert)
        self._idle: dict[_Peer, list[Connection]] = {}
        """Idle connections by peer, the last used one at the end, so that surplus connections expire."""
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(self, url: NormalisedUrl, request: bytes, response: Response) -> None:
        """Send `request`, head and body, to `url`'s host and fill `response`. Raises the errors of
        `Connection.exchange`; if no connection can be made, `AddressBlockedError`, `HandshakeCutError`,
        `socket.gaierror`, `ssl.SSLError` or another OSError."""
        peer = (url.scheme, url.hostname, url.port)
        connection = self._idle_one(peer) or await self._connect(url)
        if await connection.exchange(request, response):
            connection.idle_since = self._loop.time()
            self._idle.setdefault(peer, []).append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(KEEP_ALIVE_SECONDS, self._close_idle)

    async def aclose(self) -> None:
        """Close all connections, also those in use."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._open:
            connection.abort()
        if self._open:
            await asyncio.wait([connection.lost for connection in self._open])
        self._idle.clear()

    def _idle_one(self, peer: _Peer) -> Connection | None:
        idle = self._idle.get(peer)
        while idle:
            connection = idle.pop()
            if connection.reusable and self._loop.time() - connection.idle_since < KEEP_ALIVE_SECONDS:
                return connection
            connection.close()
        return None

    def _close_idle(self) -> None:
        """Close the connections that were idle for too long. One sweep checks all, instead of one timer each."""
        self._sweep = None
        old = self._loop.time() - KEEP_ALIVE_SECONDS
        for peer, idle in list(self._idle.items()):
            usable: list[Connection] = []
            for connection in idle:
                if connection.idle_since > old and connection.reusable:
                    usable.append(connection)
                else:
                    connection.close()
            if usable:
                self._idle[peer] = usable
            else:
                del self._idle[peer]
        if self._idle:
            self._sweep = self._loop.call_later(KEEP_ALIVE_SECONDS / 4, self._close_idle)

    async def _connect(self, url: NormalisedUrl) -> Connection:
        if self._closed:
            raise RuntimeError(_CLOSED)
        addresses = await self._addresses(url)
        try:
            stream = await start_connection(
                addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, socket_factory=self._sockets
            )
        except Exception as error:
            clear_frames(error.__traceback__)  # The frames hold the error, and a reference cycle is not freed at once.
            raise
        secure = url.scheme == "https"
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop),
                sock=stream,
                ssl=self._tls if secure else None,
                server_hostname=url.hostname.rstrip(".") if secure else None,
                ssl_shutdown_timeout=_TLS_GOODBYE_SECONDS if secure else None,
            )
        except OSError as error:
            clear_frames(error.__traceback__)
            if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
                raise HandshakeCutError("the connection was closed during the TLS handshake") from error
            raise
        if self._closed:
            connection.abort()
            raise RuntimeError(_CLOSED)
        if connection.lost.done():  # An exchange on it would never end.
            raise ClosedBeforeAnswerError("the connection was closed before a request")
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    async def _addresses(self, url: NormalisedUrl) -> Sequence[AddrInfoType]:
        """Return the permitted addresses of a name. A literal address is checked where its socket is made."""
        address = None
        with suppress(ValueError):
            address = ip_address(url.hostname)
        if address is None:
            return await self._resolver.resolve(url.hostname, url.port)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (url.hostname, url.port))]
