"""Encryption at rest (Fernet: AES-128-CBC with HMAC-SHA-256).

Encrypted are header values, authentications, signing keys and event secrets.
"""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealBrokenError(Exception):
    """A stored value was sealed with a key that is not in ENCRYPTION_KEYS."""


class Sealer:
    """Encryption with the first key, decryption with any. Keys are 32 bytes in URL-safe base64."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._first = Fernet(keys[0])
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, text: str) -> bytes:
        """Encrypt a text."""
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """Decrypt a ciphertext; raises `SealBrokenError`."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise SealBrokenError("sealed with a key that is not in ENCRYPTION_KEYS") from error

    def is_current(self, sealed: bytes) -> bool:
        """Return True if it is sealed with the first key. A ciphertext does not name its key, so this decrypts it."""
        try:
            self._first.decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def reseal(self, sealed: bytes) -> bytes:
        """Encrypt the same text again, with the first key; raises `SealBrokenError`."""
        try:
            return self._fernet.rotate(sealed)
        except InvalidToken as error:
            raise SealBrokenError("sealed with a key that is not in ENCRYPTION_KEYS") from error
