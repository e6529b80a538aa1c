"""Authorisation rules: scopes, roles, principals and store codes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

ALL_STORES = "*"
STORE_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Store codes are part of paths, workflow ids and search attributes, so they contain no separator of any of these."""
RESERVED_STORE_CODES = frozenset({"admin", "token"})
"""Store codes that would collide with the first path segment of a route below /api."""


class Scope(StrEnum):
    """A right of an administrator or an API key; `admin` includes all others."""

    EVENT_EMIT = "event:emit"
    SUBSCRIPTION_READ = "subscription:read"
    SUBSCRIPTION_WRITE = "subscription:write"
    DELIVERY_READ = "delivery:read"
    DELIVERY_ACT = "delivery:act"
    EXPIRY_WRITE = "expiry:write"
    ADMIN = "admin"


ROLES: Mapping[str, frozenset[Scope]] = {
    "viewer": frozenset({Scope.SUBSCRIPTION_READ, Scope.DELIVERY_READ}),
    "editor": frozenset(
        {Scope.SUBSCRIPTION_READ, Scope.SUBSCRIPTION_WRITE, Scope.DELIVERY_READ, Scope.DELIVERY_ACT, Scope.EXPIRY_WRITE}
    ),
    "admin": frozenset({Scope.ADMIN}),
}
"""Usual sets of scopes by name: read only, work with webhooks, everything."""


def role_of(scopes: frozenset[str]) -> str | None:
    """Return the name of the role with exactly these scopes, or None."""
    return next((name for name, held in ROLES.items() if held == scopes), None)


PrincipalKind = Literal["administrator", "api_key"]


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller: an administrator or an API key, with its scopes and the stores it may enter."""

    kind: PrincipalKind
    id: str
    name: str
    scopes: frozenset[str]
    stores: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """Return True if the principal holds the scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def may_enter(self, store_code: str) -> bool:
        """Return True if the store is one of the principal's; any other store is answered as if it did not exist."""
        return ALL_STORES in self.stores or store_code in self.stores

    @property
    def actor(self) -> str:
        """Name of the principal in the audit, such as `administrator:admin`."""
        return f"{self.kind}:{self.name}"


def store_code_problem(code: str) -> str | None:
    """Return the reason for which no store can have this code, or None if the code is allowed."""
    if STORE_CODE.fullmatch(code) is None:
        return "a store code is 1 to 63 letters, digits, hyphens and underscores, and starts with a letter or a digit"
    if code.lower() in RESERVED_STORE_CODES:
        return f"{code!r} is reserved; choose another code"
    return None
