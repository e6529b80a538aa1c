"""Request to a page of the panel, its response, and the decorators that register page handlers.

    pages = PanelRoutes()

    @pages.get("/{storeCode}/webhooks", Scope.SUBSCRIPTION_READ)
    async def listed(page: Page) -> Response: ...

The name of a route is `module.function`, such as `webhooks.listed`; `page.url` makes links from it.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.errors import ApiError, ValidationFailed
from api.ids import parse_id
from api.listing import Listing, ListQuery
from api.panel.forms import Form
from api.panel.menu import Group, may_open, menu_of
from api.panel.moments import edge
from api.panel.rendering import Renderer
from api.panel.routes import PanelRoute
from api.panel.sessions import PATH, BrowserToken
from api.resources import Resources
from domain.access import Principal, Scope, role_of
from storage.access.sessions import say_next
from storage.access.tables import Store
from storage.listing import ListField

SEE_OTHER = 303


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

    @property
    def store_code(self) -> str:
        """Return the code of the path's store."""
        return self.store.code

    @property
    def actor(self) -> str:
        """Return the person's name in the audit log."""
        return self.principal.actor

    @property
    def zone(self) -> ZoneInfo:
        """Return the store's time zone, in which times are shown and dates are read."""
        return ZoneInfo(self.store.timezone)

    @property
    def role(self) -> str | None:
        """Return the name of the role with exactly this person's scopes, or None."""
        return role_of(self.principal.scopes)

    @property
    def menu(self) -> Iterable[Group]:
        """Return the menu entries that this person may open."""
        return menu_of(self.routes, self.principal)

    @property
    def form_id(self) -> str:
        """Return a new id for a form of single use (`api/panel/once.py`)."""
        return str(uuid4())

    def may(self, scope: str) -> bool:
        """Return True if this person holds the right, such as `subscription:write`; for templates."""
        return self.principal.may(Scope(scope))

    def may_open(self, route: str) -> bool:
        """Return True if the route exists and this person may open it; for templates."""
        return route in self.routes and may_open(self.routes[route], self.principal)

    def path(self, name: str) -> str:
        """Return a parameter of the path as text."""
        return str(self.request.path_params[name])

    def id(self, name: str) -> UUID:
        """Return a parameter of the path as an id. Raises NotFound if it is none."""
        return parse_id(self.path(name))

    def url(self, route: str, query: Mapping[str, object] | None = None, **parameters: object) -> str:
        """Return the address of a route by its name, in this store unless `storeCode` is given."""
        address = self.routes[route].path
        for name, value in {"storeCode": self.store_code, **parameters}.items():
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
        same = self.route.method == "GET" and self.route.parameters == ["storeCode"]
        return (
            self.url(self.route.name, storeCode=store_code) if same else f"{PATH}/?{urlencode({'store': store_code})}"
        )

    def listing(
        self, fields: Mapping[str, ListField], *, cursor: bool = False, besides: Collection[str] = ()
    ) -> Listing:
        """Parse the list query of this page's address, in the API's grammar.

        Empty filters are ignored. `field[from]` and `field[to]` take days or minutes in the store's time zone. Problems
        are shown above the page, and the query is then ignored. `besides` names parameters of the page itself.
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
        return f"{field_name}[{'lt' if last else 'gte'}]", found.isoformat()

    @property
    def filtered(self) -> bool:
        """Return True if the address contains a filter."""
        return any(value and not name.startswith("_") for name, value in self.request.query_params.multi_items())

    def sorted_by(self, name: str) -> str:
        """Return the address of the list's first page ordered by the field; the other direction if it is already."""
        key = f"_orderBy[{name}]"
        now = self.request.query_params.get(key)
        others = {other: None for other in self.request.query_params if other.startswith("_orderBy")}
        return self.here({**others, "_page": None, key: "desc" if now == "asc" else "asc"})

    def refused(self, error: ApiError) -> None:
        """Record an error for the page to show: beside its field, or above the form if it has no field."""
        if isinstance(error, ValidationFailed):
            self.errors |= {problem.path: problem.message for problem in reversed(error.problems)}
        else:
            self.errors[""] = error.message

    def render(self, template: str, status: int = 200, *, inline_styles: bool = False, **values: Any) -> Response:
        """Render the page.

        `inline_styles` extends the content security policy for the chart library, which writes style attributes, and
        style elements with the template's `style_nonce`.
        """
        return self.renderer.page(self.request, template, status, inline_styles=inline_styles, page=self, **values)

    def fragment(self, template: str, status: int = 200, **values: Any) -> Response:
        """Render a template without the frame, for a script to insert into the page."""
        return self.renderer.page(self.request, template, status, page=self, **values)

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
        async with self.resources.database.transaction() as connection:
            await say_next(connection, self.token.value, {"kind": kind, "text": text})
        return self.redirect(route, query, **parameters)


Handler = Callable[[Page], Awaitable[Response]]


class PanelRoutes:
    """Registry of the routes of one module of pages."""

    def __init__(self) -> None:
        self.routes: list[PanelRoute] = []

    def get(self, path: str, scope: Scope | None, *, everywhere: bool = False) -> Callable[[Handler], Handler]:
        """Register a read-only page."""
        return self._added("GET", path, scope, everywhere)

    def post(self, path: str, scope: Scope | None, *, everywhere: bool = False) -> Callable[[Handler], Handler]:
        """Register the target of a form. Its CSRF token is checked before the handler runs."""
        return self._added("POST", path, scope, everywhere)

    def _added(self, method: str, path: str, scope: Scope | None, everywhere: bool) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.routes.append(PanelRoute(method, path, scope, everywhere, handler))
            return handler

        return add


def _query(parameters: Mapping[str, object]) -> str:
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""
