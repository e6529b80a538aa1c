"""Rights as dependencies: a handler that takes a `SubscriptionRead` runs only for those who hold that right.

Order of refusals everywhere: 401, 404 of the store, 403, 404 of the object, 400. Parameters are resolved in the order
in which a handler lists them, so a right comes first, then what finds the object, then the body or the query.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from api.errors import AuthenticationRequired, Forbidden, NotFound
from api.resources import FromResources
from domain.access import ALL_STORES, STORE_CODE, Principal, Scope


async def authenticated(request: Request, resources: FromResources) -> Principal:
    """Who is asking, by `Authorization: Bearer` or else by `X-AUTH-TOKEN`; raises one of the 401s.

    An `Authorization` that is there decides, whatever stands beside it: a wrong credential is never passed over.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationRequired
        return await resources.principals.by_token(token.strip())
    key = request.headers.get("x-auth-token")
    if key is None:
        raise AuthenticationRequired
    return await resources.principals.by_key(key)


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
    """A store that exists, and somebody who holds the right in it."""

    store_code: str
    principal: Principal

    @property
    def actor(self) -> str:
        """Who, as the audit names it."""
        return self.principal.actor


@dataclass(frozen=True, slots=True)
class StoreRight:
    """The right to do something in the store of the path."""

    scope: Scope
    refuses = (401, 403, 404, 503)

    async def __call__(
        self, store_code: StoreCodePath, principal: Authenticated, resources: FromResources
    ) -> StoreAccess:
        """Refuses with 401, 404 and 403, in this order."""
        if not principal.may_enter(store_code) or not await resources.principals.store_exists(store_code):
            raise NotFound
        if not principal.may(self.scope):
            raise Forbidden
        return StoreAccess(store_code, principal)


@dataclass(frozen=True, slots=True)
class InstallationRight:
    """The right to do something beyond one store; `everywhere`: only for those who may enter every store."""

    scope: Scope
    everywhere: bool = False
    refuses = (401, 403, 503)

    async def __call__(self, principal: Authenticated) -> Principal:
        """Refuses with 401 and 403, in this order."""
        if not principal.may(self.scope) or (self.everywhere and ALL_STORES not in principal.stores):
            raise Forbidden
        return principal


SubscriptionRead = Annotated[StoreAccess, Depends(StoreRight(Scope.SUBSCRIPTION_READ))]
SubscriptionWrite = Annotated[StoreAccess, Depends(StoreRight(Scope.SUBSCRIPTION_WRITE))]
DeliveryRead = Annotated[StoreAccess, Depends(StoreRight(Scope.DELIVERY_READ))]
DeliveryAction = Annotated[StoreAccess, Depends(StoreRight(Scope.DELIVERY_ACT))]
ExpiryWrite = Annotated[StoreAccess, Depends(StoreRight(Scope.EXPIRY_WRITE))]
StoreAdmin = Annotated[StoreAccess, Depends(StoreRight(Scope.ADMIN))]
InstallationAdmin = Annotated[Principal, Depends(InstallationRight(Scope.ADMIN))]
FullAdmin = Annotated[Principal, Depends(InstallationRight(Scope.ADMIN, everywhere=True))]
