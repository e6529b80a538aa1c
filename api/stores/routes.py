"""Routes of stores, which administrators of the installation list and create, and of their settings."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field, WithJsonSchema

from api.access import FullAdmin, InstallationAdmin, StoreAdmin, SubscriptionRead
from api.body import Input, JsonBody, Output, checked_by
from api.errors import Conflict
from api.resources import FromResources
from api.stores.service import SettingsActions, SettingsChange, StoreSettings, Timezone
from domain.access import RESERVED_STORE_CODES, STORE_CODE, store_code_problem
from storage.access.administration import add_store
from storage.access.stores import list_stores as all_stores

NAME_MOST = 255

router = APIRouter(tags=["stores"])


_CODE_PATTERN = f"^(?!(?:{'|'.join(sorted(RESERVED_STORE_CODES))})$){STORE_CODE.pattern}$"
StoreCode = Annotated[
    str,
    checked_by("store_code", store_code_problem),
    WithJsonSchema({"type": "string", "pattern": _CODE_PATTERN, "maxLength": 63}),
]


class StoreCreate(Input):
    """A new store. Its code is part of every path and cannot change."""

    store_code: StoreCode
    name: Annotated[str, Field(min_length=1, max_length=NAME_MOST)] | None = None
    timezone: Timezone = "UTC"


class StoreCreated(Output):
    """The new store."""

    store_code: str


class StoreOut(Output):
    """A store in a list."""

    store_code: str
    name: str
    timezone: str


class StoreList(Output):
    """All stores the caller may enter, ordered by code."""

    items: list[StoreOut]


class SettingsAnswer(Output):
    """The settings in their wrapper."""

    settings: StoreSettings


class OperatorSecret(Output):
    """The signing key of operational webhooks, shown in this response only."""

    operator_secret: str


class SettingsChanged(SettingsAnswer):
    """The settings, and the signing key of operational webhooks if the change created it, shown only here."""

    operator_secret: str | None = None


CreateBody = Annotated[StoreCreate, Depends(JsonBody(StoreCreate, "store"))]
SettingsBody = Annotated[SettingsChange, Depends(JsonBody(SettingsChange, "settings"))]


@router.get("/api/admin/store", summary="List stores")
async def list_stores(admin: InstallationAdmin, resources: FromResources) -> StoreList:
    """Return the stores the caller may enter."""
    stores = [store for store in await resources.database.run(all_stores) if admin.may_enter(store.code)]
    return StoreList(items=[StoreOut(store_code=one.code, name=one.name, timezone=one.timezone) for one in stores])


@router.post("/api/admin/store", summary="Create a store", responses={409: {}})
async def create_store(admin: FullAdmin, body: CreateBody, resources: FromResources) -> StoreCreated:
    """Create a store. The caller must be allowed to enter every store. A code that is taken is a 409."""
    name = body.name or body.store_code
    if not await resources.database.run(add_store, admin.actor, body.store_code, name, body.timezone):
        raise Conflict(f"Store {body.store_code} exists already.")
    resources.schedule_sync.store_changed(body.store_code)
    return StoreCreated(store_code=body.store_code)


@router.get("/api/{storeCode}/settings", summary="Settings of the store")
async def get_settings(access: SubscriptionRead, resources: FromResources) -> SettingsAnswer:
    """Return the store's settings."""
    return SettingsAnswer(settings=await SettingsActions(resources, access.store_code, access.actor).read())


@router.patch("/api/{storeCode}/settings", summary="Change settings of the store", response_model_exclude_unset=True)
async def change_settings(access: StoreAdmin, body: SettingsBody, resources: FromResources) -> SettingsChanged:
    """Change the given settings and return all. A first `operatorUrl` creates its signing key, shown only here."""
    settings, secret = await SettingsActions(resources, access.store_code, access.actor).change(body)
    made = {} if secret is None else {"operator_secret": secret}
    return SettingsChanged(settings=settings, **made)


@router.post(
    "/api/{storeCode}/settings/rotate-operator-secret",
    summary="Rotate the key of operational webhooks",
    responses={409: {}},
)
async def rotate_operator_secret(access: StoreAdmin, resources: FromResources) -> OperatorSecret:
    """Create a new key, shown only here. The old key also signs for 24 hours. Without `operatorUrl`, a 409."""
    actions = SettingsActions(resources, access.store_code, access.actor)
    return OperatorSecret(operator_secret=await resources.database.run(actions.rotate_operator_secret))
