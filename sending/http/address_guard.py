"""Address check of outgoing connections, at name resolution; `pool` repeats it at the socket about to connect.

A name may resolve to a public address when the subscription is created and to 127.0.0.1 a second later (DNS rebinding),
and literal addresses pass no resolver. So each socket is checked by the address it would connect to.
"""

import asyncio
import errno
import socket
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

from domain.urls.rules import UrlRules, address_refusal

LOOKUPS_MAX = 128
"""Maximum number of concurrent lookups, one per name. With a dead name server, getaddrinfo blocks its thread for some
30 s; up to this number, such names do not delay the others."""

LOOKUP_SECONDS = 10.0
"""Maximum time to wait for the addresses of a name, a slot included. The system's resolver asks again after 5 s, so one
lost packet is no failure."""

SLOT_SECONDS = 5.0
"""Maximum time to wait for a slot. Then nobody was asked, so the failure is ours (`ENOBUFS`)."""

KNOWN_SECONDS = 10.0
"""Time to live of a resolved name."""

STALE_ANSWER_SECONDS = 2.0
"""Maximum time to wait for a name server before the addresses of the last answer are used (RFC 8767)."""

STALE_SECONDS = 24 * 60 * 60.0
"""Maximum age beyond the time to live of such addresses. Later they may be somebody else's."""

KNOWN_MAX = 4096
"""Maximum number of cached names."""

ADDRESSES_MAX = 16
"""Maximum number of addresses used per name. An answer may hold thousands, and an attempt would try each of them."""


class AddressBlockedError(OSError):
    """The installation does not send to this address. An OSError, so that every layer above passes it on."""


class NameRefusedError(OSError):
    """All addresses of a name are refused now. Its records may change, so it is tried again."""


def judge_address(host: str, rules: UrlRules) -> None:
    """Raise AddressBlockedError if the address `host` is not permitted. An IPv6 zone id is refused, too."""
    try:
        refusal = address_refusal(ip_address(host), rules)
    except ValueError:
        refusal = f"{host!r} is not an address"
    if refusal is not None:
        raise AddressBlockedError(refusal)


AddrInfoType = tuple[int, int, int, str, tuple[Any, ...]]
"""Address as `socket.getaddrinfo` returns it: family, type, protocol, canonical name, socket address."""

_Known = tuple[float, deque[AddrInfoType]]
"""End of the time to live (loop clock), and the permitted addresses in the order in which they are tried."""


class GuardedResolver:
    """TTL cache over the system's resolver, without the refused addresses. If a name has both refused and permitted
    addresses, only the permitted ones are used. Concurrent lookups of a name share one answer (single flight). Build it
    inside the running event loop."""

    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(LOOKUPS_MAX)
        self._known: dict[tuple[str, int], _Known] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[_Known]] = {}

    async def resolve(self, hostname: str, port: int) -> list[AddrInfoType]:
        """Return the permitted addresses of a name, rotated at each call. Raises OSError (gaierror) for an unknown
        name and one that is not answered in time, NameRefusedError when all are refused. While the name servers are
        silent or failing, the addresses of the last answer serve."""
        name = (hostname, port)
        until, addresses = self._known.get(name, (float("-inf"), deque[AddrInfoType]()))
        age = self._loop.time() - until
        if age >= 0:
            stale = age < STALE_SECONDS
            try:
                _, addresses = await self._ask(name, STALE_ANSWER_SECONDS if stale else LOOKUP_SECONDS)
            except OSError as error:
                if not stale or error.errno not in (socket.EAI_AGAIN, errno.ENOBUFS):
                    raise
        addresses.rotate(-1)
        return list(addresses)

    async def _ask(self, name: tuple[str, int], seconds: float) -> _Known:
        task = self._lookups.get(name)
        if task is None:
            task = self._lookups[name] = asyncio.create_task(self._permitted(*name))
            task.add_done_callback(partial(self._found, name))
        try:
            await asyncio.wait([task], timeout=seconds)  # a cancelled caller leaves the others their answer
            if not task.done():
                raise socket.gaierror(socket.EAI_AGAIN, f"no address of {name[0]} within {seconds:g} s")
            return task.result()
        finally:
            del task  # It holds the error, whose traceback holds this frame: a reference cycle is not freed at once.

    def _found(self, name: tuple[str, int], task: asyncio.Task[_Known]) -> None:
        del self._lookups[name]
        if not task.cancelled():
            task.exception()  # marks the error as seen, because no caller may be left

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
            if refused is not None:
                raise NameRefusedError(f"{hostname} resolves to refused addresses only: {refused}")
            raise OSError(f"{hostname} has no address")
        permitted.rotate(1)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        known = self._known[hostname, port] = (self._loop.time() + KNOWN_SECONDS, permitted)
        return known

    async def _look_up(self, host: str, port: int) -> Sequence[AddrInfoType]:
        # The thread is a daemon and not an executor's: the process waits for executor threads at its end, and a
        # silent name server would delay the shutdown of a worker.
        answer: asyncio.Future[Sequence[AddrInfoType]] = self._loop.create_future()
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            text = f"{LOOKUPS_MAX} names are being looked up, none answered within {SLOT_SECONDS:g} s"
            raise OSError(errno.ENOBUFS, text) from None
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
        except Exception as raised:  # Any error belongs to the caller, not to this thread.
            error = raised
        with suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._settle, answer, found, error)
        del answer, error  # as `task` in _ask

    def _settle(
        self, answer: "asyncio.Future[Sequence[AddrInfoType]]", found: Sequence[AddrInfoType], error: Exception | None
    ) -> None:
        self._slots.release()
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)
