"""Store settings: their validation, and the operator actions that read and change them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.body import WHOLE, Input, Output
from api.errors import Conflict, NotFound, invalid
from api.resources import Resources
from domain.expiry.rows import Kind
from domain.timestamps import timezone_names
from domain.urls.rules import URL_MAX_CHARACTERS, UrlRefused
from storage.access.administration import STORE
from storage.access.audit import changed, record
from storage.access.stores import find_store, operator_url, rotate_operator_key, set_operator_url, update_store
from storage.access.tables import Store

DAYS_MOST = 365
"""Maximum lead time of an expiry notice in days: one year."""

RETENTION_MOST = 3650
"""Maximum retention in days: ten years."""


def _check_timezone(name: str) -> str:
    if name not in timezone_names():
        raise PydanticCustomError("timezone", "is not an IANA time zone, such as Europe/Warsaw")
    return name


def _check_distinct(kinds: list[str]) -> list[str]:
    if len(set(kinds)) < len(kinds):
        raise PydanticCustomError("not_distinct", "must not repeat a kind")
    return kinds


Timezone = Annotated[
    str, AfterValidator(_check_timezone), WithJsonSchema({"type": "string", "enum": sorted(timezone_names())})
]
Days = Annotated[int, Field(ge=0, le=DAYS_MOST), WHOLE]
RetentionDays = Annotated[
    int,
    Field(
        ge=1,
        le=RETENTION_MOST,
        description="Retention of bodies, deliveries and attempts in days; null: the installation's setting.",
    ),
    WHOLE,
]
RetentionExhaustedDays = Annotated[
    int,
    Field(
        ge=1,
        le=RETENTION_MOST,
        description="Retention in days of events with an exhausted or open delivery; null: the installation's setting.",
    ),
    WHOLE,
]
OperatorUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_MAX_CHARACTERS,
        description="URL of operational webhooks (docs/operator-notices.md); null: none. The rules of a "
        "subscription's URL apply.",
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
        description="Kinds whose expiry rows are also updated from this store's events (docs/expiring.md).",
        json_schema_extra={"uniqueItems": True},
    ),
]


def _no_defaults(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)


class SettingsChange(Input):
    """New settings; omitted fields stay unchanged."""

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
    """Settings of a store: lead times of notices in days, time zone of days, operational webhooks, retention."""

    expire_points_notification_days: int
    expire_levels_notification_days: int
    expire_coupons_notification_days: int
    timezone: str
    operator_url: str | None
    expiry_kinds_from_events: list[KindName]
    retention_days: int | None
    retention_exhausted_days: int | None


class SettingsActions:
    """Operator actions of one caller on the settings of one store. Methods raise NotFound if the store is gone."""

    def __init__(self, resources: Resources, store_code: str, actor: str) -> None:
        self._resources = resources
        self._store_code = store_code
        self._actor = actor

    async def read(self) -> StoreSettings:
        """Return all settings."""
        async with self._resources.database.transaction() as connection:
            store = await find_store(connection, self._store_code)
            url = await operator_url(connection, self._store_code)
        if store is None:
            raise NotFound
        return StoreSettings(**_settings(store, url))

    async def change(self, change: SettingsChange) -> tuple[StoreSettings, str | None]:
        """Change the given settings. Return all, and the operator key if one was created. Raises ValidationFailed."""
        given = await _with_checked_url(change.model_dump(exclude_unset=True), self._resources)
        secret: str | None = None
        async with self._resources.database.transaction() as connection:
            store = await find_store(connection, self._store_code, lock=True)
            if store is None:
                raise NotFound
            before = _settings(store, await operator_url(connection, self._store_code))
            await update_store(connection, self._store_code, {k: v for k, v in given.items() if k != "operator_url"})
            if "operator_url" in given:
                url = given["operator_url"]
                secret = await set_operator_url(connection, self._store_code, url, self._resources.sealer)
            await record(
                connection,
                actor=self._actor,
                action="change_settings",
                object_type=STORE,
                object_id=self._store_code,
                store_code=self._store_code,
                changes=changed(before, given),
            )
        if given.get("timezone", before["timezone"]) != before["timezone"]:
            self._resources.schedule_sync.store_changed(self._store_code)
        return StoreSettings(**{**before, **given}), secret

    async def rotate_operator_secret(self, connection: AsyncConnection) -> str:
        """Return a new key; the old key also signs for a day. Raises Conflict without an operator URL."""
        secret = await rotate_operator_key(connection, self._store_code, self._resources.sealer)
        if secret is None:
            raise Conflict("The store has no operatorUrl, so there is no key to rotate; set operatorUrl first.")
        await record(
            connection,
            actor=self._actor,
            action="rotate_operator_secret",
            object_type=STORE,
            object_id=self._store_code,
            store_code=self._store_code,
        )
        return secret


def _settings(store: Store, operator_url: str | None) -> dict[str, Any]:
    columns = {name: getattr(store, name) for name in StoreSettings.model_fields if name != "operator_url"}
    return {**columns, "operator_url": operator_url}


async def _with_checked_url(given: dict[str, Any], resources: Resources) -> dict[str, Any]:
    """Return the given settings with the operator's URL normalised. Raises ValidationFailed."""
    if given.get("operator_url") is None:
        return given
    try:
        checked = await resources.url_check.check(given["operator_url"])
    except UrlRefused as refused:
        raise invalid("operatorUrl", refused.code, refused.message) from refused
    return {**given, "operator_url": checked.url.url}
