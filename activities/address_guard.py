"""Addresses judged where they count: at name resolution and at the very socket that is about to connect.

A name may stand for a public address when the subscription is made and for 127.0.0.1 a second later (DNS rebinding),
and literal addresses never pass a resolver. So each socket is refused by the address it would connect to.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohappyeyeballs import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from domain.url_rules import UrlRules, address_refusal

# getaddrinfo blocks a thread for as long as a dead name server takes (about 30 s). A pool of its own, so that names
# without an answer hold up neither the rest of the process nor, each being looked up once at a time, one another.
RESOLVER_THREADS = 64


class AddressBlockedError(OSError):
    """The address is one this installation does not send to. An OSError, so that every layer above passes it on."""


def judge_address(host: str, rules: UrlRules) -> None:
    """Raise AddressBlockedError when nothing may be sent to the address `host`; an IPv6 zone id is refused, too."""
    refusal = address_refusal(_address(host), rules)
    if refusal is not None:
        raise AddressBlockedError(refusal)


def _address(host: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(host)
    except ValueError:
        raise AddressBlockedError(f"{host!r} is not an address") from None


class GuardedResolver(AbstractResolver):
    """Resolves names by the system's resolver and drops refused addresses; raises if none is left.

    A name that stands for both a refused and a permitted address is sent to at the permitted one only.
    """

    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the permitted addresses; raises OSError (gaierror) unknown, AddressBlockedError all refused."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        )
        refused: AddressBlockedError | None = None
        permitted: list[ResolveResult] = []
        for address_family, _, protocol, _, socket_address in found:
            address = str(socket_address[0])
            try:
                judge_address(address, self._rules)
            except AddressBlockedError as error:
                refused = error
                continue
            permitted.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=address_family,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        if permitted:
            return permitted
        raise refused or OSError(f"{host} has no address")

    async def close(self) -> None:
        """Let go of the threads; look-ups under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedSocketFactory:
    """Makes the socket for one connection, unless its address is refused: the last place that sees where it goes."""

    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules

    def __call__(self, addr_info: AddrInfoType) -> socket.socket:
        """Return a new non-blocking socket for `addr_info`; raises AddressBlockedError."""
        family, kind, protocol, _, socket_address = addr_info
        judge_address(str(socket_address[0]), self._rules)
        return socket.socket(family=family, type=kind, proto=protocol)
