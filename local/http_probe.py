"""HTTP probe of the stack's processes."""

from dataclasses import dataclass

import aiohttp

PROBE_SECONDS = 2.5
"""Timeout of a probe. /readyz itself waits up to 2 s for its dependencies."""


@dataclass(frozen=True)
class ProbeResponse:
    """Response to a probe."""

    status: int
    body: bytes


async def fetch(url: str, timeout_seconds: float = PROBE_SECONDS) -> ProbeResponse | None:
    """GET the address, ignoring proxy variables. Return None if no response arrives in time."""
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return ProbeResponse(response.status, await response.read())
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
