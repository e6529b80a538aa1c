"""Addresses judged where they count: at name resolution and at the very socket that is about to connect.

A name may stand for a public address when the subscription is made and for 127.0.0.1 a second later (DNS rebinding),
and literal addresses never pass a resolver. So each socket is refused by the address it would connect to.
"""

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from aiohappyeyeballs import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from domain.url_rules import UrlRules, address_refusal

# getaddrinfo blocks a thread for as long as a dead name server takes (about 30 s). So many at once, each name looked up
# once at a time, before names without an answer hold up the others.
LOOKUPS_MAX = 128

_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


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
        self._slots = asyncio.Semaphore(LOOKUPS_MAX)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the permitted addresses; raises OSError (gaierror) unknown, AddressBlockedError all refused."""
        refused: AddressBlockedError | None = None
        permitted: list[ResolveResult] = []
        for address_family, _, protocol, _, socket_address in await self._look_up(host, port, family):
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

    async def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> Sequence[_Found]:
        # A daemon thread of its own, not an executor's: those are waited for at the end of the process, and a name
        # server that is silent would hold up a worker's shutdown.
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[_Found]] = loop.create_future()

        def settle(found: Sequence[_Found] | None, error: Exception | None) -> None:
            self._slots.release()
            if answer.done():
                return
            if found is None:
                answer.set_exception(error or OSError("no answer"))
            else:
                answer.set_result(found)

        def ask() -> None:
            found: Sequence[_Found] | None = None
            error: Exception | None = None
            try:
                found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
            except Exception as raised:  # whatever it is belongs to whoever asked, not to this thread
                error = raised
            with suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(settle, found, error)

        await self._slots.acquire()
        try:
            threading.Thread(target=ask, name=f"resolver {host}", daemon=True).start()
        except RuntimeError:
            self._slots.release()
            raise
        return await answer

    async def close(self) -> None:
        """Nothing to do: look-ups under way end by themselves."""


class GuardedSocketFactory:
    """Makes the socket for one connection, unless its address is refused: the last place that sees where it goes."""

    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules

    def __call__(self, addr_info: AddrInfoType) -> socket.socket:
        """Return a new non-blocking socket for `addr_info`; raises AddressBlockedError."""
        family, kind, protocol, _, socket_address = addr_info
        judge_address(str(socket_address[0]), self._rules)
        return socket.socket(family=family, type=kind, proto=protocol)
