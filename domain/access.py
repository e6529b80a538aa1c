"""Who may do what: scopes, principals and the names of stores."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

ALL_STORES = "*"
STORE_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""It stands in paths, workflow ids and search attributes: no separator of any of these."""
RESERVED_STORE_CODES = frozenset({"admin", "token"})
"""First steps of paths below /api which no store may take."""


class Scope(StrEnum):
    """A right that an administrator or an API key may hold; `admin` contains all others."""

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
        {
            Scope.SUBSCRIPTION_READ,
            Scope.SUBSCRIPTION_WRITE,
            Scope.DELIVERY_READ,
            Scope.DELIVERY_ACT,
            Scope.EXPIRY_WRITE,
        }
    ),
    "admin": frozenset({Scope.ADMIN}),
}
"""What people are usually given, by name: who looks, who works with webhooks, who may do everything."""


def role_of(scopes: frozenset[str]) -> str | None:
    """Name of the role that has exactly these scopes; None where none has."""
    return next((name for name, held in ROLES.items() if held == scopes), None)


PrincipalKind = Literal["administrator", "api_key"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: an administrator or an API key, with its scopes and the stores it may enter."""

    kind: PrincipalKind
    id: str
    name: str
    scopes: frozenset[str]
    stores: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """Whether it holds the right."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def may_enter(self, store_code: str) -> bool:
        """Whether the store is one of its own; to all others it gets the answer of a store that does not exist."""
        return ALL_STORES in self.stores or store_code in self.stores

    @property
    def actor(self) -> str:
        """How the audit names it, such as `administrator:admin`."""
        return f"{self.kind}:{self.name}"


def store_code_problem(code: str) -> str | None:
    """Why no store can have this code; None when one can."""
    if STORE_CODE.fullmatch(code) is None:
        return "a store code is 1 to 63 letters, digits, hyphens and underscores, and starts with a letter or a digit"
    if code.lower() in RESERVED_STORE_CODES:
        return f"{code!r} is reserved; choose another code"
    return None
