"""The FastAPI application: routers, lifespan, tracing and the mapping of errors to responses."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.actions import routes as actions
from api.bulk_actions import routes as bulk_actions
from api.deliveries import routes as deliveries
from api.errors import ApiError, NotFound
from api.event_types import routes as event_types
from api.events import routes as events
from api.events.service import EmitRefused
from api.expiry import routes as expiry
from api.explain import routes as explain
from api.keys import routes as access_keys
from api.login import routes as login
from api.openapi.document import add_docs
from api.operations import routes as operations
from api.operations.metrics import ApiMetrics
from api.panel.app import add_panel
from api.refusals import REFUSED, refusal_of
from api.resources import open_resources
from api.schedules import routes as schedules
from api.serving.request_times import RequestTimes
from api.stores import routes as stores
from api.subscription_sets import routes as subscription_sets
from api.subscriptions import routes as subscriptions
from api.subscriptions.url_check import Lookup
from settings import Settings
from telemetry.tracing import NO_TRACES, Traces

ROUTERS: tuple[APIRouter, ...] = (
    events.router,  # first: a request is compared with one route after the other, and most requests emit
    login.router,
    access_keys.router,
    stores.router,
    subscriptions.router,
    subscription_sets.router,
    event_types.router,
    expiry.router,
    schedules.router,
    deliveries.router,
    actions.router,
    bulk_actions.router,
    explain.router,
    operations.router,
)
"""All routers of the API, in the order of the documentation."""

METHOD_NOT_ALLOWED = 405

EMITS = re.compile(r"/api/[^/]+/event(/batch)?")


def create_app(settings: Settings, lookup: Lookup | None = None, traces: Traces = NO_TRACES) -> FastAPI:
    """Build the application. Its lifespan opens and closes the resources; it starts without database and Temporal.

    `lookup` resolves host names when a subscription's URL is checked (default: the system's resolver). The provider of
    `traces` records emit requests; the lifespan closes it.
    """

    metrics = ApiMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings, metrics, lookup) as resources:
            app.state.resources = resources
            yield
        await asyncio.to_thread(traces.close)

    app = FastAPI(
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=telemetry(traces),
    )
    app.state.metrics = metrics
    app.add_middleware(RequestTimes, seconds=metrics.request_seconds)
    for router in ROUTERS:
        app.include_router(router)
    add_docs(app, settings.url_rules)
    add_panel(app)
    add_error_handlers(app)
    return app


def telemetry(traces: Traces) -> TelemetryConfig:
    """Return a configuration that traces emit requests only: paths and queries of other calls may name customers.

    By default, FastAPI would trace every call and export the application's log as well.
    """
    return {
        "auto_configure": False,
        "tracing": traces.provider is not None,
        "tracer_provider": traces.provider,
        "operation_spans": False,
        "metrics": False,
        "logs": False,
        "exclude": lambda scope: scope.get("method") != "POST" or EMITS.fullmatch(scope["path"]) is None,
    }


def add_error_handlers(app: FastAPI) -> None:
    """Register handlers that turn every error into a body of the wire contract."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _unexpected)
    for error in REFUSED:
        app.add_exception_handler(error, _refused)


def answer(error: ApiError) -> Response:
    """Return the error as a JSON response."""
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    if isinstance(refusal, EmitRefused) and refusal.rejected:
        await events.note_refused(request, refusal)
    return answer(refusal)


async def _http_error(request: Request, error: Exception) -> Response:
    """Return 404 for an unknown path, or 405 with the allowed methods."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == NotFound.status:
        return answer(NotFound())
    body = {"code": error.status_code, "message": error.detail}
    headers = error.headers
    if error.status_code == METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(sorted(_methods_at(request)))}  # the router lists the methods of one route only
    return JSONResponse(body, status_code=error.status_code, headers=headers)


def _methods_at(request: Request) -> set[str]:
    """Return the methods of all routes at the request's path.

    If several path templates match, the most concrete one counts, as in OpenAPI: the one with the fewest parameters,
    and with its parameters as early as possible, so `/event/batch` before `/event/{eventId}`.
    """
    methods: dict[str, set[str]] = {}
    for context in iter_route_contexts(request.app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.path_regex.match(request.scope["path"]):
            methods.setdefault(route.path_format, set()).update(route.methods or ())
    if not methods:
        return {"GET", "HEAD"}  # a static file: its mount is no APIRoute
    concrete = min(methods, key=lambda path: (path.count("{"), [step[:1] == "{" for step in path.split("/")[::-1]]))
    return methods[concrete]


async def _disconnected(request: Request, error: Exception) -> Response:
    """Return an empty 400: the client disconnected while sending its body, so the response is not read."""
    return Response(status_code=400)


async def _unexpected(request: Request, error: Exception) -> Response:
    """Return a bare 500 for a bug. The server logs the traceback; the response discloses no internals."""
    return JSONResponse({"code": 500, "message": "Internal Server Error"}, status_code=500)
