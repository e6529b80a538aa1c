"""How a page group says its routes, each with who may use it.

pages = PanelRoutes()

@pages.get("/{storeCode}/webhooks", Scope.SUBSCRIPTION_READ)
async def listed(page: Page) -> Response: ...

The route's name is `module.function`, such as `webhooks.listed`; links are made from it (`page.url`).
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from domain.access import Scope

if TYPE_CHECKING:
    from api.panel.page import Page

Handler = Callable[["Page"], Awaitable[Response]]
OF_A_STORE = "/{storeCode}/"
_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class PanelRoute:
    """One route. Every page stands below a store, so that menu and links know it; `everywhere` opens it only to those
    who may enter every store, because it shows or changes what belongs to the installation. Without a scope it is for
    everybody who is logged in: what concerns themselves alone."""

    method: str
    path: str
    scope: Scope | None
    everywhere: bool
    handler: Handler

    def __post_init__(self) -> None:
        if not self.path.startswith(OF_A_STORE):
            raise ValueError(f"{self.path}: a page's path starts with {OF_A_STORE}")

    @property
    def name(self) -> str:
        """`module.function` of its handler."""
        return f"{self.handler.__module__.rpartition('.')[2]}.{self.handler.__name__}"

    @property
    def parameters(self) -> list[str]:
        """Names of the path's parameters."""
        return _PARAMETER.findall(self.path)


class PanelRoutes:
    """The routes of one page group."""

    def __init__(self) -> None:
        self.routes: list[PanelRoute] = []

    def get(self, path: str, scope: Scope | None, *, everywhere: bool = False) -> Callable[[Handler], Handler]:
        """A page that is looked at; it changes nothing."""
        return self._added("GET", path, scope, everywhere)

    def post(self, path: str, scope: Scope | None, *, everywhere: bool = False) -> Callable[[Handler], Handler]:
        """What a form does; its CSRF token has been checked."""
        return self._added("POST", path, scope, everywhere)

    def _added(self, method: str, path: str, scope: Scope | None, everywhere: bool) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.routes.append(PanelRoute(method, path, scope, everywhere, handler))
            return handler

        return add
