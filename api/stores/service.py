"""Store settings: their validation, and the operator actions that read and change them."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncConnection

from api.body import WHOLE, Input, Output, checked_by
from api.errors import Conflict, existing, invalid
from api.store_actions import StoreActions
from domain.expiry.rows import Kind
from domain.timestamps import timezone_names
from domain.urls.rules import URL_MAX_CHARACTERS, UrlRefused
from storage.access.administration import STORE
from storage.access.audit import changed
from storage.access.stores import find_store, operator_url, rotate_operator_key, set_operator_url, update_store

DAYS_MOST = 365
"""Maximum lead time of an expiry notice in days: one year."""

RETENTION_MOST = 3650
"""Maximum retention in days: ten years."""


_IF_NULL = "null: the installation's setting."

Timezone = Annotated[
    str,
    checked_by(
        "timezone", lambda name: None if name in timezone_names() else "is not an IANA time zone, such as Europe/Warsaw"
    ),
    WithJsonSchema({"type": "string", "description": "IANA time zone.", "examples": ["Europe/Warsaw"]}),
]
Days = Annotated[int, Field(ge=0, le=DAYS_MOST), WHOLE]
RetentionDays = Annotated[
    int,
    Field(ge=1, le=RETENTION_MOST, description=f"Retention of bodies, deliveries and attempts in days; {_IF_NULL}"),
    WHOLE,
]
RetentionExhaustedDays = Annotated[
    int,
    Field(
        ge=1,
        le=RETENTION_MOST,
        description=f"Retention in days of events with a delivery that gave up or is open; {_IF_NULL}",
    ),
    WHOLE,
]
OperatorUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_MAX_CHARACTERS,
        description="URL of operational webhooks (docs/operator-notices.md); null: none. The rules of a "
        "webhook's URL apply.",
        examples=["https://operator.example.com/webhooks"],
        json_schema_extra={"format": "uri"},
    ),
]
KindName = Literal["points", "levels", "coupons"]
ExpiryKinds = Annotated[
    list[KindName],
    checked_by("not_distinct", lambda kinds: None if len(set(kinds)) == len(kinds) else "must not repeat a kind"),
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


class SettingsActions(StoreActions):
    """Operator actions of one caller on the settings of one store. Methods raise NotFound if the store is gone."""

    async def read(self) -> StoreSettings:
        """Return all settings."""
        return StoreSettings(**await self.resources.database.run(self._stored))

    async def change(self, change: SettingsChange) -> tuple[StoreSettings, str | None]:
        """Change the given settings. Return all, and the operator key if one was created. Raises ValidationFailed."""
        given = change.model_dump(exclude_unset=True)
        columns = {name: value for name, value in given.items() if name != "operator_url"}
        url = given.get("operator_url")
        if url is not None:
            try:
                url, _ = await self.resources.url_check.check(url)
            except UrlRefused as refused:
                raise invalid("operatorUrl", refused.code, refused.message) from refused
            given["operator_url"] = url
        secret: str | None = None
        async with self.resources.database.transaction() as connection:
            before = await self._stored(connection, lock=True)
            await update_store(connection, self.store_code, columns)
            if "operator_url" in given:
                secret = await set_operator_url(connection, self.store_code, url, self.resources.sealer)
            await self.record(connection, "change_settings", STORE, self.store_code, changed(before, given))
        if given.get("timezone", before["timezone"]) != before["timezone"]:
            self.resources.schedule_sync.store_changed(self.store_code)
        return StoreSettings(**{**before, **given}), secret

    async def rotate_operator_secret(self, connection: AsyncConnection) -> str:
        """Return a new key; the old key also signs for a day. Raises Conflict without an operator URL."""
        secret = await rotate_operator_key(connection, self.store_code, self.resources.sealer)
        if secret is None:
            raise Conflict("The store has no operatorUrl, so there is no key to rotate; set operatorUrl first.")
        await self.record(connection, "rotate_operator_secret", STORE, self.store_code)
        return secret

    async def _stored(self, connection: AsyncConnection, *, lock: bool = False) -> dict[str, Any]:
        store = existing(await find_store(connection, self.store_code, lock=lock))
        columns = {name: getattr(store, name) for name in StoreSettings.model_fields if name != "operator_url"}
        return {**columns, "operator_url": await operator_url(connection, self.store_code)}
