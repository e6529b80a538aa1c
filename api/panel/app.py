"""Application of the admin panel, mounted at /admin. It uses the API's resources."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope as AsgiScope

from api.errors import ApiError, Forbidden, NotFound
from api.panel import (
    audit,
    dashboard,
    deliveries,
    delivery,
    events,
    expiring,
    migrate,
    people,
    recover,
    redelivery,
    stores,
    webhook_form,
    webhook_test,
    webhooks,
)
from api.panel.admission import admitted, enterable
from api.panel.entrance import entrance_routes
from api.panel.menu import menu_of
from api.panel.page import SEE_OTHER, PanelRoutes
from api.panel.rendering import ASSETS, HEADERS, STATIC, Renderer
from api.panel.routes import PanelRoute
from api.panel.sessions import PATH
from api.refusals import refusal_of

logger = logging.getLogger(__name__)

GROUPS: tuple[PanelRoutes, ...] = (
    dashboard.pages,
    deliveries.pages,
    redelivery.pages,
    delivery.pages,
    events.pages,
    expiring.pages,
    recover.pages,
    webhook_form.pages,
    webhook_test.pages,
    webhooks.pages,
    migrate.pages,
    stores.pages,
    people.pages,
    audit.pages,
)
"""All page groups. The first matching route is taken, so fixed paths come before paths with parameters."""

FOR_A_YEAR = "public, max-age=31536000, immutable"
"""Cache-Control of static files. A year is safe because the address of a file changes with its content."""


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
    app.add_route(PATH, _to_home, include_in_schema=False)
    app.mount(PATH, panel, name="panel")


def create_panel() -> Starlette:
    """Return the panel's application. It uses the resources of the application that mounts it."""
    routes, renderer = named_routes(), Renderer()
    panel = Starlette(
        routes=[
            Mount("/-/static", _Files(directory=STATIC)),
            Mount("/-/assets", _Files(directory=ASSETS)),
            Route("/", partial(_answered, renderer, partial(_home, renderer, routes)), methods=["GET"]),
            *(
                Route(path, partial(_answered, renderer, partial(handler, renderer)), methods=[method])
                for method, path, handler in entrance_routes()
            ),
            *(
                Route(
                    route.path,
                    partial(_answered, renderer, partial(_page, renderer, routes, route)),
                    methods=[route.method],
                )
                for route in routes.values()
            ),
        ],
        exception_handlers={HTTPException: partial(_no_route, renderer), Exception: partial(_our_mistake, renderer)},
    )
    panel.router.redirect_slashes = False  # Such a redirect would trust the host and scheme of the request.
    return panel


class _Files(StaticFiles):
    """Static files with a long cache lifetime."""

    async def get_response(self, path: str, scope: AsgiScope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = FOR_A_YEAR
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


async def _to_home(request: Request) -> Response:
    return RedirectResponse(f"{PATH}/", SEE_OTHER)


async def _answered(renderer: Renderer, answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    """Return the handler's response, or an error page, with the headers of every page."""
    try:
        response = await answer(request)
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        response = _error_page(renderer, request, refusal)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _page(renderer: Renderer, routes: Mapping[str, PanelRoute], route: PanelRoute, request: Request) -> Response:
    page = await admitted(request, renderer, routes, route)
    return page if isinstance(page, Response) else await route.handler(page)


async def _home(renderer: Renderer, routes: Mapping[str, PanelRoute], request: Request) -> Response:
    """Redirect to the first page of the menu, in the store of the query or else in the first store."""
    found = await enterable(request)
    if isinstance(found, Response):
        return found
    principal, stores = found
    codes = [store.code for store in stores]
    if not codes:
        raise NotFound
    code = wished if (wished := request.query_params.get("store")) in codes else codes[0]
    for group in menu_of(routes, principal):
        path = routes[group.entries[0].route].path.replace("{storeCode}", code)
        return RedirectResponse(PATH + path, SEE_OTHER)
    raise Forbidden


def _error_page(renderer: Renderer, request: Request, refusal: ApiError) -> Response:
    response = renderer.bare(request, "error.html", None, refusal.status, message=refusal.message, code=refusal.status)
    response.headers.update(refusal.headers)
    return response


async def _no_route(renderer: Renderer, request: Request, error: Any) -> Response:
    return renderer.bare(request, "error.html", None, error.status_code, message=error.detail, code=error.status_code)


async def _our_mistake(renderer: Renderer, request: Request, error: Exception) -> Response:
    """Return the error page of a bug, without internal details. The server logs the traceback."""
    return renderer.bare(request, "error.html", None, 500, message="Internal Server Error", code=500)
