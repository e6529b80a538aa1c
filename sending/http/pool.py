"""Connection pool for all receivers, with permitted addresses only.

There is no limit per host, so that no request waits for another. The environment's proxies and `.netrc` are not read.
"""

import asyncio
import errno
import os
import resource
import socket
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from itertools import zip_longest
from traceback import clear_frames

from domain.urls.rules import NormalisedUrl, UrlRules
from sending.http.address_guard import AddressBlockedError, AddrInfoType, GuardedResolver, GuardedSocketFactory
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

CONNECT_SECONDS = 5.0
"""Maximum time to make a connection: name, address and TLS. A receiver that works takes less, and with the timeout of
the whole request one that is down would hold its attempts three times as long."""

_TLS_GOODBYE_SECONDS = 2.0
"""Maximum time for the receiver's part of a TLS shutdown. Python's default is 30 s."""

_CLOSED = "the sender is closed"
_Peer = tuple[str, str, int]


class HandshakeCutError(ConnectionError):
    """The connection was closed during the TLS handshake."""


class NotConnectedError(OSError):
    """No address of the receiver accepted a connection. The message says what each of them did."""


def _not_connected(errors: dict[str, OSError]) -> OSError:
    """Return one error for the addresses that were tried, with the `errno` that they have in common."""
    refused = next((error for error in errors.values() if isinstance(error, AddressBlockedError)), None)
    if refused is not None:
        return AddressBlockedError(*refused.args)
    by_words: dict[str, list[str]] = {}
    for address, error in errors.items():
        words = "connection refused by" if error.errno == errno.ECONNREFUSED else f"{_words_of(error)}:"
        by_words.setdefault(words, []).append(address)
    numbers = {error.errno for error in errors.values()}
    combined = NotConnectedError("; ".join(f"{words} {' and '.join(ones)}" for words, ones in by_words.items()))
    combined.errno = numbers.pop() if len(numbers) == 1 else None
    return combined


def _close_socket(task: "asyncio.Task[socket.socket | OSError]") -> None:
    if not task.cancelled() and isinstance(result := task.result(), socket.socket):
        result.close()


def _words_of(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower()


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
        `Connection.exchange`; if no connection can be made, `AddressBlockedError`, `NameRefusedError`,
        `NotConnectedError`, `HandshakeCutError`, `socket.gaierror`, `ssl.SSLError` or another OSError."""
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
        awaited = f"no address of {url.hostname}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                addresses = await self._addresses(url)
                awaited = f"no connection to {' or '.join(str(one[4][0]) for one in addresses)}"
                stream = await self._first_of(addresses)
                awaited = f"no TLS handshake with {url.hostname}"
                connection = await self._secured(url, stream)
        except TimeoutError:
            raise NotConnectedError(f"{awaited} within {CONNECT_SECONDS:g} s") from None
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    async def _secured(self, url: NormalisedUrl, stream: socket.socket) -> Connection:
        """Return the connection over a connected socket, after the handshake for https."""
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
        return connection

    async def _first_of(self, addresses: Sequence[AddrInfoType]) -> socket.socket:
        """Return a socket that is connected to one of the addresses. The families alternate, and each address has a
        start of `NEXT_ADDRESS_SECONDS` over the next (RFC 8305)."""
        first = [one for one in addresses if one[0] == addresses[0][0]]
        other = [one for one in addresses if one[0] != addresses[0][0]]
        queue = [one for pair in zip_longest(first, other) for one in pair if one is not None]
        trying: dict[asyncio.Task[socket.socket | OSError], str] = {}
        errors: dict[str, OSError] = {}
        try:
            while queue or trying:
                if queue:
                    address = queue.pop(0)
                    trying[asyncio.create_task(self._open_socket(address))] = str(address[4][0])
                done, _ = await asyncio.wait(
                    trying, timeout=NEXT_ADDRESS_SECONDS if queue else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    result = task.result()
                    text = trying.pop(task)
                    if isinstance(result, socket.socket):
                        return result
                    errors[text] = result
        finally:
            for task in trying:
                task.cancel()
                task.add_done_callback(_close_socket)
        raise _not_connected(errors)

    async def _open_socket(self, address: AddrInfoType) -> socket.socket | OSError:
        """Return a connected socket, or the error, without a traceback that would hold this frame."""
        opened: socket.socket | None = None
        try:
            opened = self._sockets(address)
            opened.setblocking(False)
            await self._loop.sock_connect(opened, address[4])
        except BaseException as error:
            if opened is not None:
                opened.close()
            if isinstance(error, OSError):
                return error.with_traceback(None)
            raise
        return opened

    async def _addresses(self, url: NormalisedUrl) -> Sequence[AddrInfoType]:
        """Return the permitted addresses of a name. A literal address is checked where its socket is made."""
        address = None
        with suppress(ValueError):
            address = ip_address(url.hostname)
        if address is None:
            return await self._resolver.resolve(url.hostname, url.port)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (url.hostname, url.port))]
