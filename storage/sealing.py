"""Encryption at rest of header values, signing keys and event secrets (Fernet: AES-128-CBC with HMAC-SHA-256)."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealBrokenError(Exception):
    """What is stored cannot be decrypted with the keys at hand: ENCRYPTION_KEYS lacks the key it was sealed with."""


class Sealer:
    """Seals with the first key, opens with any. Keys are 32 bytes in URL-safe base64."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._first = Fernet(keys[0])
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, text: str) -> bytes:
        """Text -> ciphertext."""
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """Ciphertext -> text; raises `SealBrokenError`."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise SealBrokenError("sealed with a key that is not in ENCRYPTION_KEYS") from error

    def is_current(self, sealed: bytes) -> bool:
        """Whether it is sealed with the first key; nothing in a ciphertext names its key, so this opens it."""
        try:
            self._first.decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def reseal(self, sealed: bytes) -> bytes:
        """The same text, sealed with the first key."""
        try:
            return self._fernet.rotate(sealed)
        except InvalidToken as error:
            raise SealBrokenError("sealed with a key that is not in ENCRYPTION_KEYS") from error
