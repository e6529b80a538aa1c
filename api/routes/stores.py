"""Stores: listed and created by administrators of the installation, each with its settings."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.access import FullAdmin, InstallationAdmin, StoreAdmin, SubscriptionRead
from api.body import WHOLE, Input, JsonBody, Output
from api.errors import Conflict, NotFound, invalid
from api.resources import FromResources, Resources
from domain.access import RESERVED_STORE_CODES, STORE_CODE, store_code_problem
from domain.expiry import Kind
from domain.timestamps import timezone_names
from domain.url_rules import URL_MAX_CHARACTERS, UrlRefused
from storage.administration import STORE, add_store
from storage.audit import changed, record
from storage.operators import operator_url, rotate_operator_key, set_operator_url
from storage.stores import StoreRow, find_store, list_stores, update_store

DAYS_MOST = 365  # a notice a year ahead
NAME_MOST = 255
RETENTION_MOST = 3650

router = APIRouter(tags=["stores"])


def _check_code(code: str) -> str:
    problem = store_code_problem(code)
    if problem is not None:
        raise PydanticCustomError("store_code", "{message}", {"message": problem})
    return code


def _check_timezone(name: str) -> str:
    if name not in timezone_names():
        raise PydanticCustomError("timezone", "is not an IANA time zone, such as Europe/Warsaw")
    return name


def _check_distinct(kinds: list[str]) -> list[str]:
    if len(set(kinds)) < len(kinds):
        raise PydanticCustomError("not_distinct", "names a kind twice")
    return kinds


_CODE_PATTERN = f"^(?!(?:{'|'.join(sorted(RESERVED_STORE_CODES))})$){STORE_CODE.pattern}$"
StoreCode = Annotated[
    str, AfterValidator(_check_code), WithJsonSchema({"type": "string", "pattern": _CODE_PATTERN, "maxLength": 63})
]
Timezone = Annotated[
    str, AfterValidator(_check_timezone), WithJsonSchema({"type": "string", "enum": sorted(timezone_names())})
]
Days = Annotated[int, Field(ge=0, le=DAYS_MOST), WHOLE]
RetentionDays = Annotated[
    int,
    Field(
        ge=1,
        le=RETENTION_MOST,
        description="Days for which bodies, deliveries and attempts are kept; null: as the installation's settings "
        "say.",
    ),
    WHOLE,
]
RetentionExhaustedDays = Annotated[
    int,
    Field(
        ge=1,
        le=RETENTION_MOST,
        description="The same of events of which a delivery is exhausted or still open; null: as the installation's "
        "settings say.",
    ),
    WHOLE,
]
OperatorUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_MAX_CHARACTERS,
        description="Where operational webhooks go (docs/operator-notices.md); null: nowhere. The rules are those of a "
        "subscription's URL.",
        examples=["https://operator.example.com/webhooks"],
        json_schema_extra={"format": "uri"},
    ),
]


KindName = Literal["points", "levels", "coupons"]
ExpiryKinds = Annotated[
    list[KindName],
    AfterValidator(_check_distinct),
    Field(
        max_length=len(Kind),
        description="Kinds whose expiry rows are also kept from this store's events (docs/expiring.md).",
        json_schema_extra={"uniqueItems": True},
    ),
]


class StoreCreate(Input):
    """A new store. Its code stands in every path and cannot change."""

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
    """All stores the caller may enter, by code."""

    items: list[StoreOut]


def _no_defaults(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)


class SettingsChange(Input):
    """New settings; what is left out stays as it was."""

    model_config = ConfigDict(json_schema_extra=_no_defaults)

    expire_points_notification_days: Days = 10
    expire_levels_notification_days: Days = 10
    expire_coupons_notification_days: Days = 10
    timezone: Timezone = "UTC"
    operator_url: OperatorUrl | None = None
    expiry_kinds_from_events: ExpiryKinds = Field(default_factory=list)
    retention_days: RetentionDays | None = None
    retention_exhausted_days: RetentionExhaustedDays | None = None


class StoreSettings(Output):
    """Days ahead of which notices are given, the time zone that days are reckoned in, where operators are told, and how
    long the log stays."""

    expire_points_notification_days: int
    expire_levels_notification_days: int
    expire_coupons_notification_days: int
    timezone: str
    operator_url: str | None
    expiry_kinds_from_events: list[KindName]
    retention_days: int | None
    retention_exhausted_days: int | None


class SettingsAnswer(Output):
    """The settings, in their wrapper."""

    settings: StoreSettings


class OperatorSecret(Output):
    """The key that signs operational webhooks, shown in this answer only."""

    operator_secret: str


class SettingsChanged(SettingsAnswer):
    """The settings, and beside them the key of operational webhooks when the change made one: shown only here."""

    operator_secret: str | None = None


CreateBody = Annotated[StoreCreate, Depends(JsonBody(StoreCreate, "store"))]
SettingsBody = Annotated[SettingsChange, Depends(JsonBody(SettingsChange, "settings"))]


def _settings(store: StoreRow, operator_url: str | None) -> dict[str, Any]:
    columns = {name: getattr(store, name) for name in StoreSettings.model_fields if name != "operator_url"}
    return {**columns, "operator_url": operator_url}


async def _with_checked_url(given: dict[str, Any], resources: Resources) -> dict[str, Any]:
    """What was given, with the operator's URL in its normal form; raises ValidationFailed."""
    if given.get("operator_url") is None:
        return given
    try:
        checked = await resources.url_check.check(given["operator_url"])
    except UrlRefused as refused:
        raise invalid("operatorUrl", refused.code, refused.message) from refused
    return {**given, "operator_url": checked.url.url}


@router.get("/api/admin/store", summary="List stores")
async def list_(admin: InstallationAdmin, resources: FromResources) -> StoreList:
    """The stores the caller may enter."""
    async with resources.database.transaction() as connection:
        stores = await list_stores(connection)
    items = [
        StoreOut(store_code=store.code, name=store.name, timezone=store.timezone)
        for store in stores
        if admin.may_enter(store.code)
    ]
    return StoreList(items=items)


@router.post("/api/admin/store", summary="Create a store", responses={409: {}})
async def create(admin: FullAdmin, body: CreateBody, resources: FromResources) -> StoreCreated:
    """Only for those who may enter every store. A code that is taken is a 409."""
    name = body.name or body.store_code
    async with resources.database.transaction() as connection:
        if not await add_store(connection, admin.actor, body.store_code, name, body.timezone):
            raise Conflict(f"There is a store {body.store_code} already.")
    resources.schedule_sync.store_changed(body.store_code)
    return StoreCreated(store_code=body.store_code)


@router.get("/api/{storeCode}/settings", summary="Settings of the store")
async def read_settings(access: SubscriptionRead, resources: FromResources) -> SettingsAnswer:
    """The store's settings."""
    async with resources.database.transaction() as connection:
        store = await find_store(connection, access.store_code)
        url = await operator_url(connection, access.store_code)
    if store is None:
        raise NotFound
    return SettingsAnswer(settings=StoreSettings(**_settings(store, url)))


@router.patch("/api/{storeCode}/settings", summary="Change settings of the store", response_model_exclude_unset=True)
async def change_settings(access: StoreAdmin, body: SettingsBody, resources: FromResources) -> SettingsChanged:
    """What is given is changed; answers all settings. A first `operatorUrl` brings its signing key, shown only here."""
    given = await _with_checked_url(body.model_dump(exclude_unset=True), resources)
    made: dict[str, str] = {}
    async with resources.database.transaction() as connection:
        store = await find_store(connection, access.store_code, lock=True)
        if store is None:
            raise NotFound
        before = _settings(store, await operator_url(connection, access.store_code))
        await update_store(connection, access.store_code, {k: v for k, v in given.items() if k != "operator_url"})
        if "operator_url" in given:
            url = given["operator_url"]
            secret = await set_operator_url(connection, access.store_code, url, resources.sealer)
            made = {"operator_secret": secret} if secret is not None else {}
        await record(
            connection,
            actor=access.actor,
            action="change_settings",
            object_type=STORE,
            object_id=access.store_code,
            store_code=access.store_code,
            changes=changed(before, given),
        )
    if given.get("timezone", before["timezone"]) != before["timezone"]:
        resources.schedule_sync.store_changed(access.store_code)
    return SettingsChanged(settings=StoreSettings(**{**before, **given}), **made)


@router.post(
    "/api/{storeCode}/settings/rotate-operator-secret",
    summary="Rotate the key of operational webhooks",
    responses={409: {}},
)
async def rotate_operator_secret(access: StoreAdmin, resources: FromResources) -> OperatorSecret:
    """A new key, shown only here; the one before signs beside it for 24 hours. Without `operatorUrl` a 409."""
    async with resources.database.transaction() as connection:
        secret = await rotate_operator_key(connection, access.store_code, resources.sealer)
        if secret is None:
            raise Conflict("The store has no operatorUrl, so there is no key to rotate; set operatorUrl first.")
        await record(
            connection,
            actor=access.actor,
            action="rotate_operator_secret",
            object_type=STORE,
            object_id=access.store_code,
            store_code=access.store_code,
        )
    return OperatorSecret(operator_secret=secret)
