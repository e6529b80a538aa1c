"""Admission to pages of the panel.

A request without a session is redirected to the log-in (303). A form without a valid CSRF token gets 403, an unknown
store 404, a missing right 403.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from api.errors import Forbidden, NotFound
from api.panel.forms import Form, read_form
from api.panel.menu import may_open
from api.panel.page import SEE_OTHER, Page
from api.panel.rendering import Renderer
from api.panel.routes import PanelRoute
from api.panel.sessions import CSRF_FIELD, CSRF_HEADER, PATH, BrowserToken, browser_token, is_ours
from api.resources import Resources
from domain.access import Principal
from storage.access.sessions import SessionRow, find_session, say_next
from storage.access.stores import list_stores
from storage.access.tables import Store

LOGIN = f"{PATH}/login"
BY_SCRIPT = "x-requested-with"
"""Header of requests by the panel's scripts. They get a 401 instead of a redirect, which they could not tell from a
page."""


async def admitted(
    request: Request, renderer: Renderer, routes: Mapping[str, PanelRoute], route: PanelRoute
) -> Page | Response:
    """Return the requested page, or a response that leads to the log-in. Raises NotFound and Forbidden."""
    token = browser_token(request)
    resources: Resources = request.app.state.resources
    watching = route.method == "GET" and BY_SCRIPT in request.headers
    found = await _logged_in(resources, token, used=not watching)
    if found is None:
        return to_login(request)
    session, stores = found
    principal = session.administrator.principal
    form = await read_form(request) if route.method == "POST" else Form()
    if route.method == "POST" and not is_ours(request, _csrf(request, form), token):
        raise Forbidden
    code = request.path_params["storeCode"]
    store = next((store for store in stores if store.code == code), None)
    if store is None:
        raise NotFound
    if not may_open(route, principal):
        raise Forbidden
    notice = session.notice if route.method == "GET" and not watching else None
    if notice is not None:
        async with resources.database.transaction() as connection:
            await say_next(connection, token.value, None)
    return Page(request, resources, renderer, routes, token, principal, store, stores, route, form, notice)


async def enterable(request: Request) -> tuple[Principal, list[Store]] | Response:
    """Return the logged-in principal and the stores they may enter, or a response that leads to the log-in."""
    found = await _logged_in(request.app.state.resources, browser_token(request))
    return to_login(request) if found is None else (found[0].administrator.principal, found[1])


async def _logged_in(
    resources: Resources, token: BrowserToken, *, used: bool = True
) -> tuple[SessionRow, list[Store]] | None:
    if token.fresh:
        return None
    async with resources.database.transaction() as connection:
        session = await find_session(connection, token.value, used=used)
        if session is None:
            return None
        principal = session.administrator.principal
        return session, [store for store in await list_stores(connection) if principal.may_enter(store.code)]


def to_login(request: Request) -> Response:
    """Redirect to the log-in, which leads back to the requested page; answer scripts with 401."""
    if BY_SCRIPT in request.headers:
        return JSONResponse({"code": 401, "message": "Authentication Required"}, status_code=401)
    wished = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    there = request.method == "GET" and request.url.path.rstrip("/") != PATH
    return RedirectResponse(f"{LOGIN}?{urlencode({'next': wished})}" if there else LOGIN, SEE_OTHER)


def _csrf(request: Request, form: Form) -> str:
    return request.headers.get(CSRF_HEADER) or form.text(CSRF_FIELD)
