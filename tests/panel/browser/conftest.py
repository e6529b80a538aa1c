"""The real stack and a real browser for the panel's stories: one of each for all of them."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Browser, async_playwright

from local.stack_file import Stack
from storage.database import Database
from tests.browser import CHROMIUM_OPTIONS
from tests.node_packages import node_modules
from tests.panel.browser.live import LiveShop
from tests.panel.browser.people import People
from tests.stack import running_stack

SETTINGS = {"BREAKER_FAILURES": "1000"}  # a story's receiver fails as it is told


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    return (node_modules() / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="package")
def stack(chromium: str, axe: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL, Temporal, API and worker as processes."""
    with running_stack(tmp_path_factory.mktemp("panel"), environment=SETTINGS) as running:
        yield running


@pytest.fixture(scope="package")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Chromium without a window."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield started
        await started.close()


@pytest.fixture(scope="package")
async def stack_database(stack: Stack) -> AsyncIterator[Database]:
    """The stack's database."""
    database = Database(stack.database, pool_size=2)
    yield database
    await database.close()


@pytest.fixture(scope="package")
def checked() -> set[str | None]:
    """Names of the routes whose pages were checked by axe up to now."""
    return set()


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[LiveShop]:
    """A store of the test's own, in New York so that no time is right by chance."""
    code = f"s-{uuid4().hex[:12]}"
    store = {"storeCode": code, "name": "Corner shop", "timezone": "America/New_York"}
    headers = {"X-AUTH-TOKEN": stack.api_key}
    async with httpx.AsyncClient(base_url=stack.api, headers=headers, trust_env=False, timeout=30) as api:
        answer = await api.post("/api/admin/store", json={"store": store})
        assert answer.status_code == 200, answer.text
        yield LiveShop(code, api)


@pytest.fixture
async def people(
    browser: Browser, stack: Stack, stack_database: Database, shop: LiveShop, axe: str, checked: set[str | None]
) -> AsyncIterator[People]:
    """Whoever looks at the panel; fails at the end for what went wrong on any page."""
    everybody = People(browser, stack.panel, stack_database, shop.code, axe, checked)
    yield everybody
    await everybody.aclose()
