"""Passwords: hashed with Argon2id, checked off the event loop, since one check costs tens of milliseconds of CPU."""

import asyncio
import secrets

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

MINIMUM_CHARACTERS = 12
MAXIMUM_CHARACTERS = 1024  # hashing takes time in proportion to the length
CHECKS_AT_ONCE = 2  # each takes 64 MiB; a flood of log-ins must not starve the rest of the process


class Passwords:
    """Hashes and checks. One per process: it bounds how many checks run at once."""

    def __init__(self) -> None:
        self._hash = PasswordHash((Argon2Hasher(),))
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """The hash to store."""
        async with self._turns:
            return await asyncio.to_thread(self._hash.hash, password)

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Whether the password fits, and a new hash to store when the parameters of hashing have changed.

        `stored` None: there is no such account; that takes as long as a wrong password, so the answer's time tells
        nobody which user names exist.
        """
        if len(password) > MAXIMUM_CHARACTERS:
            return False, None
        if self._nobodys is None:
            self._nobodys = await self.hash(secrets.token_urlsafe())
        async with self._turns:
            fits, renewed = await asyncio.to_thread(self._hash.verify_and_update, password, stored or self._nobodys)
        return (False, None) if stored is None else (fits, renewed)


def password_problem(password: str) -> str | None:
    """Why a password is not taken; None when it is."""
    if not MINIMUM_CHARACTERS <= len(password) <= MAXIMUM_CHARACTERS:
        return f"a password has {MINIMUM_CHARACTERS} to {MAXIMUM_CHARACTERS} characters"
    return None
