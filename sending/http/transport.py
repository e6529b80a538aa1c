"""The seam to httpx: our connections as a transport of httpx, and deliveries over somebody's own transport."""

import asyncio
from collections.abc import AsyncIterable, Callable
from functools import lru_cache
from typing import cast

import httpx

from domain.delivery.verdict import CONTROL_HEADER
from domain.urls.rules import NormalisedUrl, UrlRules, normalise_url
from domain.wire.client_certificate import ClientCertificate
from sending.http.connection import MalformedResponseError, Response
from sending.http.egress_proxy import ProxyRefusedError, ProxyUnavailableError, ReceiverLateError
from sending.http.pool import Connections, HandshakeCutError

TransportFactory = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
"""Gets our transport, and returns it in a wrapper, or another one."""

RESPONSE = "loyalty_webhooks.response"
"""Extension of a request: the `Response` to fill. It keeps what came of a response that was cut off."""

CERTIFICATE = "loyalty_webhooks.client_certificate"
"""Extension of a request: its `ClientCertificate`, if it has one. Another transport than ours does not know it."""

_AS_HTTPX: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (TimeoutError, httpx.ReadTimeout),
    (ReceiverLateError, httpx.ConnectTimeout),
    (MalformedResponseError, httpx.RemoteProtocolError),
    (ProxyUnavailableError, httpx.ProxyError),
    (ProxyRefusedError, httpx.ProxyError),
    (HandshakeCutError, httpx.ConnectError),
    (ConnectionError, httpx.ReadError),
    (OSError, httpx.ConnectError),
)
"""Error of httpx for ours: the first that fits."""

_SIZED = (b"content-length", b"transfer-encoding")


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx transport over `Connections`: address guard, egress proxy, a response read whole and within bounds, its
    body up to `body_limit`. The connect and the read timeout of a request limit their sum, for the whole exchange.
    Raises UrlRefused for a refused URL, else an `httpx.TransportError` with the error of `Connections.exchange` as its
    cause."""

    def __init__(self, connections: Connections, rules: UrlRules, body_limit: int) -> None:
        self._connections = connections
        self._body_limit = body_limit
        self._normal: Callable[[str], NormalisedUrl] = lru_cache(maxsize=4096)(lambda url: normalise_url(url, rules))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request once. The body is sent with its length, also if the request streams it."""
        url = self._normal(str(request.url))
        body = await request.aread()
        fields = [field for field in request.headers.raw if field[0].lower() not in _SIZED]
        lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        if lines.count(b"\n") != len(fields) or lines.count(b"\r") != len(fields) or b"\0" in lines:
            raise ValueError("a header with a line break or NUL in it")
        opening = f"{request.method} {url.target} HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
        response: Response = request.extensions.get(RESPONSE) or Response(self._body_limit)
        response.clear()  # A wrapper may send a request twice.
        certificate: ClientCertificate | None = request.extensions.get(CERTIFICATE)
        octets = b"%b%b\r\n%b" % (opening.encode(), lines, body)
        try:
            async with asyncio.timeout(_seconds(request)):
                await self._connections.exchange(url, octets, response, certificate)
        except (OSError, MalformedResponseError) as error:
            kind = next(kind for ours, kind in _AS_HTTPX if isinstance(error, ours))
            raise kind(str(error), request=request) from error
        # The body has been decoded from its chunks.
        headers = [field for field in response.headers if field[0].lower() != b"transfer-encoding"]
        return httpx.Response(response.status_code or 0, headers=headers, stream=httpx.ByteStream(bytes(response.body)))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connections.aclose()


def _seconds(request: httpx.Request) -> float | None:
    """Return the timeout of a request; None without one."""
    limits = request.extensions.get("timeout") or {}
    connect, read = limits.get("connect"), limits.get("read")
    return None if connect is None or read is None else connect + read


def cause_of(error: Exception) -> Exception:
    """Return our error behind an error of httpx, because it says more; keep httpx's error for a TimeoutError."""
    cause = error.__cause__ if isinstance(error, httpx.TransportError) else None
    if isinstance(cause, OSError | MalformedResponseError) and not isinstance(cause, TimeoutError):
        return cause
    return error


async def exchange_over(
    transport: httpx.AsyncBaseTransport,
    url: httpx.URL,
    fields: list[tuple[bytes, bytes]],
    body: bytes,
    response: Response,
    certificate: ClientCertificate | None,
) -> None:
    """Send a POST request over `transport` and fill `response`, up to its limit. Raises the transport's errors."""
    extensions = {RESPONSE: response, CERTIFICATE: certificate}
    request = httpx.Request("POST", url, headers=fields, stream=httpx.ByteStream(body), extensions=extensions)
    answer = await transport.handle_async_request(request)
    if answer.status_code < 100:
        raise MalformedResponseError("a status code below 100")
    response.status_code = answer.status_code
    named = {name.lower(): value for name, value in reversed(answer.headers.raw)}
    response.location, response.retry_after = named.get(b"location"), named.get(b"retry-after")
    control = answer.headers.get(CONTROL_HEADER)
    response.control = None if control is None else control.encode()
    response.body.clear()
    try:
        async for part in cast("AsyncIterable[bytes]", answer.stream):
            response.body += part[: response.body_limit - len(response.body)]
            if len(response.body) >= response.body_limit:
                break
    finally:
        await answer.aclose()
