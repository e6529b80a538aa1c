"""Rights as FastAPI dependencies: a handler that takes a `SubscriptionRead` runs only for callers with that right.

Every route refuses in the order 401, 404 of the store, 403, 404 of the object, 400. FastAPI resolves parameters in the
order in which a handler lists them, so list the right first, then the object, then the body or the query. The emit of
one event calls its right itself, in the same order.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from api.errors import AuthenticationRequired, Forbidden, NotFound
from api.resources import resources_of
from domain.access import ALL_STORES, STORE_CODE, Principal, Scope


async def authenticated(request: Request) -> Principal:
    """Return the caller, from `Authorization: Bearer` or else from `X-AUTH-TOKEN`. Raises a subclass of Unauthorised.

    An `Authorization` header takes precedence: an invalid credential in it is never ignored in favour of the other.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationRequired
        return await resources_of(request).principals.by_token(token.strip())
    key = request.headers.get("x-auth-token")
    if key is None:
        raise AuthenticationRequired
    return await resources_of(request).principals.by_key(key)


Authenticated = Annotated[Principal, Depends(authenticated)]

StoreCodePath = Annotated[
    str,
    Path(
        alias="storeCode",
        description="Code of the store.",
        json_schema_extra={"pattern": f"^{STORE_CODE.pattern}$", "examples": ["default"]},
    ),
]


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """An existing store and a caller who holds the right in it."""

    store_code: str
    principal: Principal

    @property
    def actor(self) -> str:
        """Name of the caller in the audit log."""
        return self.principal.actor


@dataclass(frozen=True, slots=True)
class StoreRight:
    """Dependency that requires a right in the store of the path."""

    scope: Scope
    refuses = (401, 403, 404, 503)

    async def __call__(self, request: Request, store_code: StoreCodePath, principal: Authenticated) -> StoreAccess:
        """Return the access, or refuse with 401, 404 or 403, in this order."""
        return await self.grant(request, store_code, principal)

    async def grant(self, request: Request, store_code: str, principal: Principal) -> StoreAccess:
        """Return the caller's access to the store. Raises NotFound or Forbidden."""
        known = resources_of(request).principals
        if not principal.may_enter(store_code) or not await known.store_exists(store_code):
            raise NotFound
        if not principal.may(self.scope):
            raise Forbidden
        return StoreAccess(store_code, principal)


@dataclass(frozen=True, slots=True)
class InstallationRight:
    """Dependency that requires a right on the installation; with `everywhere`, in all of its stores."""

    scope: Scope
    everywhere: bool = False
    refuses = (401, 403, 503)

    async def __call__(self, principal: Authenticated) -> Principal:
        """Return the caller, or refuse with 401 or 403, in this order."""
        if not principal.may(self.scope) or (self.everywhere and ALL_STORES not in principal.stores):
            raise Forbidden
        return principal


SubscriptionRead = Annotated[StoreAccess, Depends(StoreRight(Scope.SUBSCRIPTION_READ))]
SubscriptionWrite = Annotated[StoreAccess, Depends(StoreRight(Scope.SUBSCRIPTION_WRITE))]
DeliveryRead = Annotated[StoreAccess, Depends(StoreRight(Scope.DELIVERY_READ))]
ExpiryWrite = Annotated[StoreAccess, Depends(StoreRight(Scope.EXPIRY_WRITE))]
StoreAdmin = Annotated[StoreAccess, Depends(StoreRight(Scope.ADMIN))]
InstallationAdmin = Annotated[Principal, Depends(InstallationRight(Scope.ADMIN))]
FullAdmin = Annotated[Principal, Depends(InstallationRight(Scope.ADMIN, everywhere=True))]
