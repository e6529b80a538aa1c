"""Names: looked up once for all who wait, whoever of them goes; known for a while when found, never when not."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from domain.delivery.failure_kinds import FailureKind
from sending.http import address_guard
from sending.http.address_guard import ADDRESSES_MAX, GuardedResolver
from sending.http.client import failure_of
from tests.sending.http.sending import LOCAL

Found = tuple[int, int, int, str, tuple[str, int]]


class Names:
    """The system's resolver, as the test wants it: silent until told, then with these addresses or without any."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.addresses: list[str] = ["127.0.0.1"]
        self.answering = threading.Event()
        self.answering.set()

    def look_up(self, host: str, port: int, **options: Any) -> list[Found]:
        self.asked.append(host)
        self.answering.wait(10)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    yield names
    names.answering.set()


@contextmanager
def complaints() -> Iterator[list[dict[str, Any]]]:
    """What the event loop has to complain about."""
    found: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context))
    try:
        yield found
    finally:
        loop.set_exception_handler(None)


async def asked(names: Names, count: int) -> None:
    async with asyncio.timeout(10):
        while len(names.asked) < count:
            await asyncio.sleep(0.001)


async def test_whoever_is_cancelled_leaves_the_others_their_answer(names: Names) -> None:
    names.answering.clear()
    resolver = GuardedResolver(LOCAL)
    first, second, third = [asyncio.create_task(resolver.resolve("a.example.com", 80)) for _ in range(3)]
    await asked(names, 1)
    first.cancel()
    third.cancel()
    await asyncio.gather(first, third, return_exceptions=True)
    names.answering.set()
    assert [address for *_, address in await second] == [("127.0.0.1", 80)]
    assert names.asked == ["a.example.com"]


async def test_a_look_up_that_fails_when_nobody_waits_any_more_is_no_complaint(names: Names) -> None:
    names.answering.clear()
    names.addresses = []
    resolver = GuardedResolver(LOCAL)
    with complaints() as found:
        waiting = [asyncio.create_task(resolver.resolve("a.example.com", 80)) for _ in range(2)]
        await asked(names, 1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        names.answering.set()
        with pytest.raises(socket.gaierror):  # joins the same look-up, or asks again: it has failed by then
            await resolver.resolve("a.example.com", 80)
        await asyncio.sleep(0)
        assert found == []


async def test_a_failure_is_not_remembered(names: Names) -> None:
    names.addresses = []
    resolver = GuardedResolver(LOCAL)
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await resolver.resolve("a.example.com", 80)
    names.addresses = ["127.0.0.1"]
    for _ in range(3):
        assert len(await resolver.resolve("a.example.com", 80)) == 1
    assert len(names.asked) == 3


async def test_a_known_name_outlives_the_silence_and_the_failures_of_its_name_server(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_guard, "KNOWN_SECONDS", 0.0)
    monkeypatch.setattr(address_guard, "STALE_ANSWER_SECONDS", 0.02)
    resolver = GuardedResolver(LOCAL)
    await resolver.resolve("a.example.com", 80)
    names.answering.clear()
    for _ in range(2):
        assert [address for *_, address in await resolver.resolve("a.example.com", 80)] == [("127.0.0.1", 80)]
    assert len(names.asked) == 2, "while the server is silent it is asked once"
    names.addresses = []  # EAI_AGAIN
    names.answering.set()
    assert [address for *_, address in await resolver.resolve("a.example.com", 80)] == [("127.0.0.1", 80)]
    monkeypatch.setattr(address_guard, "STALE_SECONDS", 0.0)
    with pytest.raises(socket.gaierror):
        await resolver.resolve("a.example.com", 80)


async def test_a_name_that_could_not_be_looked_up_for_the_dead_names_of_others_is_no_failure_of_its_receiver(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_guard, "LOOKUPS_MAX", 2)
    monkeypatch.setattr(address_guard, "SLOT_SECONDS", 0.02)
    names.answering.clear()
    resolver = GuardedResolver(LOCAL)
    dead = [asyncio.create_task(resolver.resolve(f"dead{number}.example.com", 80)) for number in range(2)]
    await asked(names, 2)
    with pytest.raises(OSError, match="2 names are being looked up") as raised:
        await resolver.resolve("healthy.example.com", 80)
    assert failure_of(raised.value) is FailureKind.internal
    names.answering.set()
    await asyncio.gather(*dead)
    assert await resolver.resolve("healthy.example.com", 80)


async def test_of_a_name_with_very_many_addresses_some_are_tried(names: Names) -> None:
    names.addresses = [f"127.0.{n}.1" for n in range(200)]
    assert len(await GuardedResolver(LOCAL).resolve("a.example.com", 80)) == ADDRESSES_MAX


async def test_when_too_many_names_are_known_they_are_asked_for_again(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_guard, "KNOWN_MAX", 2)
    resolver = GuardedResolver(LOCAL)
    for name in ("a", "b", "a", "c", "a"):
        assert len(await resolver.resolve(f"{name}.example.com", 80)) == 1
    assert [name[0] for name in names.asked] == ["a", "b", "c", "a"]
