"""Menu of the panel. An entry is shown when its route exists and the person may open it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from api.panel.routes import PanelRoute
from domain.access import ALL_STORES, Principal


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """Menu entry: the names of its text, of its route and of its icon (Font Awesome)."""

    text: str
    route: str
    icon: str


@dataclass(frozen=True, slots=True)
class Group:
    """Menu entries below a heading."""

    text: str
    entries: tuple[MenuEntry, ...]


MENU: tuple[Group, ...] = (
    Group(
        "frame.menu_watch",
        (
            MenuEntry("frame.menu_dashboard", "dashboard.shown", "fa-chart-line"),
            MenuEntry("frame.menu_deliveries", "deliveries.listed", "fa-paper-plane"),
            MenuEntry("frame.menu_expiring", "expiring.shown", "fa-hourglass-half"),
            MenuEntry("frame.menu_recover", "recover.started", "fa-rotate-left"),
        ),
    ),
    Group(
        "frame.menu_settings",
        (
            MenuEntry("frame.menu_webhooks", "webhooks.listed", "fa-link"),
            MenuEntry("frame.menu_migrate", "migrate.listed", "fa-right-left"),
            MenuEntry("frame.menu_store", "stores.shown", "fa-store"),
            MenuEntry("frame.menu_keys", "people.keys", "fa-key"),
            MenuEntry("frame.menu_administrators", "people.administrators", "fa-users"),
            MenuEntry("frame.menu_audit", "audit.listed", "fa-clipboard-list"),
        ),
    ),
)


def may_open(route: PanelRoute, principal: Principal) -> bool:
    """Return True if the principal may use the route in a store that they may enter."""
    held = route.scope is None or principal.may(route.scope)
    return held and (not route.everywhere or ALL_STORES in principal.stores)


def menu_of(routes: Mapping[str, PanelRoute], principal: Principal) -> Iterator[Group]:
    """Yield the groups of the menu with the entries that the principal may open."""
    for group in MENU:
        entries = tuple(
            entry for entry in group.entries if entry.route in routes and may_open(routes[entry.route], principal)
        )
        if entries:
            yield Group(group.text, entries)
