"""Addresses judged where they count: at name resolution and at the very socket that is about to connect.

A name may stand for a public address when the subscription is made and for 127.0.0.1 a second later (DNS rebinding),
and literal addresses never pass a resolver. So each socket is refused by the address it would connect to.
"""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohappyeyeballs import AddrInfoType

from domain.urls.rules import UrlRules, address_refusal

# getaddrinfo blocks a thread for as long as a dead name server takes (about 30 s). So many at once, each name looked up
# once at a time, before names without an answer hold up the others.
LOOKUPS_MAX = 128

KNOWN_SECONDS = 10.0
"""For so long a name's addresses are not asked for again."""

KNOWN_MAX = 4096

ADDRESSES_MAX = 16
"""Of a name. An answer may hold thousands, and an attempt would knock at each that refuses it."""


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


@dataclass(slots=True)
class _Known:
    """The permitted addresses of a name, the one to be tried first at the front."""

    until: float
    addresses: deque[AddrInfoType]


class GuardedResolver:
    """Resolves names by the system's resolver and drops refused addresses; raises if none is left.

    A name that stands for both a refused and a permitted address is sent to at the permitted one only. Whoever asks for
    a name that is being looked up waits for the same answer. Build it inside the running event loop.
    """

    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(LOOKUPS_MAX)
        self._known: dict[tuple[str, int], _Known] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[_Known]] = {}

    async def resolve(self, hostname: str, port: int) -> list[AddrInfoType]:
        """Return the permitted addresses, each time with another one first.

        Raises OSError (gaierror) for an unknown name, AddressBlockedError when all are refused.
        """
        name = (hostname, port)
        known = self._known.get(name)
        if known is None or known.until <= self._loop.time():
            known = await self._ask(name)
        known.addresses.rotate(-1)
        return list(known.addresses)

    async def _ask(self, name: tuple[str, int]) -> _Known:
        task = self._lookups.get(name)
        if task is None:
            task = self._lookups[name] = asyncio.create_task(self._permitted(*name))
            task.add_done_callback(partial(self._found, name))
        try:
            await asyncio.wait([task])  # whoever is cancelled meanwhile leaves the others their answer
            return task.result()
        finally:
            del task  # it holds the error, whose traceback holds this frame: a circle is not freed at once

    def _found(self, name: tuple[str, int], task: asyncio.Task[_Known]) -> None:
        del self._lookups[name]
        if not task.cancelled():
            task.exception()  # seen: nobody may be waiting for it any more

    async def _permitted(self, hostname: str, port: int) -> _Known:
        refused: AddressBlockedError | None = None
        permitted: deque[AddrInfoType] = deque()
        for family, kind, protocol, _, socket_address in await self._look_up(hostname, port):
            try:
                judge_address(str(socket_address[0]), self._rules)
            except AddressBlockedError as error:
                refused = error
                continue
            permitted.append((family, kind, protocol, "", socket_address))
            if len(permitted) == ADDRESSES_MAX:
                break
        if not permitted:
            raise refused or OSError(f"{hostname} has no address")
        permitted.rotate(1)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        known = self._known[hostname, port] = _Known(self._loop.time() + KNOWN_SECONDS, permitted)
        return known

    async def _look_up(self, host: str, port: int) -> Sequence[AddrInfoType]:
        # A daemon thread of its own, not an executor's: those are waited for at the end of the process, and a name
        # server that is silent would hold up a worker's shutdown.
        answer: asyncio.Future[Sequence[AddrInfoType]] = self._loop.create_future()
        await self._slots.acquire()
        try:
            threading.Thread(
                target=self._ask_system, args=(host, port, answer), name=f"resolver {host}", daemon=True
            ).start()
        except RuntimeError:
            self._slots.release()
            raise
        try:
            return await answer
        finally:
            del answer  # as `task` in _ask

    def _ask_system(self, host: str, port: int, answer: "asyncio.Future[Sequence[AddrInfoType]]") -> None:
        found: Sequence[AddrInfoType] = ()
        error: Exception | None = None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except Exception as raised:  # whatever it is belongs to whoever asked, not to this thread
            error = raised
        with suppress(RuntimeError):  # the event loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._settle, answer, found, error)
        del answer, error  # as `task` in _ask

    def _settle(
        self,
        answer: "asyncio.Future[Sequence[AddrInfoType]]",
        found: Sequence[AddrInfoType],
        error: Exception | None,
    ) -> None:
        self._slots.release()
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)


class GuardedSocketFactory:
    """Makes the socket for one connection, unless its address is refused: the last place that sees where it goes."""

    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules

    def __call__(self, addr_info: AddrInfoType) -> socket.socket:
        """Return a new non-blocking socket for `addr_info`; raises AddressBlockedError."""
        family, kind, protocol, _, socket_address = addr_info
        judge_address(str(socket_address[0]), self._rules)
        return socket.socket(family=family, type=kind, proto=protocol)
