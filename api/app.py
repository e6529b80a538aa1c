"""The API's frame: routers, resources, and how errors become answers."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from temporalio.service import RPCError, RPCStatusCode

from api.body import problem_of
from api.docs import add_docs
from api.errors import ApiError, NotFound, Unavailable, ValidationFailed
from api.resources import open_resources, url_rules
from api.routes import (
    access_keys,
    acts,
    deliveries,
    event_types,
    events,
    expiry,
    explain,
    login,
    operations,
    schedules,
    stores,
    subscription_sets,
    subscriptions,
    window_acts,
)
from api.url_check import Lookup
from settings import Settings
from storage.sealing import SealBrokenError
from storage.unavailable import is_unavailable

ROUTERS: tuple[APIRouter, ...] = (
    login.router,
    access_keys.router,
    stores.router,
    subscriptions.router,
    subscription_sets.router,
    event_types.router,
    events.router,
    expiry.router,
    schedules.router,
    deliveries.router,
    acts.router,
    window_acts.router,
    explain.router,
    operations.router,
)
"""Every router of the API, in the order of the documentation."""

logger = logging.getLogger(__name__)

SEAL_RETRY_SECONDS = 60  # somebody has to set the key first
METHOD_NOT_ALLOWED = 405
DATABASE_ERRORS = (DBAPIError, PoolTimeoutError, OSError)
TEMPORAL_IS_DOWN = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


def create_app(settings: Settings, lookup: Lookup | None = None) -> FastAPI:
    """The application; its lifespan opens and closes the resources, and needs neither database nor Temporal for it.

    `lookup` resolves names when a subscription's URL is checked; the system's resolver unless given.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings, lookup) as resources:
            app.state.resources = resources
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for router in ROUTERS:
        app.include_router(router)
    add_docs(app, url_rules(settings))
    add_error_handlers(app)
    return app


def add_error_handlers(app: FastAPI) -> None:
    """Every error becomes a body of the contract."""
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(SealBrokenError, _seal_broken)
    app.add_exception_handler(RPCError, _temporal_error)
    app.add_exception_handler(Exception, _our_mistake)
    for error in DATABASE_ERRORS:
        app.add_exception_handler(error, _database_error)


def answer(error: ApiError) -> Response:
    """The response that says so."""
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return answer(error)


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    """A path, query or header parameter that FastAPI validated; its path starts with where it was found."""
    if not isinstance(error, RequestValidationError):
        raise error
    problems = [problem_of({**details, "loc": tuple(details["loc"])[1:]}) for details in error.errors()]
    return answer(ValidationFailed(problems))


async def _http_error(request: Request, error: Exception) -> Response:
    """No route (404) or not with this method (405)."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == NotFound.status:
        return answer(NotFound())
    body = {"code": error.status_code, "message": error.detail}
    headers = error.headers
    if error.status_code == METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(sorted(_methods_at(request)))}  # the router names those of one route only
    return JSONResponse(body, status_code=error.status_code, headers=headers)


def _methods_at(request: Request) -> set[str]:
    """The methods of all routes at this path. Of several paths that fit it the plainest counts, as in OpenAPI: with the
    fewest parameters, those as early as can be, so `/event/batch` before `/event/{eventId}`."""
    methods: dict[str, set[str]] = {}
    for context in iter_route_contexts(request.app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.path_regex.match(request.scope["path"]):
            methods.setdefault(route.path_format, set()).update(route.methods or ())
    return methods[min(methods, key=_parameters_from_the_end)]


def _parameters_from_the_end(path: str) -> tuple[int, list[bool]]:
    return path.count("{"), [step.startswith("{") for step in reversed(path.split("/"))]


async def _database_error(request: Request, error: Exception) -> Response:
    if not is_unavailable(error):
        raise error
    return answer(Unavailable("The database cannot be reached or cannot write at the moment; try again."))


async def _seal_broken(request: Request, error: Exception) -> Response:
    """Stored with a key this process was not given: passes as soon as an operator gives it."""
    logger.error("cannot decrypt what is stored: %s", error)
    return answer(Unavailable("What is stored cannot be decrypted: ENCRYPTION_KEYS lacks a key.", SEAL_RETRY_SECONDS))


async def _temporal_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RPCError) or error.status not in TEMPORAL_IS_DOWN:
        raise error
    return answer(Unavailable("Temporal cannot be reached at the moment; try again."))


async def _gone(request: Request, error: Exception) -> Response:
    """The caller went away in the middle of its body; nobody reads this."""
    return Response(status_code=400)


async def _our_mistake(request: Request, error: Exception) -> Response:
    """A bug. The server logs it with its traceback; the caller learns nothing of our inside."""
    return JSONResponse({"code": 500, "message": "Internal Server Error"}, status_code=500)
