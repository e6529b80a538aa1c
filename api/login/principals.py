"""JSON Web Tokens of the API; callers (credentials to principal) and existing stores, both cached for one second.

Tokens are short-lived (HS256), with several secrets for rotation.

The cache saves a query per emit; a revoked key, a changed right or a new password takes effect within that second.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import jwt
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import AuthenticationRequired, ExpiredToken, InvalidToken
from api.ttl_cache import TtlCache
from domain.access import Principal, store_code_problem
from storage.access.queries import digest, find_administrator, find_usable_key
from storage.access.stores import find_store
from storage.access.tables import Administrator, Store
from storage.database import Database

P = ParamSpec("P")
T = TypeVar("T")

STALE_SECONDS = 1.0
"""Maximum time for which a revoked key still works."""

LOOK_UP_SECONDS = 5.0
"""Timeout of a look-up. A look-up takes a millisecond, so the database hangs if it takes longer."""

MOST_KEY_CHARACTERS = 512
"""Maximum length of a key that is looked up. An issued key has 47 characters."""

ALGORITHM = "HS256"
REQUIRED_CLAIMS = ["sub", "iat", "exp", "pwd"]
OF_WRONG_CLAIMS = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)


class Tokens:
    """Issuer and verifier of tokens: signs with the first secret, verifies with any. `seconds` is the lifetime."""

    def __init__(self, secrets: Sequence[str], seconds: int) -> None:
        if not secrets:
            raise ValueError("JWT_SECRETS is empty: the API cannot sign tokens; set at least one secret")
        self._secrets = tuple(secrets)
        self._life = timedelta(seconds=seconds)

    def issue(self, administrator: Administrator, refresh_token: str, now: datetime | None = None) -> str:
        """Return a token of the administrator. A new password makes it invalid, and the end of `refresh_token`."""
        issued = now or datetime.now(UTC)
        claims = {
            "sub": str(administrator.id),
            "username": administrator.username,
            "pwd": administrator.password_version,
            "ref": digest(refresh_token).hex(),
            "iat": issued,
            "exp": issued + self._life,
        }
        return jwt.encode(claims, self._secrets[0], algorithm=ALGORITHM)

    def verify(self, token: str) -> tuple[UUID, int, bytes | None]:
        """Return administrator, password version and digest of the refresh token. Raises ExpiredToken or InvalidToken.

        The digest is None for a token of a version that did not issue it.
        """
        for secret in self._secrets:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token, secret, algorithms=[ALGORITHM], options={"require": REQUIRED_CLAIMS}
                )
                refresh_digest = bytes.fromhex(claims["ref"]) if "ref" in claims else None
                return UUID(claims["sub"]), int(claims["pwd"]), refresh_digest
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError as error:
                raise ExpiredToken from error
            except (jwt.InvalidTokenError, *OF_WRONG_CLAIMS) as error:
                raise InvalidToken from error
        raise InvalidToken


class Principals:
    """Cached look-ups of callers and stores."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens
        self._keys: TtlCache[bytes, Principal] = TtlCache(STALE_SECONDS)
        self._administrators: TtlCache[tuple[UUID, bytes | None], Administrator] = TtlCache(STALE_SECONDS)
        self._stores: TtlCache[str, Store] = TtlCache(STALE_SECONDS)

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
        id_, password_version, refresh_digest = self._tokens.verify(token)
        administrator = await self._administrators.get(
            (id_, refresh_digest),
            lambda: self.look_up(find_administrator, administrator_id=id_, refresh_digest=refresh_digest),
        )
        if administrator is None or not administrator.active or administrator.password_version != password_version:
            raise InvalidToken
        return administrator.principal

    async def store_exists(self, code: str) -> bool:
        """Return True if a store with this code exists. Accepts any text."""
        if store_code_problem(code) is not None:
            return False
        return await self._stores.get(code, lambda: self.look_up(find_store, code)) is not None

    async def _find_key(self, key: str) -> Principal | None:
        return await self.look_up(find_usable_key, key)

    async def look_up(
        self, query: Callable[Concatenate[AsyncConnection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run the first query of a request. Raises TimeoutError, which is a 503, while the database hangs."""

        async def found() -> T:
            async with asyncio.timeout(LOOK_UP_SECONDS), self._database.transaction() as connection:
                return await query(connection, *args, **kwargs)

        return await self._database.repeated(found)
