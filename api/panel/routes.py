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
    """One route. Every page stands below a store, so that menu and links know it; `everywhere` opens it only to those
    who may enter every store, because it shows or changes what belongs to the installation. Without a scope it is for
    everybody who is logged in: what concerns themselves alone."""

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
        """`module.function` of its handler."""
        return f"{self.handler.__module__.rpartition('.')[2]}.{self.handler.__name__}"

    @property
    def parameters(self) -> list[str]:
        """Names of the path's parameters."""
        return _PARAMETER.findall(self.path)
