"""Egress proxy: tunnels to receivers through the HTTP proxy of the installation (`CONNECT`, RFC 9110, 9.3.6)."""

import asyncio
import os
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Self, cast
from urllib.parse import unquote, urlsplit

from domain.urls.rules import is_listed

HEAD_BYTES_MAX = 32768
"""Maximum size of the proxy's response to CONNECT, without its body."""

_CLOSE_SECONDS = 2.0
"""Maximum time for the proxy's part of a TLS shutdown, as for a receiver's."""

_HEAD = rb"[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n"
_ANSWER = re.compile(rb"(?:HTTP/1\.\d 1\d\d%b)*HTTP/1\.\d ([2-9]\d\d)%b" % (_HEAD, _HEAD))
_START = b"HTTP/1."

_CLOSED, _NOT_HTTP = 0, 1
"""Stand in for the status where there is none."""

_UNUSABLE = {
    _CLOSED: "the egress proxy closed the connection without an answer",
    _NOT_HTTP: "the egress proxy does not answer in HTTP/1.1",
    401: "the egress proxy does not accept our user and password (401)",  # tinyproxy's word for wrong ones
    407: "the egress proxy does not accept our user and password (407)",
}


class ProxyUnavailableError(OSError):
    """The egress proxy is not reachable, refuses our credentials, or does not speak HTTP."""


class ProxyRefusedError(OSError):
    """The egress proxy refuses the receiver."""


class ReceiverLateError(OSError):
    """The egress proxy says that the receiver did not answer it in time."""


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """HTTP proxy between the workers and the receivers. `resolves`: it is told the names of receivers, and finds and
    checks their addresses itself. `no_proxy`: names, which stand for the names below them as well, and networks."""

    host: str
    port: int
    secure: bool
    authorization: str = field(repr=False)
    no_proxy: tuple[str | IPv4Network | IPv6Network, ...]
    resolves: bool

    @classmethod
    def of(
        cls, url: str, no_proxy: Collection[str | IPv4Network | IPv6Network] = (), *, resolves: bool = False
    ) -> Self:
        """Return the proxy at `url`, `http://user:password@host:port` or the same with https."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        authorization = "" if user == b":" else f"Proxy-Authorization: Basic {b64encode(user).decode()}\r\n"
        port = parts.port or (443 if secure else 80)
        return cls(parts.hostname or "", port, secure, authorization, tuple(no_proxy), resolves)

    def serves(self, hostname: str) -> bool:
        """Return True if requests to this host go through the proxy."""
        return not is_listed(hostname, self.no_proxy)

    async def connect(self, tls: ssl.SSLContext | None) -> "ProxyConnection":
        """Return a connection to the proxy, over TLS if it is `secure`. Raises ProxyUnavailableError."""
        loop = asyncio.get_running_loop()
        goodbye = _CLOSE_SECONDS if self.secure else None
        try:
            _, connection = await loop.create_connection(
                lambda: ProxyConnection(loop, self),
                self.host,
                self.port,
                ssl=tls if self.secure else None,
                ssl_shutdown_timeout=goodbye,
            )
        except OSError as error:
            number = None if isinstance(error, ssl.SSLError | socket.gaierror) else error.errno
            words = os.strerror(number).lower() if number else str(error)
            raise ProxyUnavailableError(f"no connection to the egress proxy: {words}") from None
        return connection


class ProxyConnection(asyncio.Protocol):
    """Connection to the proxy until it is a tunnel. What a receiver says before its first request is dropped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, proxy: EgressProxy) -> None:
        self._proxy = proxy
        self._status: asyncio.Future[int] = loop.create_future()
        self._received = b""

    async def open_tunnel(self, host: str, port: int) -> asyncio.Transport:
        """Return the transport, once all its bytes go to and come from `host`. Raises ProxyUnavailableError,
        ProxyRefusedError, or an OSError that says that the proxy cannot connect to `host`."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{self._proxy.authorization}\r\n"
        try:
            self._transport.write(head.encode())
            status = await self._status
            if status // 100 != 2:
                raise _refusal(status)
        except BaseException:
            self._transport.abort()
            raise
        return self._transport

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._status.done():
            return
        self._received += data
        answer = _ANSWER.match(self._received)
        if answer is not None:
            self._status.set_result(int(answer[1]))
        elif len(self._received) > HEAD_BYTES_MAX or not self._received.startswith(_START[: len(self._received)]):
            self._status.set_result(_NOT_HTTP)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._status.done():
            self._status.set_result(_CLOSED)  # No exception: nobody may be left to take it.


def _refusal(status: int) -> OSError:
    """Return the error for a response to CONNECT that opens no tunnel. A response that depends on the receiver is no
    fault of the proxy: else a subscription could be retried for ever."""
    if status in _UNUSABLE:
        return ProxyUnavailableError(_UNUSABLE[status])
    if 300 <= status < 500:
        return ProxyRefusedError(f"the egress proxy refuses this receiver ({status})")
    if status == 504:
        return ReceiverLateError("the connection through the egress proxy timed out (504)")
    return OSError(f"no connection through the egress proxy ({status})")  # 500 from tinyproxy
