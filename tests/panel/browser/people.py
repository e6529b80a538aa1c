"""People with a real browser in front of the panel of a running stack, and what must hold on every page they see.

    page = await people.visit("editor", "/webhooks")       # logged in, in the test's store
    await page.get_by_role("link", name="Add New Webhook").click()
    await people.check(page)                               # accessible, and fits, in every variant

Whatever a test does, at its end no page has had an error in its console, a request to another host, a breach of the
content security policy, or an answer nobody expected.
"""

from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, expect
from sqlalchemy import text
from starlette.routing import compile_path

from api.panel.app import named_routes
from api.panel.frame.sessions import PATH, SESSION_COOKIE, new_token
from domain.access import ALL_STORES, ROLES
from storage.access.passwords import Passwords
from storage.access.queries import create_administrator, find_administrator
from storage.access.sessions import begin_session, end_sessions_of
from storage.database import Database
from tests.panel.visitor import PASSWORD

WIDE, NARROW = (1440, 900), (360, 740)
VARIANTS = [(theme, size) for theme in ("light", "dark") for size in (WIDE, NARROW)]
WHOLLY = (VARIANTS[0], VARIANTS[-1])
"""Each theme and each window once: enough for every rule but those of colours, and for a page seen before."""

BAD = ("serious", "critical")
PATIENCE_MS = 45_000
expect.set_options(timeout=PATIENCE_MS)
_LOADING_FAILED = "Failed to load resource: the server responded with a status of"  # judged by the response itself
_AXE = "rules => axe.run(document, {resultTypes: ['violations'], ...(rules && {runOnly: rules})})"
_OF_COLOURS = ["color-contrast", "link-in-text-block"]  # all that depends on theme and window at once
_ID_OF = text("SELECT id FROM administrator WHERE username = :username")
_CUT_OFF = """() => [...document.querySelectorAll("main select")].filter(one => {
    const words = document.createElement("span"), style = getComputedStyle(one);
    if (one.dataset.told || !one.checkVisibility() || one.hasAttribute("data-submit")) return false;
    words.textContent = one.selectedOptions[0]?.textContent ?? "";
    words.style.cssText = `position: absolute; visibility: hidden; white-space: nowrap; font: ${style.font}`;
    one.after(words);
    const room = one.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const cut = words.offsetWidth > Math.ceil(room);
    words.remove();
    return cut;
}).map(one => one.name)"""
"""Choices that do not show all of what is chosen, and do not say it below; filters name what they filter by alone."""
_OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


class People:
    """Everybody who looks at the panel during a test."""

    def __init__(
        self, browser: Browser, panel: str, database: Database, store: str, axe: str, checked: set[str | None]
    ) -> None:
        self.faults: list[str] = []
        self.checked = checked
        self._browser = browser
        self._panel = panel.rstrip("/")
        self._host = urlsplit(panel).netloc
        self._database = database
        self._store = store
        self._axe = axe
        self._contexts: dict[str, BrowserContext] = {}
        self._made_by_forms: set[str] = set()
        self._closing = AsyncExitStack()

    def address(self, path: str) -> str:
        """The whole address of a page of the test's store, such as `/webhooks`."""
        return f"{self._panel}/{self._store}{path}"

    def entrance(self, path: str) -> str:
        """The whole address of what is of no store, such as `/login`."""
        return f"{self._panel}{path}"

    async def visit(self, role: str, path: str, *, everywhere: bool = False, status: int = 200) -> Page:
        """A new tab of somebody of this role, who is logged in, on the page. `everywhere`: in all stores."""
        page = await self._tab(role, everywhere)
        response = await page.goto(self.address(path))
        assert response is not None
        assert response.status == status, (response.url, response.status, await page.inner_text("body"))
        self.expected(_unexpected(response))
        return page

    async def stranger(self) -> Page:
        """A tab of somebody who is not logged in, at the log-in page."""
        page = await self._page(await self._context("stranger"))
        await page.goto(self.entrance("/login"))
        return page

    async def log_in(self, page: Page, username: str, password: str = PASSWORD) -> None:
        """Fill in the log-in form that the page shows."""
        await page.get_by_label("User name").fill(username)
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Log in").click()

    async def administrator(self, role: str, *stores: str) -> str:
        """The user name of a new administrator, whose password is `PASSWORD`."""
        username = f"{role}-{uuid4().hex[:8]}"
        hashed = await Passwords().hash(PASSWORD)
        async with self._database.transaction() as connection:
            await create_administrator(connection, username, hashed, ROLES[role], stores or (self._store,))
        return username

    async def end_sessions(self, username: str) -> None:
        """On the server: the browser learns of it when it asks next."""
        async with self._database.transaction() as connection:
            found = await connection.execute(_ID_OF, {"username": username})
            await end_sessions_of(connection, found.scalar_one())

    def expected(self, fault: str) -> int:
        """How often this happened, such as `GET http://…: 401`; it is no fault then."""
        count = self.faults.count(fault)
        self.faults = [one for one in self.faults if one != fault]
        return count

    async def check(self, page: Page) -> None:
        """The page as it is now has no serious fault of accessibility and fits its window, light and dark, wide and
        narrow; a route's further states, light and wide as well as dark and narrow."""
        faults = []
        route = self._route_of(page)
        variants = WHOLLY if route in self.checked else VARIANTS
        await page.wait_for_load_state()  # a link that was just followed leaves a document without an element
        await page.evaluate(self._axe)
        for theme, (width, height) in variants:
            await page.set_viewport_size({"width": width, "height": height})
            await page.evaluate("theme => document.documentElement.setAttribute('data-bs-theme', theme)", theme)
            where = f"{page.url} {theme} {width} px"
            overflow = await page.evaluate(_OVERFLOW)
            if overflow > 0:
                faults.append(f"{where}: {overflow} px wider than the window")
            if cut_off := await page.evaluate(_CUT_OFF):
                faults.append(f"{where}: the choices {cut_off} are cut off")
            found = await page.evaluate(_AXE, None if (theme, (width, height)) in WHOLLY else _OF_COLOURS)
            faults += [f"{where}: {_told(one)}" for one in found["violations"] if one["impact"] in BAD]
        await page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        assert not faults, "\n".join(faults)
        self.checked.add(route)

    async def aclose(self) -> None:
        """Close every tab, and fail for what went wrong in one."""
        await self._closing.aclose()
        assert not self.faults, "\n".join(self.faults)

    async def _tab(self, role: str, everywhere: bool) -> Page:
        key = f"{role}{ALL_STORES if everywhere else ''}"
        known = key in self._contexts
        context = await self._context(key)
        if not known:
            username = await self.administrator(role, *([ALL_STORES] if everywhere else []))
            await self._begin_session(context, username)
        return await self._page(context)

    async def _begin_session(self, context: BrowserContext, username: str) -> None:
        """As the log-in does, without the check of the password, which takes 0.3 s of CPU by design."""
        token = new_token()
        async with self._database.transaction() as connection:
            administrator = await find_administrator(connection, username=username)
            assert administrator is not None
            await begin_session(connection, token, administrator)
        host = str(urlsplit(self._panel).hostname)
        await context.add_cookies([{"name": SESSION_COOKIE, "value": token, "domain": host, "path": PATH}])

    async def _context(self, key: str) -> BrowserContext:
        if key not in self._contexts:
            size = {"width": WIDE[0], "height": WIDE[1]}
            # Colours must not be measured half-way through a transition.
            context = await self._browser.new_context(viewport=size, reduced_motion="reduce", has_touch=True)
            self._closing.push_async_callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            context.on("request", self._requested)
            context.on("response", self._answered)
            context.on("console", self._said)
            context.on("weberror", lambda error: self.faults.append(f"{error.error}"))
            self._contexts[key] = context
        return self._contexts[key]

    async def _page(self, context: BrowserContext) -> Page:
        return await context.new_page()

    def _requested(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self._host:
            self.faults.append(f"a request to another host: {request.url}")

    def _route_of(self, page: Page) -> str | None:
        """The name of the panel's route that made the page, None for what is of no store."""
        path = urlsplit(page.url).path.removeprefix(urlsplit(self._panel).path)
        method = "POST" if page.url in self._made_by_forms else "GET"
        routes = (route for route in named_routes().values() if route.method == method)
        return next((route.name for route in routes if compile_path(route.path)[0].fullmatch(path)), None)

    def _answered(self, response: Response) -> None:
        """400 to a form is the form with its messages; any other failure must have been asked for (`visit`)."""
        if response.request.is_navigation_request():
            made = self._made_by_forms
            (made.add if response.request.method == "POST" else made.discard)(response.url)
        if response.status >= 400 and not (response.status == 400 and response.request.method == "POST"):
            self.faults.append(_unexpected(response))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_LOADING_FAILED):
            self.faults.append(f"{message.location.get('url')}: {message.text}")


def _unexpected(response: Response) -> str:
    return f"{response.request.method} {response.url}: {response.status}"


def _told(violation: dict[str, Any]) -> str:
    places = [node["html"][:160] for node in violation["nodes"][:3]]
    return f"{violation['id']} ({violation['impact']}): {violation['help']}: {places}"
