"""A transport for `HTTP_TRANSPORT` that adds nothing, to measure the seam to httpx (`bench.seam`)."""

import httpx


def unchanged(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    """Return the transport as it is, so that every delivery is an `httpx.Request` over it."""
    return transport
