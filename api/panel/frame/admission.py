"""Admission to pages of the panel; log-in, log-out, and the name of the logged-in person for the pages' script.

A request without a session is redirected to the log-in (303). A form without a valid CSRF token gets 403, an unknown
store 404, a missing right 403.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from api.errors import BadCredentials, Forbidden, TooManyAttempts, existing
from api.login.credentials import CREDENTIAL_MOST, judged
from api.panel.frame.forms import ENTRANCE_FORM_BYTES, Form, read_form
from api.panel.frame.page import SEE_OTHER, Page
from api.panel.frame.rendering import Renderer
from api.panel.frame.routes import PanelRoute
from api.panel.frame.sessions import (
    CSRF_FIELD,
    CSRF_HEADER,
    PATH,
    SESSION_COOKIE,
    browser_token,
    is_ours,
    new_token,
    set_token,
)
from api.panel.texts import t
from api.resources import Resources
from storage.access.queries import note_login
from storage.access.sessions import SessionRow, begin_session, end_session, find_session, say_next
from storage.access.stores import list_stores
from storage.access.tables import Store

LOGIN = f"{PATH}/login"
BY_SCRIPT = "x-requested-with"
"""Header of requests by the panel's scripts. They get a 401 instead of a redirect, which they could not tell from a
page."""


class NotLoggedInError(Exception):
    """The browser has no session."""


async def admitted(request: Request, renderer: Renderer, routes: Mapping[str, PanelRoute], route: PanelRoute) -> Page:
    """Return the requested page. Raises NotLoggedInError, NotFound and Forbidden."""
    token = browser_token(request)
    resources: Resources = request.app.state.resources
    watching = route.method == "GET" and BY_SCRIPT in request.headers
    session, stores = await logged_in(request, used=not watching)
    principal = session.administrator.principal
    form = await read_form(request) if route.method == "POST" else Form()
    sent = request.headers.get(CSRF_HEADER) or form.text(CSRF_FIELD)
    if route.method == "POST" and not is_ours(request, sent, token):
        raise Forbidden
    code = request.path_params["storeCode"]
    store = existing(next((store for store in stores if store.code == code), None))
    if not route.open_to(principal):
        raise Forbidden
    notice = session.notice if route.method == "GET" and not watching else None
    if notice is not None:
        await resources.database.run(say_next, token.value, None)
    return Page(request, resources, renderer, routes, token, principal, store, stores, route, form, notice)


async def logged_in(request: Request, *, used: bool = True) -> tuple[SessionRow, list[Store]]:
    """Return the browser's session and the stores that its person may enter. Raises NotLoggedInError."""
    token = browser_token(request)
    if token.fresh:
        raise NotLoggedInError
    resources: Resources = request.app.state.resources
    return await resources.principals.look_up(_session_and_stores, token.value, used=used)


async def _session_and_stores(connection: AsyncConnection, token: str, *, used: bool) -> tuple[SessionRow, list[Store]]:
    session = await find_session(connection, token, used=used)
    if session is None:
        raise NotLoggedInError
    principal = session.administrator.principal
    return session, [store for store in await list_stores(connection) if principal.may_enter(store.code)]


def to_login(request: Request) -> Response:
    """Redirect to the log-in, which leads back to the requested page; answer scripts with 401."""
    if BY_SCRIPT in request.headers:
        return JSONResponse({"code": 401, "message": "Authentication Required"}, status_code=401)
    wished = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    there = request.method == "GET" and request.url.path.rstrip("/") != PATH
    return RedirectResponse(f"{LOGIN}?{urlencode({'next': wished})}" if there else LOGIN, SEE_OTHER)


def _local_path(wished: str) -> str:
    """Return the address after the log-in: the requested one if it is a page of the panel, else the start page.

    Other addresses would make the log-in an open redirect.
    """
    plain = wished.startswith(f"{PATH}/") and "\\" not in wished and wished.isprintable()
    return wished if plain and not wished.startswith((LOGIN, f"{PATH}/logout")) else f"{PATH}/"


async def _form(renderer: Renderer, request: Request) -> Response:
    token, wished = browser_token(request), _local_path(request.query_params.get("next", ""))
    try:
        await logged_in(request)
    except NotLoggedInError:
        said = t("frame.logged_out") if "out" in request.query_params else None
        return renderer.bare(request, "login.html", token, wished=wished, username="", error=None, said=said)
    return RedirectResponse(wished, SEE_OTHER)


async def _log_in(renderer: Renderer, request: Request) -> Response:
    token, form = browser_token(request), await read_form(request, ENTRANCE_FORM_BYTES)
    wished, username, password = _local_path(form.text("next")), form.text("username"), form.raw("password")
    resources: Resources = request.app.state.resources

    def again(status: int, error: str) -> Response:
        values = {"wished": wished, "username": username[:CREDENTIAL_MOST], "error": error, "said": None}
        return renderer.bare(request, "login.html", token, status, **values)

    if not is_ours(request, form.text(CSRF_FIELD), token):
        return again(403, t("frame.form_expired"))
    try:
        if max(len(username), len(password)) > CREDENTIAL_MOST:
            raise BadCredentials
        administrator, rehashed = await judged(resources, username, password, request)
    except BadCredentials as error:
        return again(error.status, t("frame.bad_credentials"))
    except TooManyAttempts as error:
        return again(error.status, error.message)
    fresh = new_token()
    async with resources.database.transaction() as connection:
        await end_session(connection, token.value)
        await note_login(connection, administrator, rehashed)
        await begin_session(connection, fresh, administrator)
    response = RedirectResponse(wished, SEE_OTHER)
    set_token(response, request, fresh)
    return response


async def _session(renderer: Renderer, request: Request) -> Response:
    """Return the logged-in person's name and the CSRF token for forms opened before the log-in, for the script."""
    session, _ = await logged_in(request)
    return JSONResponse({"name": session.administrator.principal.name, "csrf": browser_token(request).csrf})


async def _log_out(renderer: Renderer, request: Request) -> Response:
    token, form = browser_token(request), await read_form(request, ENTRANCE_FORM_BYTES)
    if not is_ours(request, form.text(CSRF_FIELD), token):
        raise Forbidden
    resources: Resources = request.app.state.resources
    await resources.principals.look_up(end_session, token.value)
    response = RedirectResponse(f"{LOGIN}?out=1", SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE, path=PATH, httponly=True, samesite="lax")
    return response


ENTRANCE = (
    ("GET", "/login", _form),
    ("POST", "/login", _log_in),
    ("POST", "/logout", _log_out),
    ("GET", "/session", _session),
)
"""Routes that belong to no store: method, path, handler."""
