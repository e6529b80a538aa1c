"""Callers (credentials to principal) and existing stores, both cached for one second.

The cache saves a query per emit; a revoked key, a changed right or a new password takes effect within that second.
"""

import asyncio
from functools import partial
from uuid import UUID

from api.errors import AuthenticationRequired, InvalidToken
from api.login.tokens import Tokens
from api.ttl_cache import TtlCache
from domain.access import Principal, store_code_problem
from storage.access.queries import AdministratorRow, digest, find_administrator, find_usable_key
from storage.database import Database
from storage.operations.stores import store_exists

STALE_SECONDS = 1.0  # how long a revoked key may still work
LOOK_UP_SECONDS = 5.0  # it takes a millisecond; whoever waits longer than this has a hung database
MOST_KEY_CHARACTERS = 512  # a key of ours has 47


class Principals:
    """Answers who is asking and whether a store exists."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens
        self._keys: TtlCache[bytes, Principal] = TtlCache(STALE_SECONDS)
        self._administrators: TtlCache[UUID, AdministratorRow] = TtlCache(STALE_SECONDS)
        self._stores: TtlCache[str, bool] = TtlCache(STALE_SECONDS)

    async def by_key(self, key: str) -> Principal:
        """Who an API key speaks for; raises AuthenticationRequired."""
        if not 0 < len(key) <= MOST_KEY_CHARACTERS:
            raise AuthenticationRequired
        principal = await self._keys.get(digest(key), partial(self._find_key, key))
        if principal is None:
            raise AuthenticationRequired
        return principal

    async def by_token(self, token: str) -> Principal:
        """Whose JWT this is; raises ExpiredToken or InvalidToken."""
        administrator_id, password_version = self._tokens.verify(token)
        administrator = await self._administrators.get(
            administrator_id, partial(self._find_administrator, administrator_id)
        )
        if administrator is None or not administrator.active or administrator.password_version != password_version:
            raise InvalidToken
        return administrator.principal

    async def store_exists(self, code: str) -> bool:
        """Whether there is a store of this code; whatever text is asked for."""
        if store_code_problem(code) is not None:
            return False
        return await self._stores.get(code, partial(self._find_store, code)) is not None

    async def _find_key(self, key: str) -> Principal | None:
        async with asyncio.timeout(LOOK_UP_SECONDS), self._database.transaction() as connection:
            return await find_usable_key(connection, key)

    async def _find_administrator(self, administrator_id: UUID) -> AdministratorRow | None:
        async with asyncio.timeout(LOOK_UP_SECONDS), self._database.transaction() as connection:
            return await find_administrator(connection, administrator_id=administrator_id)

    async def _find_store(self, code: str) -> bool | None:
        async with asyncio.timeout(LOOK_UP_SECONDS), self._database.transaction() as connection:
            return await store_exists(connection, code) or None
