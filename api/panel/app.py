"""Application of the admin panel, mounted at /admin. It uses the API's resources."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from api.errors import Forbidden, NotFound
from api.panel import audit, dashboard, deliveries, event_types, expiring, migrate, people, recover, stores, webhooks
from api.panel.frame.admission import ENTRANCE, NotLoggedInError, admitted, logged_in, to_login
from api.panel.frame.page import SEE_OTHER, PanelRoutes
from api.panel.frame.rendering import HEADERS, SERVED, STATIC, Renderer
from api.panel.frame.routes import PanelRoute, menu_of
from api.panel.frame.sessions import PATH
from api.refusals import refusal_of
from api.serving.static_files import ListedFiles

GROUPS = tuple(
    module.pages
    for module in (dashboard, deliveries, expiring, recover, webhooks, event_types, migrate, stores, people, audit)
)
"""All page groups. The first matching route is taken, so fixed paths come before paths with parameters."""

KEPT_FOR_A_YEAR = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
"""Headers of static files. A year is safe because the address of a file changes with its content."""


def named_routes(groups: Iterable[PanelRoutes] = GROUPS) -> dict[str, PanelRoute]:
    """Return the routes by name. Raises ValueError when two share a name, or a method and path."""
    routes: dict[str, PanelRoute] = {}
    paths: set[tuple[str, str]] = set()
    for route in (route for group in groups for route in group.routes):
        path = (route.method, route.path)
        if route.name in routes or path in paths:
            raise ValueError(f"two routes of the panel have the name {route.name}, or {route.method} {route.path}")
        routes[route.name] = route
        paths.add(path)
    return routes


def add_panel(app: FastAPI) -> None:
    """Mount the panel at /admin."""
    panel = create_panel()
    panel.state = app.state  # The API opens and closes the resources.
    for path in ("/", PATH):
        app.add_route(path, _to_home, include_in_schema=False)
    app.mount(PATH, panel, name="panel")


def create_panel() -> Starlette:
    """Return the panel's application. It uses the resources of the application that mounts it."""
    routes, renderer = named_routes(), Renderer()
    handlers: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/", partial(_home, renderer, routes)),
        *((method, path, partial(handler, renderer)) for method, path, handler in ENTRANCE),
        *((route.method, route.path, partial(_page, renderer, routes, route)) for route in routes.values()),
    ]
    panel = Starlette(
        routes=[
            Mount("/-/static", ListedFiles("starlette_admin", STATIC, SERVED, KEPT_FOR_A_YEAR)),
            *(
                Route(path, partial(_answered, renderer, handler), methods=[method])
                for method, path, handler in handlers
            ),
        ],
        exception_handlers={HTTPException: partial(_failed, renderer), Exception: partial(_failed, renderer)},
    )
    panel.router.redirect_slashes = False  # Such a redirect would trust the host and scheme of the request.
    return panel


async def _to_home(request: Request) -> Response:
    return RedirectResponse(f"{PATH}/", SEE_OTHER)


async def _answered(renderer: Renderer, answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    """Return the handler's response, or an error page, with the headers of every page."""
    try:
        response = await answer(request)
    except NotLoggedInError:
        response = to_login(request)
    except ClientDisconnect:
        response = Response(status_code=400)  # nobody reads it
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        response = _error_page(renderer, request, refusal.status, refusal.message)
        response.headers.update(refusal.headers)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _page(renderer: Renderer, routes: Mapping[str, PanelRoute], route: PanelRoute, request: Request) -> Response:
    page = await admitted(request, renderer, routes, route)
    return await page.answer()


async def _home(renderer: Renderer, routes: Mapping[str, PanelRoute], request: Request) -> Response:
    """Redirect to the first page of the menu, in the store of the query or else in the first store."""
    session, stores = await logged_in(request)
    codes = [store.code for store in stores]
    if not codes:
        raise NotFound
    code = wished if (wished := request.query_params.get("store")) in codes else codes[0]
    for _, entries in menu_of(routes, session.administrator.principal):
        path = routes[entries[0].route].path.replace("{storeCode}", code)
        return RedirectResponse(PATH + path, SEE_OTHER)
    raise Forbidden


def _error_page(renderer: Renderer, request: Request, status: int, message: str) -> Response:
    return renderer.bare(request, "error.html", None, status, message=message, code=status)


async def _failed(renderer: Renderer, request: Request, error: Exception) -> Response:
    """Return the error page of a missing route or of a bug, without internal details. The server logs the traceback."""
    if isinstance(error, HTTPException):
        return _error_page(renderer, request, error.status_code, error.detail)
    return _error_page(renderer, request, 500, "Internal Server Error")
