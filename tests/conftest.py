"""Fixtures every test may use: a migrated database of its own, Temporal servers. And how the run treats its tests.

Tests marked `stack` share one pytest-xdist worker, so they run one after the other and do not starve each other.
"""

import os
from collections.abc import AsyncIterator, Generator

import pytest
from temporalio.testing import WorkflowEnvironment

from storage.database import Database
from tests.databases import cloned_database, migrated_template, sqlalchemy_url
from tests.ground import Ground
from tests.postgres_server import TestServer
from tests.temporal import real_server, skipping_server


def pytest_configure(config: pytest.Config) -> None:
    """One PostgreSQL server for the run, which the workers of pytest-xdist find in their environment."""
    if "TEST_POSTGRES_URL" not in os.environ and not config.option.collectonly:
        server = TestServer()
        os.environ["TEST_POSTGRES_URL"] = server.url
        config.add_cleanup(server.stop)


@pytest.fixture(scope="session")
async def database_template() -> AsyncIterator[str]:
    async with migrated_template() as name:
        yield name


@pytest.fixture
async def database_url(database_template: str) -> AsyncIterator[str]:
    """postgresql:// address of a fresh database at head."""
    async with cloned_database(database_template) as url:
        yield url


@pytest.fixture(scope="module")
async def module_database_url(database_template: str) -> AsyncIterator[str]:
    """One database for all tests of a module, which clear it themselves: a tenth of the cost of a fresh one."""
    async with cloned_database(database_template) as url:
        yield url


@pytest.fixture
async def cleared_url(module_database_url: str) -> str:
    """The module's database, with a store and nothing else in it."""
    database = Database(sqlalchemy_url(module_database_url), pool_size=1)
    ground = Ground(database)
    await ground.clear()
    await ground.add_store()
    await database.close()
    return module_database_url


@pytest.fixture
async def ground(cleared_url: str) -> AsyncIterator[Ground]:
    """The module's database, cleared, and what a test does with it."""
    database = Database(sqlalchemy_url(cleared_url), pool_size=5)
    yield Ground(database)
    await database.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database at head."""
    database = Database(sqlalchemy_url(database_url), pool_size=5)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    """The real Temporal server, one for the session."""
    async with real_server() as environment:
        yield environment


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """The time-skipping Temporal server, a fresh one: its clock is the test's own."""
    async with skipping_server() as environment:
        yield environment


def pytest_itemcollected(item: pytest.Item) -> None:
    """Here, since pytest-xdist reads the groups as soon as all items are collected, before us."""
    if item.get_closest_marker("stack") is not None:
        item.add_marker(pytest.mark.xdist_group("stack"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for_root = [item for item in items if item.get_closest_marker("root") is not None]
        config.hook.pytest_deselected(items=for_root)
        items[:] = [item for item in items if item not in for_root]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be missing (LOYALTY_WEBHOOKS_NO_SKIP=1, as in the CI) a skipped test has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("LOYALTY_WEBHOOKS_NO_SKIP") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, which this run does not allow: {report.longrepr}"
    return report
