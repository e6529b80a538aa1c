"""Passwords: hashed with Argon2id and checked in a thread, because a check costs tens of milliseconds of CPU."""

import asyncio
import secrets

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

MINIMUM_CHARACTERS = 12
MAXIMUM_CHARACTERS = 1024
"""Maximum length of a password. The cost of hashing grows with the length."""

CHECKS_AT_ONCE = 2
"""Maximum number of concurrent checks. Each takes 64 MiB, and a flood of log-ins must not starve the process."""


class Passwords:
    """Password hashing with a limit on concurrent checks; one instance per process."""

    def __init__(self) -> None:
        self._hash = PasswordHash((Argon2Hasher(),))
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._decoy_hash: str | None = None

    async def hash(self, password: str) -> str:
        async with self._checks:
            return await asyncio.to_thread(self._hash.hash, password)

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Return True if the password matches, and a new hash to store if the hashing parameters have changed.

        `stored` None: there is no such account. The check takes as long as for a wrong password, so that the response
        time does not reveal which user names exist.
        """
        if len(password) > MAXIMUM_CHARACTERS:
            return False, None
        if self._decoy_hash is None:
            self._decoy_hash = await self.hash(secrets.token_urlsafe())
        async with self._checks:
            fits, renewed = await asyncio.to_thread(self._hash.verify_and_update, password, stored or self._decoy_hash)
        return (False, None) if stored is None else (fits, renewed)


def password_problem(password: str) -> str | None:
    """Return the reason to refuse a password, or None if it is acceptable."""
    if not MINIMUM_CHARACTERS <= len(password) <= MAXIMUM_CHARACTERS:
        return f"a password has {MINIMUM_CHARACTERS} to {MAXIMUM_CHARACTERS} characters"
    return None
