"""Request to a page of the panel, its response, and the decorators that register page handlers (CONTRIBUTING.md)."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.errors import ApiError, Conflict, TooManyAttempts, TooManyTests, Unavailable, ValidationFailed, existing
from api.ids import parse_id
from api.listing import Listing, ListQuery
from api.panel.frame.forms import Form, edge
from api.panel.frame.rendering import Renderer
from api.panel.frame.routes import PanelRoute
from api.panel.frame.sessions import PATH, BrowserToken
from api.panel.texts import t
from api.resources import Resources
from domain.access import Principal, Scope
from storage.access.idempotency import claim_key
from storage.access.sessions import say_next
from storage.access.tables import Store
from storage.listing import ListField

SEE_OTHER = 303
FORM_ID = "formId"
"""Field with the id of one rendered form (`macros.html`)."""
REFUSALS = (ValidationFailed, Conflict, TooManyAttempts, TooManyTests, Unavailable)
"""Errors that the person can correct or wait for. All others get an error page."""

P = ParamSpec("P")
T = TypeVar("T")
StoreQuery: TypeAlias = Callable[Concatenate[AsyncConnection, str, P], Awaitable[T]]
"""Function that takes a connection, the code of a store, and arguments of its own."""


@dataclass
class Page:
    """Authorized request to a page of a store."""

    request: Request
    resources: Resources
    renderer: Renderer
    routes: Mapping[str, PanelRoute]
    token: BrowserToken
    principal: Principal
    store: Store
    stores: list[Store]
    """All stores that the person may enter."""
    route: PanelRoute
    form: Form
    notice: Mapping[str, str] | None = None
    """Result of the previous form, shown once: `kind` (success, warning, danger) and `text`."""
    errors: dict[str, str] = field(default_factory=dict)
    """Problems of the form by the API's paths; the field macros show them."""
    status: int = 200

    @property
    def store_code(self) -> str:
        """Return the code of the path's store."""
        return self.store.code

    @property
    def zone(self) -> ZoneInfo:
        """Return the store's time zone, in which times are shown and dates are read."""
        return ZoneInfo(self.store.timezone)

    def may(self, scope: str) -> bool:
        """Return True if this person holds the right, such as `subscription:write`; for templates."""
        return self.principal.may(Scope(scope))

    def may_open(self, route: str) -> bool:
        """Return True if this person may open the route; for templates."""
        return self.routes[route].open_to(self.principal)

    def query(self, name: str) -> str:
        """Return a parameter of the query, empty if it is missing."""
        return self.request.query_params.get(name, "")

    def id(self, name: str) -> UUID:
        """Return a parameter of the path as an id. Raises NotFound if it is none."""
        return parse_id(self.request.path_params[name])

    def actions(self, service: Callable[[Resources, str, str], T]) -> T:
        """Return a service's operator actions on this store, audited under this person's name."""
        return service(self.resources, self.store_code, self.principal.actor)

    async def read(self, query: StoreQuery[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of a query about this store, in a transaction of its own."""
        return await self.resources.database.run(query, self.store_code, *args, **kwargs)

    async def found(self, query: StoreQuery[P, T | None], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of a query about this store. Raises NotFound if it is None."""
        return existing(await self.read(query, *args, **kwargs))

    def url(self, route: str, query: Mapping[str, object] | None = None, **parameters: object) -> str:
        """Return the address of a route by its name. Its path takes the parameters given, and others of this path."""
        address = self.routes[route].path
        for name, value in {**self.request.path_params, **parameters}.items():
            address = address.replace(f"{{{name}}}", quote(str(value), safe=""))
        return PATH + address + _query(query or {})

    def here(self, changes: Mapping[str, object] | None = None) -> str:
        """Return this page's address with changes to its query; None removes a parameter."""
        changed = {**dict(self.request.query_params.multi_items()), **(changes or {})}
        return self.request.url.path + _query(changed)

    def is_current(self, route: str) -> bool:
        """Return True if this page is the route's page or below it; for the menu."""
        path = self.routes[route].path
        return self.route.path == path or self.route.path.startswith(f"{path}/")

    def switch_to(self, store_code: str) -> str:
        """Return the address of the same page in another store, or of its start page if the page exists here only."""
        if self.route.method == "GET" and self.route.parameters == ["storeCode"]:
            return self.url(self.route.name, storeCode=store_code)
        return f"{PATH}/{_query({'store': store_code})}"

    def listing(
        self, fields: Mapping[str, ListField], *, cursor: bool = False, besides: Collection[str] = ()
    ) -> Listing:
        """Parse the list query of this page's address, in the API's grammar, without empty filters and `besides`.

        `field[from]` and `field[to]` take days or minutes in the store's time zone. Problems are shown above the page,
        and the query is then ignored.
        """
        query = ListQuery(fields, order=not cursor, cursor=cursor)
        parameters = [
            (name, value) for name, value in self.request.query_params.multi_items() if value and name not in besides
        ]
        try:
            return query.read([self._in_days(name, value) for name, value in parameters])
        except ValidationFailed as error:
            self.errors[""] = "; ".join(f"{problem.path} {problem.message}" for problem in error.problems)
            return Listing()

    def _in_days(self, name: str, value: str) -> tuple[str, str]:
        """Convert `field[from]=2026-01-02` to `field[gte]=2026-01-01T23:00:00+00:00`; return others unchanged."""
        field_name, _, end = name.partition("[")
        if end not in ("from]", "to]"):
            return name, value
        last = end == "to]"
        found = edge(value, self.zone, f"{field_name}.{end[:-1]}", last=last)
        return f"{field_name}[{'lt' if last else 'gte'}]", found.isoformat() if found else ""

    @property
    def filtered(self) -> bool:
        """Return True if the address contains a filter."""
        return any(value and not name.startswith("_") for name, value in self.request.query_params.multi_items())

    def sorted_by(self, name: str) -> str:
        """Return the address of the list's first page ordered by the field; the other direction if it is already."""
        key = f"_orderBy[{name}]"
        others = {other: None for other in self.request.query_params if other.startswith("_orderBy")}
        return self.here({**others, "_page": None, key: "desc" if self.query(key) == "asc" else "asc"})

    async def take_once(self, connection: AsyncConnection) -> None:
        """Use up the form in the transaction that performs it. Raises Conflict if it was used before.

        A second click or a reload would replace a key that was just shown. The id is stored longer than a session, and
        so any form, lasts.
        """
        try:
            form_id = UUID(self.form.text(FORM_ID))
        except ValueError:
            raise Conflict(t("frame.form_unnamed")) from None
        sender = f"{self.principal.kind}:{self.principal.id}"
        digest = sha256(self.route.name.encode()).digest()
        if await claim_key(connection, self.store_code, sender, f"form {form_id}", digest, form_id) is not None:
            raise Conflict(t("frame.form_taken"))

    def refused(self, error: ApiError) -> None:
        """Record an error for the page to show: beside its field, or above the form if it has no field."""
        if isinstance(error, ValidationFailed):
            for problem in error.problems:
                self.errors.setdefault(problem.path, problem.message)
        else:
            self.errors[""] = error.message

    async def answer(self) -> Response:
        """Return the handler's response, or show its refusal as the route declares."""
        try:
            return await self.route.handler(self)
        except REFUSALS as error:
            if self.route.refused is None:
                raise
            self.refused(error)
            self.status = error.status
        if isinstance(self.route.refused, str):
            return await self.done("; ".join(self.errors.values()), self.route.refused, kind="danger")
        return await self.route.refused(self)

    def render(self, template: str, **values: Any) -> Response:
        """Render the page, or a part of it that a script inserts."""
        return self.renderer.page(self.request, template, self.status, page=self, **values)

    def redirect(self, route: str, query: Mapping[str, object] | None = None, **parameters: object) -> Response:
        """Redirect to a page by its route's name."""
        return RedirectResponse(self.url(route, query, **parameters), SEE_OTHER)

    async def done(
        self,
        text: str,
        route: str,
        *,
        kind: str = "success",
        query: Mapping[str, object] | None = None,
        **parameters: object,
    ) -> Response:
        """Redirect to a page, which shows the text once."""
        await self.say(text, kind=kind)
        return self.redirect(route, query, **parameters)

    async def say(self, text: str, *, kind: str = "success") -> None:
        """Store a notice, which the next page shows once."""
        await self.resources.database.run(say_next, self.token.value, {"kind": kind, "text": text})


Handler = Callable[[Page], Awaitable[Response]]


class PanelRoutes:
    """Registry of the routes of one module of pages."""

    def __init__(self) -> None:
        self.routes: list[PanelRoute] = []

    def get(self, path: str, scope: Scope | None, **options: Any) -> Callable[[Handler], Handler]:
        """Register a read-only page. `options` are the other fields of `PanelRoute`."""
        return partial(self._add, "GET", path, scope, options)

    def post(self, path: str, scope: Scope | None, **options: Any) -> Callable[[Handler], Handler]:
        """Register the target of a form. Its CSRF token is checked before the handler runs."""
        return partial(self._add, "POST", path, scope, options)

    def _add(
        self, method: str, path: str, scope: Scope | None, options: Mapping[str, Any], handler: Handler
    ) -> Handler:
        self.routes.append(PanelRoute(method, path, scope, handler, **options))
        return handler


def _query(parameters: Mapping[str, object]) -> str:
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""
