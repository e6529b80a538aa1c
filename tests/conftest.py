"""Fixtures of all tests, and the selection of tests that need no server. CONTRIBUTING.md lists the fixtures."""

import gc
import os
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial

import certifi
import hypothesis
import pytest
from pwdlib.hashers.argon2 import Argon2Hasher
from temporalio.testing import WorkflowEnvironment
from xdist.remote import Producer

from storage.database import SERVER_SETTINGS, Database
from tests.browser import NO_CHROMIUM, installed_chromium
from tests.chaos import isolation
from tests.databases import cloned_database, migrated_template, server_url
from tests.ground import Ground
from tests.postgres_server import TestServer
from tests.receiver import Receiver
from tests.scheduling import FileScheduling, longest_first
from tests.temporal_server import new_namespace, real_server, skipping_server

SERVER_FIXTURES = frozenset({"postgres", "programs"})
"""Fixtures that stand for everything outside the test process. A fixture that needs a server requests one of them, so
that `--no-servers` finds the tests that depend on it."""

hypothesis.settings.register_profile(
    "by-outcome",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain],
)
"""Properties are judged by their outcome: on a loaded machine neither a slow example nor a slow draw is a failure.
To explain a failure Hypothesis traces every line of every example, which takes many times as long as the example."""

TEMPORAL_OF_NOBODY = "127.0.0.1:9"

GC_THRESHOLD = 50_000
"""New objects between two runs of the garbage collector. Python's default of 700 takes a fifth of the tests' CPU."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-servers",
        action="store_true",
        help="leave out the tests that need PostgreSQL, Temporal, a browser or npm, and start none of them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start one PostgreSQL server for the run; the pytest-xdist workers find its address in their environment."""
    gc.set_threshold(GC_THRESHOLD)
    hypothesis.settings.load_profile("by-outcome")
    # Else a test without Temporal would take the default, which is the one of a stack on this machine.
    os.environ["TEMPORAL_ADDRESS"] = TEMPORAL_OF_NOBODY
    needless = config.option.collectonly or config.option.no_servers
    if "TEST_POSTGRES_URL" not in os.environ and not needless:
        server = TestServer()
        os.environ["TEST_POSTGRES_URL"] = server.url
        config.add_cleanup(server.stop)


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Argon2id at its least cost in this process: a check takes 0.1 s of CPU by design, and hundreds are made."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = partial(Argon2Hasher, time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr("storage.access.passwords.Argon2Hasher", cheap)
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_databases() -> Iterator[None]:
    """Time for connections, look-ups and open transactions in this process while others keep the machine busy."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("storage.database", "storage.expiry.source"):
            patch.setattr(f"{module}.CONNECT_SECONDS", 30)
        patch.setitem(SERVER_SETTINGS, "idle_in_transaction_session_timeout", "60000")
        patch.setattr("api.login.principals.LOOK_UP_SECONDS", 60.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def few_authorities() -> Iterator[None]:
    """One public authority in this process instead of 140, which each TLS context of a sender would read anew."""
    with pytest.MonkeyPatch.context() as patch:
        first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
        patch.setattr("sending.http.tls.certifi.contents", lambda: first + end)
        yield


@pytest.fixture
def patient_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that do not take first attempts for stalled when a busy machine holds them up."""
    monkeypatch.setattr("activities.deliver.STALL_SECONDS", 20.0)


@pytest.fixture(scope="session")
def postgres() -> str:
    """The address of the run's PostgreSQL server, without a database name."""
    return server_url()


@pytest.fixture(scope="session")
def programs() -> None:
    """Permission to start programs other than PostgreSQL: Temporal, Chromium, Node, PHP, promtool, tinyproxy."""


@pytest.fixture(scope="session")
def chromium(programs: None) -> str:
    """The path of the system's Chromium; skips where there is none."""
    found = installed_chromium()
    if found is None:
        pytest.skip(f"{NO_CHROMIUM}; .ci/run installs it")
    return found


@pytest.fixture(scope="session")
async def database_template(postgres: str) -> AsyncIterator[str]:
    """The name of a migrated database, the template of the others."""
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
    database = Database(module_database_url, pool_size=1)
    ground = Ground(database)
    await ground.clear()
    await ground.add_store()
    await database.close()
    return module_database_url


@pytest.fixture
async def ground(cleared_url: str) -> AsyncIterator[Ground]:
    """The module's database, cleared, and what a test does with it."""
    database = Database(cleared_url, pool_size=5)
    yield Ground(database)
    await database.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database at head."""
    database = Database(database_url, pool_size=5)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def temporal(programs: None) -> AsyncIterator[WorkflowEnvironment]:
    """The real Temporal server, one for the session."""
    async with real_server() as environment:
        yield environment


@pytest.fixture
async def temporal_namespace(temporal: WorkflowEnvironment) -> WorkflowEnvironment:
    """The session's Temporal server, seen through an empty namespace of the test's own.

    For tests about ids that others use too, such as those of a store's schedules.
    """
    return await new_namespace(temporal)


@pytest.fixture
async def skipping(programs: None) -> AsyncIterator[WorkflowEnvironment]:
    """The time-skipping Temporal server, a fresh one: its clock is the test's own."""
    async with skipping_server() as environment:
        yield environment


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A recording HTTP server, the destination of deliveries."""
    async with Receiver() as started:
        yield started


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling:
    return FileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {item for item in items if _is_left_out(config, item)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    if hasattr(config, "workerinput"):
        longest_first(items)


def _is_left_out(config: pytest.Config, item: pytest.Item) -> bool:
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        return True
    if item.get_closest_marker("namespaces") is not None and ("CI" in os.environ or isolation.missing() is not None):
        return True
    return config.option.no_servers and needs_servers(item)


def needs_servers(item: pytest.Item) -> bool:
    """Return True if a test uses, directly or through other fixtures, a fixture that starts a program."""
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("stack") is not None or not SERVER_FIXTURES.isdisjoint(fixtures)


def pytest_collection_finish() -> None:
    """Exempt the collected tests from garbage collection: traversing them costs 0.1 s in each full collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be missing (LOYALTY_WEBHOOKS_NO_SKIP=1, as in the CI) a skipped test has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("LOYALTY_WEBHOOKS_NO_SKIP") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, which this run does not allow: {report.longrepr}"
    return report
