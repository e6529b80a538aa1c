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
from storage.access.queries import digest, find_administrator, find_usable_key
from storage.access.stores import store_exists
from storage.access.tables import Administrator
from storage.database import Database

STALE_SECONDS = 1.0
"""Maximum time for which a revoked key still works."""

LOOK_UP_SECONDS = 5.0
"""Timeout of a look-up. A look-up takes a millisecond, so the database hangs if it takes longer."""

MOST_KEY_CHARACTERS = 512
"""Maximum length of a key that is looked up. An issued key has 47 characters."""


class Principals:
    """Cached look-ups of callers and stores."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens
        self._keys: TtlCache[bytes, Principal] = TtlCache(STALE_SECONDS)
        self._administrators: TtlCache[UUID, Administrator] = TtlCache(STALE_SECONDS)
        self._stores: TtlCache[str, bool] = TtlCache(STALE_SECONDS)

    async def by_key(self, key: str) -> Principal:
        """Return the principal of an API key. Raises AuthenticationRequired."""
        if not 0 < len(key) <= MOST_KEY_CHARACTERS:
            raise AuthenticationRequired
        principal = await self._keys.get(digest(key), partial(self._find_key, key))
        if principal is None:
            raise AuthenticationRequired
        return principal

    async def by_token(self, token: str) -> Principal:
        """Return the principal of a JWT. Raises ExpiredToken or InvalidToken."""
        administrator_id, password_version = self._tokens.verify(token)
        administrator = await self._administrators.get(
            administrator_id, partial(self._find_administrator, administrator_id)
        )
        if administrator is None or not administrator.active or administrator.password_version != password_version:
            raise InvalidToken
        return administrator.principal

    async def store_exists(self, code: str) -> bool:
        """Return True if a store with this code exists. Accepts any text."""
        if store_code_problem(code) is not None:
            return False
        return await self._stores.get(code, partial(self._find_store, code)) is not None

    async def _find_key(self, key: str) -> Principal | None:
        async with asyncio.timeout(LOOK_UP_SECONDS), self._database.transaction() as connection:
            return await find_usable_key(connection, key)

    async def _find_administrator(self, administrator_id: UUID) -> Administrator | None:
        async with asyncio.timeout(LOOK_UP_SECONDS), self._database.transaction() as connection:
            return await find_administrator(connection, administrator_id=administrator_id)

    async def _find_store(self, code: str) -> bool | None:
        async with asyncio.timeout(LOOK_UP_SECONDS), self._database.transaction() as connection:
            return await store_exists(connection, code) or None
