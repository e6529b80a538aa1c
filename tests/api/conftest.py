"""Fixtures of the API's tests."""

from collections.abc import AsyncIterator

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.api.acting import ActionStarts, acting_installation, in_a_new_store
from tests.api.installation import Installation, Shop, installation
from tests.databases import cloned_database


@pytest.fixture(scope="session")
async def shared_database(database_template: str) -> AsyncIterator[str]:
    """Address of one database for all tests of the API that keep to stores of their own."""
    async with cloned_database(database_template) as url:
        yield url


@pytest.fixture(scope="session")
async def installed(shared_database: str) -> AsyncIterator[Installation]:
    """An API over the shared database."""
    async with installation(shared_database) as started:
        yield started


@pytest.fixture
async def shop(installed: Installation) -> Shop:
    """A fresh store and its administrator."""
    return await installed.shop()


@pytest.fixture(scope="module")
async def acting_installed(database_template: str, temporal: WorkflowEnvironment) -> AsyncIterator[ActionStarts]:
    """API and worker together, for what a person does."""
    async with cloned_database(database_template) as url, acting_installation(url, temporal) as started:
        yield started


@pytest.fixture
async def acting(acting_installed: ActionStarts) -> ActionStarts:
    """The same, seen from a store of the test's own."""
    return await in_a_new_store(acting_installed)
