"""Settings → Store: time zone, days of notice, retention and operational webhooks."""

from typing import Any

from starlette.responses import Response

from api.body import validate
from api.errors import Conflict, ValidationFailed
from api.panel.forms import whole
from api.panel.once import take_once
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from api.stores.service import SettingsActions, SettingsChange
from domain.access import Scope
from domain.expiry.rows import Kind
from domain.timestamps import timezone_names

DAYS = tuple(f"expire{kind.capitalize()}NotificationDays" for kind in Kind)
RETENTION_FIELDS = ("retentionDays", "retentionExhaustedDays")
"""Days of retention in the form; an empty field means the installation's setting."""

pages = PanelRoutes()


@pages.get("/{storeCode}/settings", Scope.SUBSCRIPTION_READ)
async def shown(page: Page) -> Response:
    """Show the settings; as a form to people who may change them."""
    return await _shown(page)


@pages.post("/{storeCode}/settings", Scope.ADMIN)
async def changed(page: Page) -> Response:
    """Save the settings. The first operator URL creates a signing key, which is shown once."""
    sent: dict[str, Any] = {
        "timezone": page.form.text("timezone"),
        "operatorUrl": page.form.text("operatorUrl") or None,
        "expiryKindsFromEvents": page.form.all("expiryKindsFromEvents"),
        **{name: whole(page.form.text(name)) for name in DAYS},
        **{name: whole(days) if (days := page.form.text(name)) else None for name in RETENTION_FIELDS},
    }
    try:
        _, key = await _actions(page).change(validate(SettingsChange, sent))
    except ValidationFailed as error:
        page.refused(error)
        return await _shown(page, error.status)
    if key is not None:
        return page.render("stores/key.html", key=key)
    return await page.done(t("stores.saved"), "stores.shown")


@pages.post("/{storeCode}/settings/operator-key", Scope.ADMIN)
async def key_rotated(page: Page) -> Response:
    """Create a new operator key and show it once. The previous key also signs for 24 hours."""
    try:
        async with page.resources.database.transaction() as connection:
            await take_once(page, connection)
            key = await _actions(page).rotate_operator_secret(connection)
    except Conflict as refused:
        return await page.done(refused.message, "stores.shown", kind="danger")
    return page.render("stores/key.html", key=key)


async def _shown(page: Page, status: int = 200) -> Response:
    found = (await _actions(page).read()).model_dump(by_alias=True)
    kinds = [(str(kind), t(f"stores.kind_{kind}")) for kind in Kind]
    days = [(name, t(f"stores.days_{kind}")) for name, kind in zip(DAYS, Kind, strict=True)]
    settings = page.resources.settings
    retention = [
        (RETENTION_FIELDS[0], t("stores.retention_days"), settings.retention_days),
        (RETENTION_FIELDS[1], t("stores.retention_exhausted_days"), settings.retention_exhausted_days),
    ]
    values = {name: page.form.text(name) if name in page.form else value for name, value in found.items()}
    if page.form.all("csrf"):
        values["expiryKindsFromEvents"] = page.form.all("expiryKindsFromEvents")
    return page.render(
        "stores/settings.html",
        status,
        stored=found,
        values=values,
        kinds=kinds,
        days=days,
        retention=retention,
        zones=sorted(timezone_names()) if page.may(Scope.ADMIN) else [],
    )


def _actions(page: Page) -> SettingsActions:
    return SettingsActions(page.resources, page.store_code, page.actor)
