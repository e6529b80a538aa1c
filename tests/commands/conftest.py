"""Fixtures of commands that speak to an API: one is served for all tests of a module, each with a store of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.installation import installation
from tests.api.serving import serving
from tests.commands.filed import Filed, Served


@pytest.fixture(scope="module")
async def served(module_database_url: str) -> AsyncIterator[Served]:
    async with installation(module_database_url) as installed, serving(installed.app) as root:
        yield Served(installed, root)


@pytest.fixture
async def filed(served: Served, tmp_path: Path) -> Filed:
    return Filed(await served.installed.shop(), served.root, served.installed.admin_key, tmp_path)
