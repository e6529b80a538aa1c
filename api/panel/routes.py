"""Routes of the panel and the right each needs. `PanelRoutes` in `api/panel/page.py` registers them."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from domain.access import Scope

OF_A_STORE = "/{storeCode}/"
_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class PanelRoute:
    """Route of the panel.

    Every path starts with a store, which menu and links need. `everywhere` admits only people who may enter every
    store, for pages about the whole installation. Without a scope the route is open to everybody who is logged in, for
    pages about their own account.
    """

    method: str
    path: str
    scope: Scope | None
    everywhere: bool
    handler: Callable[[Any], Awaitable[Response]]

    def __post_init__(self) -> None:
        if not self.path.startswith(OF_A_STORE):
            raise ValueError(f"{self.path}: a page's path starts with {OF_A_STORE}")

    @property
    def name(self) -> str:
        """Return the `module.function` of the handler."""
        return f"{self.handler.__module__.rpartition('.')[2]}.{self.handler.__name__}"

    @property
    def parameters(self) -> list[str]:
        """Return the names of the path's parameters."""
        return _PARAMETER.findall(self.path)
