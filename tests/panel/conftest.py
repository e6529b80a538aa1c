"""Fixtures of the panel's tests."""

from collections.abc import Awaitable, Callable

import pytest

from tests.api.conftest import installed, shared_database, shop
from tests.api.installation import Installation, Shop
from tests.panel.visitor import Visitor, visitor

__all__ = ["installed", "shared_database", "shop"]

Visit = Callable[..., Awaitable[Visitor]]


@pytest.fixture
async def visit(installed: Installation, shop: Shop) -> Visit:
    """`await visit("viewer")`: somebody of that role who is logged in; `stores` are the shop's alone unless given."""

    async def logged_in(role: str = "admin", stores: tuple[str, ...] | None = None) -> Visitor:
        return await visitor(installed, role, stores or (shop.store,))

    return logged_in
