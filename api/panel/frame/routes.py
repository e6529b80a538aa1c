"""Routes of the panel with the right each needs, and the menu. `PanelRoutes` in `page.py` registers them."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.responses import Response

from domain.access import ALL_STORES, Principal, Scope

OF_A_STORE = "/{storeCode}/"
_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class PanelRoute:
    """Route of the panel.

    Every path starts with a store, which menu and links need. `everywhere` admits only people who may enter every
    store, for pages about the whole installation. Without a scope the route is open to everybody who is logged in, for
    pages about their own account. `refused` shows refusals of the handler: a handler renders its form again, the name
    of a route is redirected to with a notice.
    """

    method: str
    path: str
    scope: Scope | None
    handler: Callable[[Any], Awaitable[Response]]
    everywhere: bool = False
    refused: Callable[[Any], Awaitable[Response]] | str | None = None

    def __post_init__(self) -> None:
        if not self.path.startswith(OF_A_STORE):
            raise ValueError(f"{self.path}: a page's path starts with {OF_A_STORE}")

    @property
    def name(self) -> str:
        """Return the `module.function` of the handler, such as `webhooks.listed`."""
        return f"{self.handler.__module__.rpartition('.')[2]}.{self.handler.__name__}"

    @property
    def parameters(self) -> list[str]:
        """Return the names of the path's parameters."""
        return _PARAMETER.findall(self.path)

    def open_to(self, principal: Principal) -> bool:
        """Return True if the principal may use the route in a store that they may enter."""
        held = self.scope is None or principal.may(self.scope)
        return held and (not self.everywhere or ALL_STORES in principal.stores)


class MenuEntry(NamedTuple):
    """Menu entry: the names of its text, of its route and of its icon (Font Awesome)."""

    text: str
    route: str
    icon: str


MENU: Mapping[str, list[MenuEntry]] = {
    "frame.menu_watch": [
        MenuEntry("frame.menu_dashboard", "dashboard.shown", "fa-chart-line"),
        MenuEntry("frame.menu_deliveries", "deliveries.listed", "fa-paper-plane"),
        MenuEntry("frame.menu_expiring", "expiring.shown", "fa-hourglass-half"),
        MenuEntry("frame.menu_recover", "recover.started", "fa-rotate-left"),
    ],
    "frame.menu_settings": [
        MenuEntry("frame.menu_webhooks", "webhooks.listed", "fa-link"),
        MenuEntry("frame.menu_events", "event_types.listed", "fa-bolt"),
        MenuEntry("frame.menu_migrate", "migrate.listed", "fa-right-left"),
        MenuEntry("frame.menu_store", "stores.shown", "fa-store"),
        MenuEntry("frame.menu_keys", "people.keys", "fa-key"),
        MenuEntry("frame.menu_administrators", "people.administrators", "fa-users"),
        MenuEntry("frame.menu_audit", "audit.listed", "fa-clipboard-list"),
    ],
}
"""Menu entries below the names of their headings' texts."""


def menu_of(routes: Mapping[str, PanelRoute], principal: Principal) -> Iterator[tuple[str, list[MenuEntry]]]:
    """Yield the headings of the menu with the entries that the principal may open."""
    for heading, entries in MENU.items():
        if opened := [entry for entry in entries if routes[entry.route].open_to(principal)]:
            yield heading, opened
