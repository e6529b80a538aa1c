"""Connection pool for all receivers, with permitted addresses only.

There is no limit per host, so that no request waits for another. The environment's proxies and `.netrc` are not read:
a request goes through the installation's egress proxy, or through none.
"""

import asyncio
import errno
import os
import resource
import socket
from asyncio.staggered import staggered_race
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from math import inf
from traceback import clear_frames
from typing import TypeVar, cast

from domain.urls.rules import NormalisedUrl, UrlRules
from domain.wire.client_certificate import ClientCertificate
from sending.http.address_guard import AddrInfoType, GuardedResolver, judge_address
from sending.http.connection import ClosedBeforeAnswerError, Connection, Response
from sending.http.egress_proxy import EgressProxy, ProxyRefusedError, ProxyUnavailableError, ReceiverLateError
from sending.http.tls import CLIENT_CERTIFICATE, PEER, ClientCertificates, client_context, read_authorities

KEEP_ALIVE_SECONDS = 15.0
"""Maximum idle time of a connection whose receiver announces none. A request that meets its close is sent again."""

KEEP_ALIVE_MAX_SECONDS = 60.0
"""Maximum idle time of a connection, whatever its receiver announces."""

IDLE_SHARE = 1 / 4
"""Maximum share of the process's file descriptors for idle connections. The next to expire make way."""

NEXT_ADDRESS_SECONDS = 0.25
"""Delay after which the next address of a name is tried beside the first (RFC 8305)."""

CONNECT_SECONDS = 5.0
"""Maximum time to connect to a receiver: all its addresses together, TLS included. A working receiver takes less."""

_TLS_GOODBYE_SECONDS = 2.0
"""Maximum time for the receiver's part of a TLS shutdown. Python's default is 30 s."""

SENT_AGAIN_SECONDS = 1.0
"""Maximum time after which a request that met the close of an idle connection is sent again. A receiver that closes
later may have worked on the request."""

SENT_AGAIN = "sent again, because an idle connection was closed without a response"

_Peer = tuple[str, str, int, EgressProxy | None, ClientCertificate | None]
"""Whose connections and TLS sessions may be used for a request: scheme, host, port, proxy, client certificate."""

Opened = TypeVar("Opened", socket.socket, asyncio.Transport)


class HandshakeCutError(ConnectionError):
    """The connection was closed during the TLS handshake."""


class NotConnectedError(OSError):
    """No address of the receiver accepted a connection. The message says what each of them did."""


def _drop(stream: socket.socket | asyncio.Transport) -> None:
    """Close a stream that no connection owns."""
    if isinstance(stream, socket.socket):
        stream.close()
    else:
        stream.abort()


def _not_connected(addresses: Sequence[AddrInfoType], errors: Sequence[BaseException | None]) -> OSError:
    """Return one error for the addresses that were tried: the proxy's, or one with the `errno` that they have in
    common."""
    for kind in (ProxyUnavailableError, ProxyRefusedError):
        for error in errors:
            if isinstance(error, kind):
                return kind(str(error))
    by_words: dict[str, list[str]] = {}
    numbers = [error.errno if isinstance(error, OSError) else None for error in errors]
    for address, error, number in zip(addresses, errors, numbers, strict=True):
        words = (os.strerror(number) if number else str(error)).lower()
        words = f"{words} by" if number == errno.ECONNREFUSED else f"{words}:"
        by_words.setdefault(words, []).append(str(address[4][0]))
    timed_out = all(isinstance(error, ReceiverLateError) for error in errors)
    combined = (ReceiverLateError if timed_out else NotConnectedError)(
        "; ".join(f"{words} {' and '.join(ones)}" for words, ones in by_words.items())
    )
    combined.errno = numbers[0] if len(set(numbers)) == 1 else None
    return combined


class Connections:
    """Connection pool. Build it inside the running event loop, close it with `aclose`."""

    def __init__(
        self,
        rules: UrlRules,
        *,
        ca_bundle: str | None = None,
        client_cert: str | None = None,
        proxy: EgressProxy | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._resolver = GuardedResolver(rules)
        self._rules = rules
        authorities = read_authorities(ca_bundle)
        self._tls = client_context(authorities, client_cert)
        self._client_certificates = ClientCertificates(authorities)
        self._proxy = proxy
        self._proxy_tls = client_context(authorities, None) if proxy is not None and proxy.secure else None
        self._idle: dict[_Peer, list[Connection]] = {}
        """Idle connections by peer, the last used one at the end, so that surplus connections expire."""
        self._idle_count = 0
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._idle_max = inf if descriptors == resource.RLIM_INFINITY else descriptors * IDLE_SHARE
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(
        self, url: NormalisedUrl, request: bytes, response: Response, certificate: ClientCertificate | None = None
    ) -> None:
        """Send `request`, head and body, to `url`'s host and fill `response`. If an idle connection turns out to be
        closed, at once and before a byte of a response, the request is sent again on a new one. Raises the errors of
        `Connection.exchange`; if no connection can be made, `AddressBlockedError`, `NameRefusedError`,
        `NotConnectedError`, `HandshakeCutError`, `ProxyUnavailableError`, `ProxyRefusedError`, `ReceiverLateError`,
        `socket.gaierror`, `ssl.SSLError` or another OSError."""
        proxy = self._proxy if self._proxy is not None and self._proxy.serves(url.hostname) else None
        peer = (url.scheme, url.hostname, url.port, proxy, certificate)
        response.through_proxy = proxy is not None
        connection = self._idle_one(peer)
        began, again = self._loop.time(), False
        try:
            reusable = connection is not None and await connection.exchange(request, response)
        except ConnectionError:
            late = self._loop.time() - began > SENT_AGAIN_SECONDS
            if connection is None or not connection.unanswered or late:
                raise
            connection, again = None, True
        if connection is None:
            try:
                connection = await self._connect(url, response, peer)
                reusable = await connection.exchange(request, response)
            finally:
                if again:
                    response.notes[SENT_AGAIN] = None  # Not before the exchange, which closes odd connections.
        if reusable:
            self._keep(peer, connection)

    def _keep(self, peer: _Peer, connection: Connection) -> None:
        announced = connection.keep_alive_seconds
        seconds = KEEP_ALIVE_SECONDS if announced is None else min(announced, KEEP_ALIVE_MAX_SECONDS)
        connection.usable_until = self._loop.time() + seconds
        self._idle.setdefault(peer, []).append(connection)
        self._idle_count += 1
        if self._idle_count > self._idle_max:
            self._close_surplus()
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEP_ALIVE_SECONDS / 4, self._close_idle)

    async def aclose(self) -> None:
        """Close all connections, also those in use."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._open:
            connection.transport.abort()
        if self._open:
            await asyncio.wait([connection.lost for connection in self._open])
        self._idle.clear()
        self._idle_count = 0

    def _idle_one(self, peer: _Peer) -> Connection | None:
        idle = self._idle.get(peer)
        while idle:
            connection = idle.pop()
            self._idle_count -= 1
            if connection.reusable and self._loop.time() < connection.usable_until:
                return connection
            connection.transport.close()
        return None

    def _close_idle(self) -> None:
        """Close the connections that were idle for too long. One sweep checks all, instead of one timer each."""
        self._sweep = None
        now = self._loop.time()
        for connection in self._take_idle(lambda one: now >= one.usable_until or not one.reusable):
            connection.transport.close()
        if self._idle:
            self._sweep = self._loop.call_later(KEEP_ALIVE_SECONDS / 4, self._close_idle)

    def _close_surplus(self) -> None:
        """Close a tenth of the idle connections at once, so that the search is not repeated for each of them."""
        all_idle = [connection for idle in self._idle.values() for connection in idle]
        surplus = set(sorted(all_idle, key=lambda one: one.usable_until)[: len(all_idle) // 10 + 1])
        for connection in self._take_idle(surplus.__contains__):
            connection.transport.abort()

    def _take_idle(self, condition: Callable[[Connection], bool]) -> list[Connection]:
        """Remove the idle connections for which the condition holds, and return them."""
        taken = [connection for idle in self._idle.values() for connection in idle if condition(connection)]
        gone = set(taken)
        kept = {peer: [one for one in idle if one not in gone] for peer, idle in self._idle.items()}
        self._idle = {peer: idle for peer, idle in kept.items() if idle}
        self._idle_count -= len(taken)
        return taken

    async def _connect(self, url: NormalisedUrl, response: Response, peer: _Peer) -> Connection:
        if self._closed:
            raise RuntimeError("the sender is closed")
        proxy = peer[-2]
        addresses = await self._addresses(url, proxy)
        awaited = f"no connection to {' or '.join(str(one[4][0]) for one in addresses)}"
        awaited += "" if proxy is None else " through the egress proxy"
        stream: socket.socket | asyncio.Transport
        # Set before a tunnel is opened, because uvloop makes the TLS handshake in the context of that moment.
        making, presented = PEER.set(peer), CLIENT_CERTIFICATE.set(peer[-1])
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if proxy is None:
                    stream = await self._first_of(addresses, self._open_socket)
                else:
                    response.proxy_reached = asyncio.Event()
                    tunnel = partial(self._open_tunnel, proxy, response.proxy_reached)
                    stream = await self._first_of(addresses, tunnel)
                awaited = f"no TLS handshake with {url.hostname}"
                connection = await self._secured(url, stream, peer)
        except TimeoutError:
            if response.at_proxy:
                raise ProxyUnavailableError(f"no connection to the egress proxy within {CONNECT_SECONDS:g} s") from None
            raise NotConnectedError(f"{awaited} within {CONNECT_SECONDS:g} s") from None
        finally:
            PEER.reset(making)
            CLIENT_CERTIFICATE.reset(presented)
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    async def _secured(self, url: NormalisedUrl, stream: socket.socket | asyncio.Transport, peer: _Peer) -> Connection:
        """Return the connection over a connected socket or a tunnel, after the handshake for https."""
        tls = name = goodbye = None
        if url.scheme == "https":
            tls = self._tls if peer[-1] is None else self._client_certificates.of(peer[-1])
            name, goodbye = url.hostname.rstrip("."), _TLS_GOODBYE_SECONDS
        connection = Connection(self._loop)
        try:
            if isinstance(stream, socket.socket):
                stream, _ = await self._loop.create_connection(lambda: connection, sock=stream)
            else:
                stream.set_protocol(connection)
                connection.connection_made(stream)
            if tls is not None:
                if not connection.untouched:  # The handshake would never end, or follow unauthenticated bytes.
                    raise ConnectionResetError
                secured = await self._loop.start_tls(
                    stream, connection, tls, server_hostname=name, ssl_shutdown_timeout=goodbye
                )
                connection.connection_made(cast("asyncio.Transport", secured))
        except BaseException as error:
            _drop(stream)  # A cancelled handshake that has not begun leaves it open.
            clear_frames(error.__traceback__)
            if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
                raise HandshakeCutError("the connection was closed during the TLS handshake") from error
            raise
        if self._closed:
            connection.transport.abort()
            raise RuntimeError("the sender is closed")
        if connection.lost.done() or connection.transport.is_closing():  # An exchange on it would never end.
            raise ClosedBeforeAnswerError("the connection was closed before a request")
        return connection

    async def _first_of(
        self, addresses: Sequence[AddrInfoType], opening: Callable[[AddrInfoType], Awaitable[Opened]]
    ) -> Opened:
        """Return the stream that `opening` returns first. Each address has a start over the next (RFC 8305)."""
        streams: list[Opened] = []
        opened: Opened | None = None

        async def begin(address: AddrInfoType) -> None:
            streams.append(await opening(address))

        try:
            _, winner, errors = await staggered_race([partial(begin, one) for one in addresses], NEXT_ADDRESS_SECONDS)
            if winner is None:
                raise _not_connected(addresses, errors)
            opened = streams[0]
        finally:
            for stream in streams:  # A cancelled race, or two that ended at once, would leave them open.
                if stream is not opened:
                    _drop(stream)
        return opened

    async def _open_socket(self, address: AddrInfoType) -> socket.socket:
        """Return a connected socket. The address is judged here, too, whatever the resolver said."""
        judge_address(str(address[4][0]), self._rules)
        opened = socket.socket(*address[:3])
        try:
            opened.setblocking(False)
            await self._loop.sock_connect(opened, address[4])
        except BaseException:
            opened.close()
            raise
        return opened

    async def _open_tunnel(
        self, proxy: EgressProxy, reached: asyncio.Event, address: AddrInfoType
    ) -> asyncio.Transport:
        """Return a tunnel to the address, which is judged here, too; to a name if the proxy resolves it."""
        host, port = address[4][:2]
        if not proxy.resolves:
            judge_address(host, self._rules)
        connection = await proxy.connect(self._proxy_tls)
        reached.set()
        return await connection.open_tunnel(host, port)

    async def _addresses(self, url: NormalisedUrl, proxy: EgressProxy | None) -> Sequence[AddrInfoType]:
        """Return the permitted addresses of a name, or a permitted literal address; a name alone for a proxy that
        resolves it."""
        address = None
        with suppress(ValueError):
            address = ip_address(url.hostname)
        if address is None:
            if proxy is not None and proxy.resolves:
                return [(0, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (url.hostname, url.port))]
            return await self._resolver.resolve(url.hostname, url.port)
        judge_address(url.hostname, self._rules)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (url.hostname, url.port))]
