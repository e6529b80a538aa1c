"""Connection pool for all receivers, with permitted addresses only.

There is no limit per host, so that no request waits for another. The environment's proxies and `.netrc` are not read.
"""

import asyncio
import resource
import socket
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from traceback import clear_frames

from aiohappyeyeballs import AddrInfoType, start_connection

from domain.urls.rules import NormalisedUrl, UrlRules
from sending.http.address_guard import GuardedResolver, GuardedSocketFactory
from sending.http.connection import ClosedBeforeAnswerError, Connection, Response
from sending.http.tls import client_context

KEEP_ALIVE_SECONDS = 15.0
"""Maximum idle time of a connection whose receiver announces none. Servers that close idle connections sooner (uvicorn
and Apache after 5 s) are seen to do so; a request that meets the close is sent again."""

ANNOUNCED_SHARE = 0.8
"""Part of the time in `Keep-Alive: timeout=…` for which a connection is used, so that no request meets its end."""

KEEP_ALIVE_MAX_SECONDS = 60.0
"""Maximum idle time of a connection, whatever its receiver announces."""

IDLE_SHARE = 1 / 4
"""Maximum share of the process's file descriptors for idle connections. The oldest make way."""

IDLE_MAX = 16384
"""Maximum number of idle connections without a limit of descriptors."""

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
        self._by_age: OrderedDict[Connection, _Peer] = OrderedDict()
        """All idle connections, the longest idle one first."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = descriptors == resource.RLIM_INFINITY
        self._idle_max = IDLE_MAX if unlimited else min(IDLE_MAX, int(descriptors * IDLE_SHARE))
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(self, url: NormalisedUrl, request: bytes, response: Response) -> None:
        """Send `request`, head and body, to `url`'s host and fill `response`. If an idle connection turns out to be
        closed, before a byte of a response, the request is sent again on a new one. Raises the errors of
        `Connection.exchange`; if no connection can be made, `AddressBlockedError`, `HandshakeCutError`,
        `socket.gaierror`, `ssl.SSLError` or another OSError."""
        peer = (url.scheme, url.hostname, url.port)
        connection = self._idle_one(peer)
        if connection is not None:
            try:
                reusable = await connection.exchange(request, response)
            except ConnectionError:
                if not connection.unanswered:
                    raise
                response.sent_again = True
            else:
                self._keep(peer, connection, reusable)
                return
        connection = await self._connect(url)
        self._keep(peer, connection, await connection.exchange(request, response))

    def _keep(self, peer: _Peer, connection: Connection, reusable: bool) -> None:
        if not reusable:
            return
        announced = connection.keep_alive_seconds
        seconds = KEEP_ALIVE_SECONDS if announced is None else min(announced * ANNOUNCED_SHARE, KEEP_ALIVE_MAX_SECONDS)
        connection.usable_until = self._loop.time() + seconds
        self._idle.setdefault(peer, []).append(connection)
        self._by_age[connection] = peer
        if len(self._by_age) > self._idle_max:
            oldest = next(iter(self._by_age))
            self._forget(oldest)
            oldest.abort()
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEP_ALIVE_SECONDS / 4, self._close_idle)

    def _forget(self, connection: Connection) -> None:
        peer = self._by_age.pop(connection)
        self._idle[peer].remove(connection)
        if not self._idle[peer]:
            del self._idle[peer]

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
        self._by_age.clear()

    def _idle_one(self, peer: _Peer) -> Connection | None:
        while idle := self._idle.get(peer):
            connection = idle[-1]
            self._forget(connection)
            if connection.reusable and self._loop.time() < connection.usable_until:
                return connection
            connection.close()
        return None

    def _close_idle(self) -> None:
        """Close the connections that were idle for too long. One sweep checks all, instead of one timer each."""
        self._sweep = None
        now = self._loop.time()
        for connection in list(self._by_age):
            if now >= connection.usable_until or not connection.reusable:
                self._forget(connection)
                connection.close()
        if self._by_age:
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
