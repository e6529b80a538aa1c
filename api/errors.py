"""Errors of the API with their status, body and headers.

    ApiError
    ├── ValidationFailed        400  invalid request; each error has a dotted path
    ├── Unauthorised            401
    │   ├── AuthenticationRequired   no credentials, or an unknown key
    │   ├── BadCredentials           wrong user name or password
    │   ├── ExpiredToken
    │   └── InvalidToken
    ├── Forbidden               403  the caller lacks the right
    ├── NotFound                404  no such store or object, or not visible to the caller
    ├── Conflict                409  the request contradicts the stored state
    ├── TooLarge                413
    ├── TooManyAttempts         429  log-in is throttled; with Retry-After
    ├── TooManyTests            429  draft tests are limited per minute; with Retry-After
    └── Unavailable             503  temporary failure of this service; with Retry-After

The bodies follow section 1 of the wire contract.
"""

# ruff: noqa: N818 - the names describe the request's outcome

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

UNAVAILABLE_RETRY_SECONDS = 1
"""Default Retry-After of a 503. A component that died is back within seconds."""


class FieldProblem(Protocol):
    """Interface of a validation error: `domain.events.catalogue.FieldError` and `Problem` implement it."""

    @property
    def path(self) -> str:
        """Dotted path, relative to the content of the body's wrapper."""

    @property
    def code(self) -> str:
        """Stable error code for programs."""

    @property
    def message(self) -> str:
        """Message for people."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One validation error of a request."""

    path: str
    code: str
    message: str


class ApiError(Exception):
    """Error with an HTTP status, a body and headers."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the response."""
        return {}

    def body(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"code": self.status, "message": self.message}


class ValidationFailed(ApiError):
    """400 with all problems found."""

    status = 400

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        super().__init__("Validation failed")
        self.problems = tuple(problems)

    def body(self) -> dict[str, Any]:
        """Return the contract's body; `parameters` and `plural` exist for the platform's clients and are constant."""
        errors: list[dict[str, Any]] = [
            {
                "message": problem.message,
                "parameters": {},
                "plural": None,
                "code": problem.code,
                "path": problem.path,
            }
            for problem in self.problems
        ]
        return {**super().body(), "errors": errors}


def invalid(path: str, code: str, message: str) -> ValidationFailed:
    """Return a ValidationFailed with a single problem."""
    return ValidationFailed([Problem(path, code, message)])


class Unauthorised(ApiError):
    """401 with the authentication scheme, which RFC 9110 requires."""

    status = 401

    @property
    def headers(self) -> Mapping[str, str]:
        """Authentication scheme `Bearer`, for which browsers show no password dialog."""
        return {"WWW-Authenticate": "Bearer"}


class AuthenticationRequired(Unauthorised):
    """401 without credentials, or with a key that is unknown, expired or revoked."""

    def __init__(self) -> None:
        super().__init__("Authentication Required")

    def body(self) -> dict[str, Any]:
        """Return the body, the only one without a code."""
        return {"message": self.message}


class BadCredentials(Unauthorised):
    """401 for a wrong user name or password; the body does not disclose which."""

    def __init__(self) -> None:
        super().__init__("Invalid credentials.")


class ExpiredToken(Unauthorised):
    """401 for an expired JWT of this service."""

    def __init__(self) -> None:
        super().__init__("Expired JWT Token")


class InvalidToken(Unauthorised):
    """401 for any other invalid JWT, and for a refresh token that does not work."""

    def __init__(self) -> None:
        super().__init__("Invalid JWT Token")


class Forbidden(ApiError):
    """403: the caller lacks the right."""

    status = 403

    def __init__(self) -> None:
        super().__init__("Forbidden.")


class NotFound(ApiError):
    """404 for an unknown store or object, and for one in a store that the caller may not enter."""

    status = 404

    def __init__(self) -> None:
        super().__init__("Not Found")


class Conflict(ApiError):
    """409: the request contradicts the stored state. `differences` are dotted paths, or None."""

    status = 409

    def __init__(self, message: str, differences: Iterable[str] | None = None) -> None:
        super().__init__(message)
        self.differences = None if differences is None else list(differences)

    def body(self) -> dict[str, Any]:
        """Return the body, with the differing paths if they are known."""
        body = super().body()
        return body if self.differences is None else {**body, "differences": self.differences}


class TooLarge(ApiError):
    """413: the body exceeds the limit."""

    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The body is larger than {limit_bytes:,} bytes.")


class _RetryLater(ApiError):
    """Error with a Retry-After header."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> Mapping[str, str]:
        """Retry-After in seconds."""
        return {"Retry-After": str(self.retry_after_seconds)}


class TooManyAttempts(_RetryLater):
    """429 after too many failed log-ins."""

    status = 429

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"Too many failed log-ins; try again in {retry_after_seconds} s.", retry_after_seconds)


class TooManyTests(_RetryLater):
    """429: the store has used its draft tests of this minute."""

    status = 429

    def __init__(self, most: int, retry_after_seconds: int) -> None:
        message = f"A store may send {most} tests a minute; try again in {retry_after_seconds} s."
        super().__init__(message, retry_after_seconds)


class Unavailable(_RetryLater):
    """503: a component is down or a capacity limit is reached; the request had no partial effect."""

    status = 503

    def __init__(self, message: str, retry_after_seconds: int = UNAVAILABLE_RETRY_SECONDS) -> None:
        super().__init__(message, retry_after_seconds)
