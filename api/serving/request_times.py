"""Middleware that measures the API's response times, for `/metrics`."""

from time import perf_counter

from prometheus_client import Histogram
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RequestTimes:
    """Observes the duration of every request, those of the panel included."""

    def __init__(self, app: ASGIApp, seconds: Histogram) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # of a defect, whose response is made outside of this middleware
        started = perf_counter()

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_status)
        finally:
            self._seconds.labels(_route(scope), status).observe(perf_counter() - started)


def _route(scope: Scope) -> str:
    """Return the method and path template, such as `GET /api/{storeCode}/event/{eventId}`."""
    route = scope.get("route")
    if isinstance(route, Route) and scope["method"] in (route.methods or ()):
        return f"{scope['method']} {scope.get('root_path', '')}{route.path}"
    return "other"  # an unknown path, a refused method or a static file: a client may make these up
