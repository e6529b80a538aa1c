"""JSON Web Tokens of the API: short-lived, HS256, with several secrets for rotation."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt

from api.errors import ExpiredToken, InvalidToken

ALGORITHM = "HS256"
REQUIRED_CLAIMS = ["sub", "iat", "exp", "pwd"]


class Tokens:
    """Issuer and verifier of tokens: signs with the first secret, verifies with any. `seconds` is the lifetime."""

    def __init__(self, secrets: Sequence[str], seconds: int) -> None:
        if not secrets:
            raise ValueError("JWT_SECRETS is empty: the API cannot sign tokens; set at least one secret")
        self._secrets = tuple(secrets)
        self._life = timedelta(seconds=seconds)

    def issue(self, administrator_id: UUID, username: str, password_version: int, now: datetime | None = None) -> str:
        """Return a token of the administrator. It becomes invalid when the account's `password_version` changes."""
        issued = now or datetime.now(UTC)
        claims = {
            "sub": str(administrator_id),
            "username": username,
            "pwd": password_version,
            "iat": issued,
            "exp": issued + self._life,
        }
        return jwt.encode(claims, self._secrets[0], algorithm=ALGORITHM)

    def verify(self, token: str) -> tuple[UUID, int]:
        """Return the administrator and password version of a token. Raises ExpiredToken or InvalidToken."""
        for secret in self._secrets:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token, secret, algorithms=[ALGORITHM], options={"require": REQUIRED_CLAIMS}
                )
                return UUID(claims["sub"]), int(claims["pwd"])
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError as error:
                raise ExpiredToken from error
            except (
                jwt.InvalidTokenError,
                ValueError,
                TypeError,
                AttributeError,
                OverflowError,
                RecursionError,
            ) as error:
                raise InvalidToken from error
        raise InvalidToken
