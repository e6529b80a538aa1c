"""Fixtures of the panel's tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.api.acting import ActionStarts
from tests.api.conftest import acting, acting_installed, installed, shared_database, shop
from tests.api.installation import Installation, Names, Shop
from tests.panel.visitor import Visitor, visitor

__all__ = ["acting", "acting_installed", "installed", "shared_database", "shop"]

Visit = Callable[..., Awaitable[Visitor]]


@pytest.fixture
async def visit(installed: Installation, shop: Shop) -> Visit:
    """`await visit("viewer")`: somebody of that role who is logged in; `stores` are the shop's alone unless given."""

    async def logged_in(role: str = "admin", stores: tuple[str, ...] | None = None) -> Visitor:
        return await visitor(installed, role, stores or (shop.store,))

    return logged_in


@pytest.fixture
async def editor(acting: ActionStarts) -> AsyncIterator[Visitor]:
    """An editor at the panel of an installation with a worker."""
    async with AsyncExitStack() as closing:
        installed = Installation(acting.api.app, acting.api.database, Names(), closing)
        yield await visitor(installed, "editor", (acting.api.store,))
