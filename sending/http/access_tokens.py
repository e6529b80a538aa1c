"""Cache of access tokens (OAuth 2)."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from domain.wire.oauth2 import AccessToken, OAuth2Client

TOKENS_MAX = 4096
"""Maximum number of cached tokens."""


class AccessTokens:
    """TTL cache over `fetch`. Concurrent requests of a client share one fetch (single flight). Build it inside the
    running event loop."""

    def __init__(self, fetch: Callable[[OAuth2Client], Awaitable[AccessToken]]) -> None:
        self._fetch = fetch
        self._loop = asyncio.get_running_loop()
        self._known: dict[OAuth2Client, tuple[float, str]] = {}
        """End of the time to live (loop clock), and the token."""
        self._fetches: dict[OAuth2Client, asyncio.Task[str]] = {}

    async def get(self, client: OAuth2Client, *, refused: str | None = None) -> str:
        """Return a token of the client, but not the `refused` one. Raises what `fetch` raises."""
        until, token = self._known.get(client, (0.0, ""))
        if token != refused and self._loop.time() < until:
            return token
        task = self._fetches.get(client)
        if task is None:
            task = self._fetches[client] = asyncio.create_task(self._fetched(client))
            task.add_done_callback(partial(self._end, client))
        return await asyncio.shield(task)  # a cancelled caller leaves the others their token

    async def _fetched(self, client: OAuth2Client) -> str:
        self._known.pop(client, None)
        token = await self._fetch(client)
        if len(self._known) >= TOKENS_MAX:
            self._known.clear()
        self._known[client] = (self._loop.time() + token.use_seconds, token.value)
        return token.value

    def _end(self, client: OAuth2Client, task: asyncio.Task[str]) -> None:
        del self._fetches[client]
        if not task.cancelled():
            task.exception()  # marks the error as seen, because no caller may be left
