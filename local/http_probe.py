"""Asking a process of our own over HTTP how it is."""

from dataclasses import dataclass

import aiohttp

PROBE_SECONDS = 2.5  # /readyz itself waits up to 2 s for what it asks


@dataclass(frozen=True)
class ProbeResponse:
    """What came back."""

    status: int
    body: bytes


async def fetch(url: str, timeout_seconds: float = PROBE_SECONDS) -> ProbeResponse | None:
    """GET the address, whatever proxy the environment names; none when no answer came in time."""
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return ProbeResponse(response.status, await response.read())
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
