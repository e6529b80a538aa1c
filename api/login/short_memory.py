"""Answers of the database remembered for a moment, so that a burst of calls asks once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST_ENTRIES = 10_000  # a bound on memory, far above the keys and stores of one installation


class ShortMemory(Generic[K, V]):
    """Remembers what was found for `seconds`, counted from before it was asked, so that is how stale it can be.

    However many ask for the same key at once, one question is under way. What was not found (None) and what failed is
    not remembered.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._asked: dict[K, tuple[float, asyncio.Task[V | None]]] = {}

    async def get(self, key: K, ask: Callable[[], Coroutine[Any, Any, V | None]]) -> V | None:
        """What is remembered, else what `ask` answers; raises what `ask` raises."""
        entry = self._asked.get(key)
        if entry is None or not self._fresh(entry):
            entry = self._ask(key, ask)
        # Shielded: that one caller goes away must not take the answer from the others.
        return await asyncio.shield(entry[1])

    def _fresh(self, entry: tuple[float, Awaitable[V | None]]) -> bool:
        return self._clock() - entry[0] < self._seconds

    def _ask(self, key: K, ask: Callable[[], Coroutine[Any, Any, V | None]]) -> tuple[float, asyncio.Task[V | None]]:
        if len(self._asked) >= MOST_ENTRIES:
            self._asked = {known: entry for known, entry in self._asked.items() if self._fresh(entry)}
            if len(self._asked) >= MOST_ENTRIES:
                self._asked.clear()
        entry = (self._clock(), asyncio.create_task(ask()))
        self._asked[key] = entry
        entry[1].add_done_callback(lambda task: self._settle(key, task))
        return entry

    def _settle(self, key: K, task: asyncio.Task[V | None]) -> None:
        useless = task.cancelled() or task.exception() is not None or task.result() is None
        if useless and (entry := self._asked.get(key)) is not None and entry[1] is task:
            del self._asked[key]
