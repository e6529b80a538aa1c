"""Settings → API keys, Administrators; and the page to change one's own password."""

from datetime import UTC, datetime
from typing import Any

from starlette.responses import RedirectResponse, Response

from api.body import validate
from api.errors import BadCredentials, existing, invalid
from api.keys.service import (
    AdministratorCreate,
    KeyCreate,
    PasswordChange,
    change_password,
    make_administrator,
    make_key,
    switch,
)
from api.login.credentials import judged
from api.panel.frame.forms import edge
from api.panel.frame.page import SEE_OTHER, Page, PanelRoutes
from api.panel.frame.sessions import new_token, set_token
from api.panel.texts import t
from domain.access import ALL_STORES, ROLES, Scope
from storage.access.administration import end_key
from storage.access.queries import list_administrators, list_keys
from storage.access.sessions import begin_session, end_session, say_next

pages = PanelRoutes()


@pages.get("/{storeCode}/keys", Scope.ADMIN, everywhere=True)
async def keys(page: Page) -> Response:
    """Show every API key of the installation, newest first."""
    found = await page.resources.database.run(list_keys)
    return page.render("people/keys.html", keys=found[::-1], now=datetime.now(UTC))


@pages.get("/{storeCode}/keys/new", Scope.ADMIN, everywhere=True)
async def key_form(page: Page) -> Response:
    """Show the form of a new key."""
    scopes = [(scope, t(f"people.scope_{scope.name.lower()}")) for scope in Scope]
    return page.render("people/key_form.html", scopes=scopes, stores=_stores(page))


@pages.post("/{storeCode}/keys/new", Scope.ADMIN, everywhere=True, refused=key_form)
async def key_made(page: Page) -> Response:
    """Create the key and show it once."""
    ends = edge(page.form.text("expiresAt"), page.zone, "expiresAt", last=True)
    sent: dict[str, Any] = {
        "name": page.form.text("name"),
        "scopes": page.form.getlist("scopes"),
        "stores": page.form.getlist("stores"),
        "expiresAt": None if ends is None else ends.isoformat(),
    }
    body = validate(KeyCreate, sent)
    async with page.resources.database.transaction() as connection:
        await page.take_once(connection)
        _, key = await make_key(connection, page.principal.actor, body)
    return page.render("people/key_made.html", key=key, name=body.name)


@pages.post("/{storeCode}/keys/{apiKeyId}/revoke", Scope.ADMIN, everywhere=True)
async def key_revoked(page: Page) -> Response:
    """Revoke the key."""
    name = existing(await page.resources.database.run(end_key, page.principal.actor, page.id("apiKeyId")))
    return await page.done(t("people.key_revoked", name=name), "people.keys")


@pages.get("/{storeCode}/administrators", Scope.ADMIN, everywhere=True)
async def administrators(page: Page) -> Response:
    """Show the administrators, active and inactive."""
    found = await page.resources.database.run(list_administrators)
    return page.render("people/administrators.html", rows=found)


@pages.get("/{storeCode}/administrators/new", Scope.ADMIN, everywhere=True)
async def administrator_form(page: Page) -> Response:
    """Show the form of a new administrator."""
    roles = [(role, t(f"people.role_{role}")) for role in ROLES]
    return page.render("people/administrator_form.html", roles=roles, stores=_stores(page))


@pages.post("/{storeCode}/administrators/new", Scope.ADMIN, everywhere=True, refused=administrator_form)
async def administrator_made(page: Page) -> Response:
    """Create the administrator."""
    username = page.form.text("username")
    sent: dict[str, Any] = {
        "username": username,
        "password": page.form.raw("password"),
        "scopes": sorted(ROLES.get(page.form.text("scopes"), ())),
        "stores": page.form.getlist("stores"),
    }
    await make_administrator(page.resources, page.principal.actor, validate(AdministratorCreate, sent))
    return await page.done(t("people.administrator_made", name=username), "people.administrators")


@pages.post(
    "/{storeCode}/administrators/{administratorId}/active",
    Scope.ADMIN,
    everywhere=True,
    refused="people.administrators",
)
async def administrator_switched(page: Page) -> Response:
    """Activate or deactivate the administrator, as the box `active` says."""
    active = page.form.flag("active")
    row = await switch(page.resources, page.principal, page.id("administratorId"), active=active)
    said = "people.administrator_active" if active else "people.administrator_inactive"
    return await page.done(t(said, name=row.username), "people.administrators")


@pages.get("/{storeCode}/password", None)
async def password(page: Page) -> Response:
    """Show the form to change one's password."""
    return page.render("people/password.html")


@pages.post("/{storeCode}/password", None, refused=password)
async def password_changed(page: Page) -> Response:
    """Change the password. All other sessions and tokens of the person end; this browser stays logged in."""
    body = validate(PasswordChange, {"password": page.form.raw("password")})
    if page.form.raw("repeated") != body.password:
        raise invalid("repeated", "differs", t("people.repeated_wrong"))
    try:
        administrator, _ = await judged(page.resources, page.principal.name, page.form.raw("current"), page.request)
    except BadCredentials:
        raise invalid("current", "wrong", t("people.current_wrong")) from None
    changed = await change_password(page.resources, administrator, body.password)
    fresh = new_token()
    async with page.resources.database.transaction() as connection:
        await end_session(connection, page.token.value)
        await begin_session(connection, fresh, changed)
        await say_next(connection, fresh, {"kind": "success", "text": t("people.password_changed")})
    response = RedirectResponse(page.url("people.password"), SEE_OTHER)
    set_token(response, page.request, fresh)
    return response


def _stores(page: Page) -> list[tuple[str, str]]:
    return [(ALL_STORES, t("people.every_store")), *((store.code, store.code) for store in page.stores)]
