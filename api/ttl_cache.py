"""TTL cache with single flight and refresh-ahead, for values read from the database."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST_ENTRIES = 10_000
"""Maximum number of keys. A bound on memory, far above the API keys and stores of one installation."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[V]):
    value: V | None = None
    read_at: float = -inf
    loading: asyncio.Task[V | None] | None = None
    loading_since: float = -inf


class TtlCache(Generic[K, V]):
    """Cache of loaded values. A value's age counts from before it was loaded, so `ttl_seconds` bounds staleness.

    Callers of one key share a load in progress, unless it began longer ago than the TTL; a cancelled caller does not
    cancel the load. None and errors are not cached. With `refresh_seconds` below the TTL, a value older than that is
    loaded again in the background while callers still get it.
    """

    def __init__(
        self, ttl_seconds: float, *, refresh_seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl = ttl_seconds
        self._refresh = ttl_seconds if refresh_seconds is None else refresh_seconds
        self._clock = clock
        self._entries: dict[K, _Entry[V]] = {}

    async def get(self, key: K, load: Callable[[], Coroutine[Any, Any, V | None]]) -> V | None:
        """Return the cached value, or the result of `load`. Raises the error of `load`."""
        entry = self._entries.get(key) or self._new_entry(key)
        now = self._clock()
        loading = entry.loading if now - entry.loading_since < self._ttl else None
        if loading is None and now - entry.read_at >= self._refresh:
            loading = entry.loading = asyncio.create_task(load())
            entry.loading_since = now
            loading.add_done_callback(lambda task: self._loaded(key, entry, task, now))
        if loading is None or now - entry.read_at < self._ttl:
            return entry.value
        return await asyncio.shield(loading)

    async def close(self) -> None:
        """Wait for the loads in progress."""
        loading = [entry.loading for entry in self._entries.values() if entry.loading is not None]
        if loading:
            await asyncio.wait(loading)

    def _new_entry(self, key: K) -> _Entry[V]:
        if len(self._entries) >= MOST_ENTRIES:
            now = self._clock()
            self._entries = {known: one for known, one in self._entries.items() if now - one.read_at < self._ttl}
            if len(self._entries) >= MOST_ENTRIES:
                self._entries.clear()
        entry = self._entries[key] = _Entry()
        return entry

    def _loaded(self, key: K, entry: _Entry[V], task: asyncio.Task[V | None], began: float) -> None:
        if entry.loading is task:
            entry.loading = None
        # exception() also marks an error as retrieved: after a background refresh, no caller waits for it.
        found = None if task.cancelled() or task.exception() is not None else task.result()
        if found is not None and began > entry.read_at:
            entry.value, entry.read_at = found, began
        elif entry.value is None and entry.loading is None and self._entries.get(key) is entry:
            del self._entries[key]
