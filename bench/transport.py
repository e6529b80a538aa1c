"""What the seam to httpx costs: `python -m bench.compare "" HTTP_TRANSPORT=bench.transport:unchanged --tls`."""

import httpx


def unchanged(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    """Return the transport as it is, so that every delivery is an `httpx.Request` over it."""
    return transport
