"""httpx's transport interface over aiohttp's connections: `httpx.Request` in, `httpx.Response` out.

Our own, because the published one asks yarl to quote the URL again (what is signed would not be what is sent), names
every broken connection a connect timeout, and costs twice as much per request. Redirects are not followed, cookies not
kept, nothing is decompressed, the environment's proxies and `.netrc` are not read.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache, partial
from typing import Any, cast

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage
from yarl import URL

from activities.address_guard import GuardedResolver, GuardedSocketFactory
from activities.tls import SessionKeepingContext, client_context
from domain.url_rules import UrlRules

# Common servers close idle connections after 5 s (Node, Apache, uvicorn). Letting go first keeps a request from meeting
# a connection that is just being closed: a POST is not repeated by itself, that would be a failed attempt.
KEEP_ALIVE_SECONDS = 4.0
DNS_CACHE_SECONDS = 10
# RFC 9110 sets no limit to 1xx responses before the final one; nobody needs more, and a flood of them burns CPU.
INTERIM_RESPONSES_MAX = 16


class TooManyInterimResponsesError(BadHttpMessage):
    """The receiver sends 1xx responses without end."""


class BoundedResponseHandler(ResponseHandler):
    """aiohttp's connection, which closes when a response has more than `INTERIM_RESPONSES_MAX` 1xx heads before it."""

    _interim_responses = 0
    _tls: ssl.SSLObject | None = None
    reset_by: ConnectionError | None = None
    """What broke the connection off; aiohttp tells a body cut off from one that is too short by text only."""

    def set_response_params(self, **parameters: Any) -> None:
        """Begin a response."""
        self._interim_responses = 0
        super().set_response_params(**parameters)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection; over TLS the handshake is done by now."""
        self._tls = transport.get_extra_info("ssl_object")
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take note of a reset, and keep the TLS session for the next connection to the same host."""
        if isinstance(exc, ConnectionError):
            self.reset_by = exc
        if self._tls is not None and isinstance(self._tls.context, SessionKeepingContext):
            self._tls.context.keep(self._tls)
        super().connection_lost(exc)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take one parsed head; aiohttp's own loop would pass over 1xx heads for ever."""
        if data[0].code < 200:
            self._interim_responses += 1
            if self._interim_responses > INTERIM_RESPONSES_MAX:
                if self.transport is not None:
                    self.transport.abort()
                self.set_exception(TooManyInterimResponsesError("more than 16 interim responses"))
                return
        super().feed_data(data, size)


class ConnectionTransport(httpx.AsyncBaseTransport):
    """Connections kept alive and shared by all requests; no limit per host, so that none waits for another.

    Build it inside the running event loop. Raises aiohttp's exceptions as they are (`activities/failures.py` tells them
    apart, their httpx counterparts would not).
    """

    def __init__(
        self, rules: UrlRules, *, ca_bundle: str | None, client_cert: str | None, max_connections: int
    ) -> None:
        self._resolver = GuardedResolver(rules)
        connector = aiohttp.TCPConnector(
            limit=max_connections,
            limit_per_host=0,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            ttl_dns_cache=DNS_CACHE_SECONDS,
            resolver=self._resolver,
            socket_factory=GuardedSocketFactory(rules),
            ssl=client_context(ca_bundle, client_cert),
        )
        # aiohttp has no public way to choose its connections' protocol; test_sender_hostile.py holds this together.
        connector._factory = cast("partial[ResponseHandler]", partial(BoundedResponseHandler, loop=connector._loop))
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )
        self._wire_url = lru_cache(maxsize=4096)(_wire_url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return as soon as the response's head is there; its stream has to be closed.

        The request line's target is the extension `target` (bytes), as httpx defines it, byte for byte.
        """
        headers = [(name.decode("ascii"), value.decode("utf-8")) for name, value in request.headers.raw]
        url = request.url
        # What is in memory already is read without a task switch.
        body = request.read() if isinstance(request.stream, httpx.SyncByteStream) else await request.aread()
        response = await self._session.request(
            request.method,
            self._wire_url(url.scheme, url.netloc, request.extensions.get("target", url.raw_path)),
            headers=headers,
            data=body,
            allow_redirects=False,
        )
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=_ResponseStream(response), request=request
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._resolver.close()


def _wire_url(scheme: str, netloc: bytes, target: bytes) -> URL:
    # encoded=True: yarl would otherwise decode and quote again, and %7E, %2F or + would leave in another form.
    return URL(f"{scheme}://{netloc.decode('ascii')}{target.decode('ascii')}", encoded=True)


class _ResponseStream(httpx.AsyncByteStream):
    """The body as it arrives. A class of its own steps: an async generator costs several µs a response."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        # None once the response is complete: then it belongs to the next request.
        self._connection = response.connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        content = self._response.content
        if content.at_eof():
            raise StopAsyncIteration
        try:
            return await content.readany()
        except aiohttp.ClientPayloadError as error:
            protocol = self._connection.protocol if self._connection is not None else None
            if isinstance(protocol, BoundedResponseHandler) and protocol.reset_by is not None:
                raise aiohttp.ClientConnectionResetError(*protocol.reset_by.args) from error
            raise

    async def aclose(self) -> None:
        # A connection whose response was read to its end is back in the pool already; any other is of no more use.
        self._response.close()
