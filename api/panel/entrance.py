"""Log-in, log-out, and the name of the logged-in person for the pages' script."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from api.errors import ApiError, BadCredentials, Forbidden, TooManyAttempts
from api.login.credentials import judged
from api.panel.admission import enterable
from api.panel.forms import read_form
from api.panel.page import SEE_OTHER
from api.panel.rendering import Renderer
from api.panel.sessions import (
    CSRF_FIELD,
    PATH,
    BrowserToken,
    browser_token,
    drop_token,
    is_ours,
    new_token,
    set_token,
)
from api.panel.texts import t
from api.resources import Resources
from storage.access.queries import note_login
from storage.access.sessions import begin_session, end_session, find_session

CREDENTIAL_MOST = 1024
"""Maximum length of a user name or password in characters. The time to hash a password grows with its length."""

EntranceHandler = Callable[[Renderer, Request], Awaitable[Response]]


def entrance_routes() -> list[tuple[str, str, EntranceHandler]]:
    """Return the routes that belong to no store: method, path, handler."""
    return [
        ("GET", "/login", _form),
        ("POST", "/login", _log_in),
        ("POST", "/logout", _log_out),
        ("GET", "/session", _session),
    ]


def local_path(wished: str) -> str:
    """Return the address after the log-in: the requested one if it is a page of the panel, else the start page.

    Other addresses would make the log-in an open redirect.
    """
    plain = wished.startswith(f"{PATH}/") and "\\" not in wished and wished.isprintable()
    return wished if plain and not wished.startswith((f"{PATH}/login", f"{PATH}/logout")) else f"{PATH}/"


async def _form(renderer: Renderer, request: Request) -> Response:
    token = browser_token(request)
    wished = local_path(request.query_params.get("next", ""))
    resources: Resources = request.app.state.resources
    if not token.fresh:
        async with resources.database.transaction() as connection:
            if await find_session(connection, token.value) is not None:
                return RedirectResponse(wished, SEE_OTHER)
    said = t("frame.logged_out") if "out" in request.query_params else None
    return renderer.bare(request, "login.html", token, wished=wished, username="", error=None, said=said)


async def _log_in(renderer: Renderer, request: Request) -> Response:
    token, form = browser_token(request), await read_form(request)
    wished, username, password = local_path(form.text("next")), form.text("username"), form.raw("password")
    if not is_ours(request, form.text(CSRF_FIELD), token):
        return _again(renderer, request, token, wished, username, 403, t("frame.form_expired"))
    resources: Resources = request.app.state.resources
    try:
        if max(len(username), len(password)) > CREDENTIAL_MOST:
            raise BadCredentials
        address = request.client.host if request.client else ""
        administrator, rehashed = await judged(resources, username, password, address)
    except (BadCredentials, TooManyAttempts) as error:
        return _again(renderer, request, token, wished, username, error.status, _why(error))
    fresh = new_token()
    async with resources.database.transaction() as connection:
        await end_session(connection, token.value)
        await note_login(connection, administrator, rehashed)
        await begin_session(connection, fresh, administrator)
    response = RedirectResponse(wished, SEE_OTHER)
    set_token(response, request, fresh)
    return response


def _again(
    renderer: Renderer, request: Request, token: BrowserToken, wished: str, username: str, status: int, error: str
) -> Response:
    values = {"wished": wished, "username": username, "error": error, "said": None}
    return renderer.bare(request, "login.html", token, status, **values)


def _why(error: ApiError) -> str:
    return error.message if isinstance(error, TooManyAttempts) else t("frame.bad_credentials")


async def _session(renderer: Renderer, request: Request) -> Response:
    """Return the logged-in person's name and the CSRF token for forms opened before the log-in, for the script."""
    found = await enterable(request)
    if isinstance(found, Response):
        return found
    return JSONResponse({"name": found[0].name, "csrf": browser_token(request).csrf})


async def _log_out(renderer: Renderer, request: Request) -> Response:
    token, form = browser_token(request), await read_form(request)
    if not is_ours(request, form.text(CSRF_FIELD), token):
        raise Forbidden
    resources: Resources = request.app.state.resources
    async with resources.database.transaction() as connection:
        await end_session(connection, token.value)
    response = RedirectResponse(f"{PATH}/login?out=1", SEE_OTHER)
    drop_token(response)
    return response
