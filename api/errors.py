"""What the API refuses, and how it says so.

    ApiError
    ├── ValidationFailed        400  what was sent is wrong; each error has a dotted path
    ├── Unauthorised            401
    │   ├── AuthenticationRequired   no credentials, or an unknown key
    │   ├── BadCredentials           wrong user name or password
    │   ├── ExpiredToken
    │   └── InvalidToken
    ├── Forbidden               403  the right is missing
    ├── NotFound                404  no such thing here, or not for you
    ├── Conflict                409  it does not fit what is stored
    ├── TooLarge                413
    ├── TooManyAttempts         429  log-in is throttled; says when to come back
    ├── TooManyTests            429  tests of webhooks that are not saved are few a minute
    └── Unavailable             503  our own fault and passing; says when to come back

Bodies are those of the wire contract, section 1.
"""

# ruff: noqa: N818 - the names read as what happened to the request

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

UNAVAILABLE_RETRY_SECONDS = 1  # a component of ours that died is back within seconds


class FieldProblem(Protocol):
    """Anything that says where, what kind and what: `domain.events.catalogue.FieldError` and `Problem` do."""

    @property
    def path(self) -> str:
        """Dotted, relative to inside the body's wrapper."""

    @property
    def code(self) -> str:
        """A stable word."""

    @property
    def message(self) -> str:
        """For people."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with what was sent."""

    path: str
    code: str
    message: str


class ApiError(Exception):
    """A refusal with its status, body and headers."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer."""
        return {}

    def body(self) -> dict[str, Any]:
        """Body of the answer."""
        return {"code": self.status, "message": self.message}


class ValidationFailed(ApiError):
    """400 with every problem found."""

    status = 400

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        super().__init__("Validation failed")
        self.problems = tuple(problems)

    def body(self) -> dict[str, Any]:
        """The contract's form; `parameters` and `plural` are there for clients of the platform and say nothing here."""
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
    """A ValidationFailed with a single problem."""
    return ValidationFailed([Problem(path, code, message)])


class Unauthorised(ApiError):
    """401; RFC 9110 wants the scheme named."""

    status = 401

    @property
    def headers(self) -> Mapping[str, str]:
        """The scheme; `Bearer` makes no browser ask for a password."""
        return {"WWW-Authenticate": "Bearer"}


class AuthenticationRequired(Unauthorised):
    """No credentials, or a key that is unknown, expired or revoked."""

    def __init__(self) -> None:
        super().__init__("Authentication Required")

    def body(self) -> dict[str, Any]:
        """The one body without a code."""
        return {"message": self.message}


class BadCredentials(Unauthorised):
    """Wrong user name or password, or a refresh token that does not work; which of them is not said."""

    def __init__(self) -> None:
        super().__init__("Invalid credentials.")


class ExpiredToken(Unauthorised):
    """A JWT of ours whose time is over."""

    def __init__(self) -> None:
        super().__init__("Expired JWT Token")


class InvalidToken(Unauthorised):
    """Anything else that came as a JWT."""

    def __init__(self) -> None:
        super().__init__("Invalid JWT Token")


class Forbidden(ApiError):
    """The right is missing."""

    status = 403

    def __init__(self) -> None:
        super().__init__("Forbidden.")


class NotFound(ApiError):
    """No such store or object, or one of a store that is not yours."""

    status = 404

    def __init__(self) -> None:
        super().__init__("Not Found")


class Conflict(ApiError):
    """What is asked for contradicts what is stored. `differences` are dotted paths, where there are any."""

    status = 409

    def __init__(self, message: str, differences: Iterable[str] | None = None) -> None:
        super().__init__(message)
        self.differences = None if differences is None else list(differences)

    def body(self) -> dict[str, Any]:
        """With the differing paths where they are known."""
        body = super().body()
        return body if self.differences is None else {**body, "differences": self.differences}


class TooLarge(ApiError):
    """The body has more bytes than the limit."""

    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The body is larger than {limit_bytes:,} bytes.")


class _ComeBack(ApiError):
    """A refusal that says when to try again."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> Mapping[str, str]:
        """When to come back."""
        return {"Retry-After": str(self.retry_after_seconds)}


class TooManyAttempts(_ComeBack):
    """Too many failed log-ins."""

    status = 429

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"Too many failed log-ins; try again in {retry_after_seconds} s.", retry_after_seconds)


class TooManyTests(_ComeBack):
    """A store has sent its share of tests of what is not saved."""

    status = 429

    def __init__(self, most: int, retry_after_seconds: int) -> None:
        message = f"A store may send {most} tests a minute; try again in {retry_after_seconds} s."
        super().__init__(message, retry_after_seconds)


class Unavailable(_ComeBack):
    """A component of ours is down, or a limit of ours is reached; nothing was half accepted."""

    status = 503

    def __init__(self, message: str, retry_after_seconds: int = UNAVAILABLE_RETRY_SECONDS) -> None:
        super().__init__(message, retry_after_seconds)
