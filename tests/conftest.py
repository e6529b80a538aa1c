"""Fixtures every test may use: a migrated database of its own, Temporal servers. And how the run treats its tests.

Tests marked `stack` share one pytest-xdist worker, so they run one after the other and do not starve each other.
"""

import os
from collections.abc import AsyncIterator, Generator
from functools import cache
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from storage.database import Database
from tests.databases import cloned_database, migrated_template, sqlalchemy_url
from tests.ground import Ground
from tests.postgres_server import TestServer
from tests.receiver import Receiver
from tests.temporal_server import real_server, skipping_server


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


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A recording HTTP server, the destination of deliveries."""
    async with Receiver() as started:
        yield started


class _FilesInTurn(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """A file's tests share one pytest-xdist worker, and all files with tests marked `stack` share one.

    pytest-xdist's own `loadgroup` is not it: with pytest 9.2 its groups are not seen (it sets `Item._nodeid`).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "stack" if _starts_stacks(self.config.rootpath / file) else file


@cache
def _starts_stacks(file: Path) -> bool:
    return "pytest.mark.stack" in file.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _FilesInTurn(config, log)


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
