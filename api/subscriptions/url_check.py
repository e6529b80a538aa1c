"""A subscription's URL, checked when it is stored: by the rules, and by the addresses its name stands for right now.

The sender checks the address again at each connection; this is so that a mistake is told to whoever makes it.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from domain.urls.rules import NormalisedUrl, UrlRefused, UrlRules, address_refusal, normalise_url

RESOLVE_SECONDS = 1.0  # a name that takes longer is accepted: slow name service is no fault of the URL
RESOLVER_THREADS = 8  # dead name servers hold a thread for half a minute; when all are held, names go unresolved

Address: TypeAlias = "IPv4Address | IPv6Address"
Lookup: TypeAlias = Callable[[str], Awaitable[Sequence[Address]]]
"""Host name -> its addresses; raises OSError when it has none."""


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL that may be stored; `warning` when its name could not be resolved."""

    url: NormalisedUrl
    warning: str | None


class UrlCheck:
    """Checks URLs against the installation's rules."""

    def __init__(self, rules: UrlRules, lookup: Lookup | None = None) -> None:
        self._rules = rules
        self._lookup = lookup or SystemLookup()

    async def check(self, url: str) -> CheckedUrl:
        """Normalise and resolve; raises UrlRefused."""
        normal = normalise_url(url, self._rules)
        if _is_address(normal.hostname):
            return CheckedUrl(normal, None)  # judged by the rules already
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                addresses = await self._lookup(normal.hostname)
        except TimeoutError:
            return CheckedUrl(normal, f"{normal.hostname} was not resolved within {RESOLVE_SECONDS:g} s")
        except (OSError, UnicodeError):
            return CheckedUrl(normal, f"{normal.hostname} does not resolve")
        for address in addresses:
            refusal = address_refusal(address, self._rules)
            if refusal is not None:
                message = f"{normal.hostname} stands for an address that is not delivered to: {refusal}"
                raise UrlRefused("blocked_address", message)
        return CheckedUrl(normal, None)


class SystemLookup:
    """The system's resolver, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="url-check")

    async def __call__(self, hostname: str) -> list[Address]:
        """All addresses of the name; raises OSError when it has none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM)
        )
        # A zone id (fe80::1%eth0) belongs to no address that may be sent to, with or without it.
        return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _is_address(hostname: str) -> bool:
    try:
        ip_address(hostname)
    except ValueError:
        return False
    return True
