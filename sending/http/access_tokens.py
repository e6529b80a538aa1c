"""Cache of access tokens (OAuth 2)."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from domain.wire.oauth2 import AccessToken, OAuth2Client

TOKENS_MAX = 4096
"""Maximum number of cached tokens."""

ANOTHER_SECONDS = 30.0
"""Minimum time between two tokens that are fetched because of a 401. A receiver that always answers 401 would have one
fetched for each attempt, and take the token from the client's other subscriptions."""


class AccessTokens:
    """TTL cache over `fetch`. Concurrent requests of a client share one fetch (single flight). Build it inside the
    running event loop."""

    def __init__(self, fetch: Callable[[OAuth2Client], Awaitable[AccessToken]]) -> None:
        self._fetch = fetch
        self._loop = asyncio.get_running_loop()
        self._known: dict[OAuth2Client, tuple[float, str]] = {}
        """End of the time to live (loop clock), and the token."""
        self._another_from: dict[OAuth2Client, float] = {}
        """Instant (loop clock) from which a 401 may fetch a token again."""
        self._fetches: dict[OAuth2Client, asyncio.Task[str]] = {}

    async def get(self, client: OAuth2Client) -> str:
        """Return a token of the client. Raises what `fetch` raises."""
        return self._valid(client) or await self._shared_fetch(client)

    async def another(self, client: OAuth2Client, refused: str | None) -> str | None:
        """Return a token of the client other than the one that a receiver refused, or None if a token was fetched
        because of a 401 less than ANOTHER_SECONDS ago. Raises what `fetch` raises."""
        token, now = self._valid(client), self._loop.time()
        if token is not None and token != refused:
            return token
        if client not in self._fetches and now < self._another_from.get(client, now):
            return None
        return await self._shared_fetch(client, after_401=True)

    def _valid(self, client: OAuth2Client) -> str | None:
        until, token = self._known.get(client, (0.0, ""))
        return token if self._loop.time() < until else None

    async def _shared_fetch(self, client: OAuth2Client, *, after_401: bool = False) -> str:
        task = self._fetches.get(client)
        if task is None:
            task = self._fetches[client] = asyncio.create_task(self._fetched(client, after_401))
            task.add_done_callback(partial(self._end, client))
        return await asyncio.shield(task)  # a cancelled caller leaves the others their token

    async def _fetched(self, client: OAuth2Client, after_401: bool) -> str:
        token = await self._fetch(client)
        for cache in (self._known, self._another_from):
            if len(cache) >= TOKENS_MAX and client not in cache:
                cache.clear()
        now = self._loop.time()
        self._known[client] = (now + token.use_seconds, token.value)
        if after_401:
            self._another_from[client] = now + ANOTHER_SECONDS
        return token.value

    def _end(self, client: OAuth2Client, task: asyncio.Task[str]) -> None:
        del self._fetches[client]
        if not task.cancelled():
            task.exception()  # marks the error as seen, because no caller may be left
