"""What became of the cases of an attack, and another client who asks for `/healthz` meanwhile."""

import asyncio
import http.client
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from urllib.parse import urlsplit

PAUSE_SECONDS = 0.002
ANSWER_SECONDS = 120


@dataclass
class Tried:
    """Number of cases, and descriptions of those that were let in."""

    cases: int = 0
    let_in: list[str] = field(default_factory=list)

    def note(self, case: str, let_in: bool) -> None:
        """Count a case."""
        self.cases += 1
        if let_in:
            self.let_in.append(case)


@dataclass(frozen=True)
class Neighbour:
    """A client of its own process and connection: the attacker's own work does not delay it."""

    _longest: "Synchronized[float]"
    _asked: "Synchronized[int]"

    async def begin(self) -> None:
        """Forget the waits so far."""
        await self._two_answers()
        self._longest.value = 0.0

    async def longest_seconds(self) -> float:
        """The longest wait since `begin`, the request under way included."""
        await self._two_answers()
        return self._longest.value

    async def _two_answers(self) -> None:
        enough = self._asked.value + 2
        while self._asked.value < enough:
            await asyncio.sleep(PAUSE_SECONDS)


@contextmanager
def neighbour(root: str) -> Iterator[Neighbour]:
    """The client, as long as the block lasts."""
    context = multiprocessing.get_context("spawn")
    longest, asked = context.Value("d", 0.0), context.Value("L", 0)
    process = context.Process(target=_ask, args=(root, longest, asked), daemon=True)
    process.start()
    try:
        yield Neighbour(longest, asked)
    finally:
        process.kill()
        process.join()


def _ask(root: str, longest: "Synchronized[float]", asked: "Synchronized[int]") -> None:
    connection = http.client.HTTPConnection(urlsplit(root).netloc, timeout=ANSWER_SECONDS)
    while True:
        began = time.perf_counter()
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"/healthz answered {answer.status}")
        longest.value = max(longest.value, time.perf_counter() - began)
        asked.value += 1
        time.sleep(PAUSE_SECONDS)
