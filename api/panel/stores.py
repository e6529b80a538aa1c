"""Settings → Store: time zone, days of notice, retention and operational webhooks."""

from typing import Any

from starlette.responses import Response

from api.body import validate
from api.panel.frame.page import Page, PanelRoutes
from api.panel.texts import t
from api.stores.service import SettingsActions, SettingsChange
from domain.access import Scope
from domain.expiry.rows import Kind
from domain.timestamps import timezone_names

DAYS = {f"expire{kind.capitalize()}NotificationDays": kind for kind in Kind}

pages = PanelRoutes()


@pages.get("/{storeCode}/settings", Scope.SUBSCRIPTION_READ)
async def shown(page: Page) -> Response:
    """Show the settings; as a form to people who may change them."""
    found = (await page.actions(SettingsActions).read()).model_dump(by_alias=True)
    settings = page.resources.settings
    values = {name: page.form.text(name) if name in page.form else value for name, value in found.items()}
    if page.route.method == "POST":
        values["expiryKindsFromEvents"] = page.form.getlist("expiryKindsFromEvents")
    return page.render(
        "stores/settings.html",
        stored=found,
        values=values,
        kinds=[(str(kind), t(f"stores.kind_{kind}")) for kind in Kind],
        days=[(name, t(f"stores.days_{kind}")) for name, kind in DAYS.items()],
        retention=[
            ("retentionDays", t("stores.retention_days"), settings.retention_days),
            ("retentionExhaustedDays", t("stores.retention_exhausted_days"), settings.retention_exhausted_days),
        ],
        zones=sorted(timezone_names()) if page.may(Scope.ADMIN) else [],
    )


@pages.post("/{storeCode}/settings", Scope.ADMIN, refused=shown)
async def changed(page: Page) -> Response:
    """Save the settings. The first operator URL creates a signing key, which is shown once."""
    sent: dict[str, Any] = {
        "timezone": page.form.text("timezone"),
        "operatorUrl": page.form.text("operatorUrl") or None,
        "expiryKindsFromEvents": page.form.getlist("expiryKindsFromEvents"),
        **{name: page.form.number(name) for name in (*DAYS, "retentionDays", "retentionExhaustedDays")},
    }
    _, key = await page.actions(SettingsActions).change(validate(SettingsChange, sent))
    if key is not None:
        return page.render("stores/key.html", key=key)
    return await page.done(t("stores.saved"), "stores.shown")


@pages.post("/{storeCode}/settings/operator-key", Scope.ADMIN, refused="stores.shown")
async def key_rotated(page: Page) -> Response:
    """Create a new operator key and show it once. The previous key also signs for 24 hours."""
    async with page.resources.database.transaction() as connection:
        await page.take_once(connection)
        key = await page.actions(SettingsActions).rotate_operator_secret(connection)
    return page.render("stores/key.html", key=key)
