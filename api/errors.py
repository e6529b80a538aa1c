"""Errors of the API with their status, body and headers. The bodies follow section 1 of the wire contract."""

# ruff: noqa: N818 - the names describe the request's outcome

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

Row = TypeVar("Row")

UNAVAILABLE_RETRY_SECONDS = 1
"""Default Retry-After of a 503. A component that died is back within seconds."""


MOST_PROBLEMS = 20
"""Maximum number of errors or differences in a response. Nobody reads more, and a batch may have half a million."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One validation error of a request: dotted path below the body's wrapper, stable code, message for people."""

    path: str
    code: str
    message: str


class ApiError(Exception):
    """Error with an HTTP status, a message and headers."""

    status = 500
    message = ""
    headers: Mapping[str, str] = {}

    def __init__(self, message: str | None = None) -> None:
        self.message = self.message if message is None else message
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"code": self.status, "message": self.message}


class ValidationFailed(ApiError):
    """400 with the first MOST_PROBLEMS problems."""

    status = 400
    message = "Validation failed"

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__()
        self.problems = tuple(islice(problems, MOST_PROBLEMS))

    def body(self) -> dict[str, Any]:
        """Return the contract's body; `parameters` and `plural` exist for the platform's clients and are constant."""
        constant: dict[str, Any] = {"parameters": {}, "plural": None}
        return {
            **super().body(),
            "errors": [
                {"message": one.message, **constant, "code": one.code, "path": one.path} for one in self.problems
            ],
        }


def invalid(path: str, code: str, message: str) -> ValidationFailed:
    """Return a ValidationFailed with a single problem."""
    return ValidationFailed([Problem(path, code, message)])


class Unauthorised(ApiError):
    """401 with the authentication scheme, which RFC 9110 requires; browsers show no password dialog for this one."""

    status = 401
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class AuthenticationRequired(Unauthorised):
    """401 without credentials, or with a key that is unknown, expired or revoked."""

    message = "Authentication Required"

    def body(self) -> dict[str, Any]:
        """Return the body, the only one without a code."""
        return {"message": self.message}


class BadCredentials(Unauthorised):
    """401 for a wrong user name or password; the body does not disclose which."""

    message = "Invalid credentials."


class ExpiredToken(Unauthorised):
    """401 for an expired JWT of this service."""

    message = "Expired JWT Token"


class InvalidToken(Unauthorised):
    """401 for any other invalid JWT, and for a refresh token that does not work."""

    message = "Invalid JWT Token"


class Forbidden(ApiError):
    """403: the caller lacks the right."""

    status = 403
    message = "Forbidden."


class NotFound(ApiError):
    """404 for an unknown store or object, and for one in a store that the caller may not enter."""

    status = 404
    message = "Not Found"


def existing(row: Row | None) -> Row:
    """Return the row. Raises NotFound if there is none."""
    if row is None:
        raise NotFound
    return row


class Conflict(ApiError):
    """409: the request contradicts the stored state. `differences` are dotted paths, the first of them, or None."""

    status = 409

    def __init__(self, message: str, differences: Iterable[str] | None = None) -> None:
        super().__init__(message)
        self.differences = None if differences is None else list(islice(differences, MOST_PROBLEMS))

    def body(self) -> dict[str, Any]:
        """Return the body, with the differing paths if they are known."""
        return super().body() | ({} if self.differences is None else {"differences": self.differences})


class TooLarge(ApiError):
    """413: the body, or a part of it, exceeds a limit."""

    status = 413


class _RetryLater(ApiError):
    """Error with a Retry-After header."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(retry_after_seconds)}


class TooManyAttempts(_RetryLater):
    """429 after too many failed log-ins."""

    status = 429


class TooManyTests(_RetryLater):
    """429: the store has used its draft tests of this minute."""

    status = 429


class Unavailable(_RetryLater):
    """503: a component is down or a capacity limit is reached; the request had no partial effect."""

    status = 503

    def __init__(self, message: str, retry_after_seconds: int = UNAVAILABLE_RETRY_SECONDS) -> None:
        super().__init__(message, retry_after_seconds)
