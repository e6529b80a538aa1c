"""Check of a subscription's URL when it is stored or shown, by the rules and by the addresses its host name has now.

The sender checks the address again at each connection; this check reports a mistake to the caller who makes it.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from domain.urls.rules import UrlRefused, UrlRules, address_refusal, is_listed, normalise_url

RESOLVE_SECONDS = 1.0
"""Timeout of name resolution. A name that takes longer is accepted: slow DNS is no fault of the URL."""

RESOLVER_THREADS = 8
"""Number of resolver threads. A dead name server blocks a thread for half a minute; with all blocked, names stay
unresolved."""

Address: TypeAlias = "IPv4Address | IPv6Address"
Lookup: TypeAlias = Callable[[str], Awaitable[Sequence[Address]]]
"""Function from a host name to its addresses. Raises OSError if it has none."""


class UrlCheck:
    """Check of URLs against the installation's rules. If an egress proxy resolves names, only those in `looked_up`
    (`EGRESS_NO_PROXY`) are resolved here; None: all."""

    def __init__(
        self,
        rules: UrlRules,
        lookup: Lookup | None = None,
        looked_up: Collection[str | IPv4Network | IPv6Network] | None = None,
    ) -> None:
        self._rules = rules
        self._looked_up = looked_up
        self._lookup = lookup or SystemLookup()

    async def check(self, url: str) -> tuple[str, str | None]:
        """Return the URL in its normal form, and a warning if its host name does not resolve. Raises UrlRefused."""
        normal = normalise_url(url, self._rules)
        with suppress(ValueError):
            ip_address(normal.hostname)
            return normal.url, None  # normalise_url has applied the rules to the address
        if self._looked_up is not None and not is_listed(normal.hostname, self._looked_up):
            return normal.url, None
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                addresses = await self._lookup(normal.hostname)
        except TimeoutError:
            return normal.url, f"{normal.hostname} was not resolved within {RESOLVE_SECONDS:g} s"
        except (OSError, UnicodeError):
            return normal.url, f"{normal.hostname} does not resolve"
        for address in addresses:
            refusal = address_refusal(address, self._rules)
            if refusal is not None:
                message = f"{normal.hostname} resolves to an address that is not allowed: {refusal}"
                raise UrlRefused("blocked_address", message)
        return normal.url, None

    async def warning(self, url: str) -> str | None:
        """Return why a request to a stored URL would be refused or reach nobody now, or None."""
        try:
            return (await self.check(url))[1]
        except UrlRefused as refused:
            return refused.message


class SystemLookup:
    """The system's resolver in dedicated threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="url-check")

    async def __call__(self, hostname: str) -> list[Address]:
        """Return all addresses of the host name. Raises OSError if it has none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM)
        )
        # Drop a zone id (fe80::1%eth0): such addresses are refused with or without it.
        return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
