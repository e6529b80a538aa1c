"""A request to a page of the panel and its answer, and the decorators that register page handlers.

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
from storage.listing import ListField
from storage.operations.stores import StoreRow

SEE_OTHER = 303


@dataclass
class Page:
    """A request to a page of a store, by somebody who may."""

    request: Request
    resources: Resources
    renderer: Renderer
    routes: Mapping[str, PanelRoute]
    token: BrowserToken
    principal: Principal
    store: StoreRow
    stores: list[StoreRow]
    """All that this person may enter."""
    route: PanelRoute
    form: Form
    notice: Mapping[str, str] | None = None
    """What was done before this page was opened: `kind` (success, warning, danger) and `text`."""
    errors: dict[str, str] = field(default_factory=dict)
    """What is wrong with the form, by the API's paths; the field macros show it."""

    @property
    def store_code(self) -> str:
        """The store of the path."""
        return self.store.code

    @property
    def actor(self) -> str:
        """Who, as the audit names it."""
        return self.principal.actor

    @property
    def zone(self) -> ZoneInfo:
        """The store's time zone, in which times are shown and dates are read."""
        return ZoneInfo(self.store.timezone)

    @property
    def role(self) -> str | None:
        """Name of the role that has exactly this person's scopes; None where none has."""
        return role_of(self.principal.scopes)

    @property
    def menu(self) -> Iterable[Group]:
        """What this person may open."""
        return menu_of(self.routes, self.principal)

    @property
    def form_id(self) -> str:
        """A new name for a form that is taken once (`api/panel/once.py`)."""
        return str(uuid4())

    def may(self, scope: str) -> bool:
        """For templates: whether this person holds the right, such as `subscription:write`."""
        return self.principal.may(Scope(scope))

    def may_open(self, route: str) -> bool:
        """For templates: whether there is such a page, and this person may open it."""
        return route in self.routes and may_open(self.routes[route], self.principal)

    def path(self, name: str) -> str:
        """A parameter of the path, as text."""
        return str(self.request.path_params[name])

    def id(self, name: str) -> UUID:
        """A parameter of the path that is an id; raises NotFound when it is none."""
        return parse_id(self.path(name))

    def url(self, route: str, query: Mapping[str, object] | None = None, **parameters: object) -> str:
        """Address of a page, by its route's name; the store is this one unless `storeCode` is given."""
        address = self.routes[route].path
        for name, value in {"storeCode": self.store_code, **parameters}.items():
            address = address.replace(f"{{{name}}}", quote(str(value), safe=""))
        return PATH + address + _query(query or {})

    def here(self, changes: Mapping[str, object] | None = None) -> str:
        """This page's address with its query changed; None takes a parameter away."""
        changed = {**dict(self.request.query_params.multi_items()), **(changes or {})}
        return self.request.url.path + _query(changed)

    def is_current(self, route: str) -> bool:
        """For the menu: whether this page is that one, or stands below it."""
        path = self.routes[route].path
        return self.route.path == path or self.route.path.startswith(f"{path}/")

    def switch_to(self, store_code: str) -> str:
        """The same page of another store, or the start where the page shows something of this store alone."""
        same = self.route.method == "GET" and self.route.parameters == ["storeCode"]
        return (
            self.url(self.route.name, storeCode=store_code) if same else f"{PATH}/?{urlencode({'store': store_code})}"
        )

    def listing(
        self, fields: Mapping[str, ListField], *, cursor: bool = False, besides: Collection[str] = ()
    ) -> Listing:
        """The list this page's address asks for, in the API's grammar. Empty filters ask for nothing; the days (or
        minutes) of `field[from]` and `field[to]` are those of the store. What is wrong is said above the page and left
        out. Parameters `besides` these belong to the page."""
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
        """`field[from]=2026-01-02` as `field[gte]=2026-01-02T00:00:00+01:00`; anything else as it is."""
        field_name, _, end = name.partition("[")
        if end not in ("from]", "to]"):
            return name, value
        last = end == "to]"
        found = edge(value, self.zone, f"{field_name}.{end[:-1]}", last=last)
        return f"{field_name}[{'lt' if last else 'gte'}]", found.isoformat()

    @property
    def filtered(self) -> bool:
        """Whether the address holds a filter."""
        return any(value and not name.startswith("_") for name, value in self.request.query_params.multi_items())

    def sorted_by(self, name: str) -> str:
        """This list ordered by the field, first page; a second time the other way round."""
        key = f"_orderBy[{name}]"
        now = self.request.query_params.get(key)
        others = {other: None for other in self.request.query_params if other.startswith("_orderBy")}
        return self.here({**others, "_page": None, key: "desc" if now == "asc" else "asc"})

    def refused(self, error: ApiError) -> None:
        """Keep what is wrong, for the page to show: beside its field, or above the form for what is of no field."""
        if isinstance(error, ValidationFailed):
            self.errors |= {problem.path: problem.message for problem in reversed(error.problems)}
        else:
            self.errors[""] = error.message

    def render(self, template: str, status: int = 200, *, inline_styles: bool = False, **values: Any) -> Response:
        """The page. `inline_styles` lets its content security policy pass the styles that a library of charts writes:
        attributes, and elements with the template's `style_nonce`."""
        return self.renderer.page(self.request, template, status, inline_styles=inline_styles, page=self, **values)

    def fragment(self, template: str, status: int = 200, **values: Any) -> Response:
        """A template without the frame around it, for scripts to put into the page."""
        return self.renderer.page(self.request, template, status, page=self, **values)

    def redirect(self, route: str, query: Mapping[str, object] | None = None, **parameters: object) -> Response:
        """Go to a page, by its route's name."""
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
        """Go to a page, which says this once."""
        async with self.resources.database.transaction() as connection:
            await say_next(connection, self.token.value, {"kind": kind, "text": text})
        return self.redirect(route, query, **parameters)


Handler = Callable[[Page], Awaitable[Response]]


class PanelRoutes:
    """Registers the routes of one module of pages."""

    def __init__(self) -> None:
        self.routes: list[PanelRoute] = []

    def get(self, path: str, scope: Scope | None, *, everywhere: bool = False) -> Callable[[Handler], Handler]:
        """Register a page to read; it changes nothing."""
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
