"""The seam to httpx: our connections as a transport of httpx, and deliveries over somebody's own transport."""

from collections.abc import AsyncIterable, Callable
from functools import lru_cache
from typing import cast

import httpx

from domain.delivery.verdict import CONTROL_HEADER
from domain.urls.rules import NormalisedUrl, UrlRules, normalise_url
from domain.wire.client_certificate import ClientCertificate
from sending.http.connection import MalformedResponseError, Response
from sending.http.pool import Connections

TransportFactory = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
"""Gets our transport, and returns it in a wrapper, or another one."""

RESPONSE = "loyalty_webhooks.response"
"""Extension of a request: the `Response` to fill. It keeps what came of a response that was cut off."""

CERTIFICATE = "loyalty_webhooks.client_certificate"
"""Extension of a request: its `ClientCertificate`, if it has one. Another transport than ours does not know it."""

_SIZED = (b"content-length", b"transfer-encoding")


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx transport over `Connections`: address guard, egress proxy, a response read whole and within bounds, its
    body up to `body_limit`. Raises UrlRefused for a refused URL, else the errors of `Connections.exchange`."""

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
        await self._connections.exchange(url, b"%b%b\r\n%b" % (opening.encode(), lines, body), response, certificate)
        # The body has been decoded from its chunks.
        headers = [field for field in response.headers if field[0].lower() != b"transfer-encoding"]
        return httpx.Response(response.status_code or 0, headers=headers, stream=httpx.ByteStream(bytes(response.body)))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connections.aclose()


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
