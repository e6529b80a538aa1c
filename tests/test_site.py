"""The site of docs/: every page is found from its menu, it asks no other host, and its search finds."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.async_api import Request, async_playwright

from tests.browser import CHROMIUM_OPTIONS
from tests.house import ROOT
from tests.test_makefile import make

LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "srcset"}
"""Elements that make a browser fetch something, with the attribute that names it."""

NO_REQUEST = {"canonical", "next", "prev"}
CONFIGURATION = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
BROWSER_MILLISECONDS = 30_000


class _Loaded(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag in LOADING and given.get("rel") not in NO_REQUEST and (address := given.get(LOADING[tag])):
            self.addresses.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a site that `make site` has built."""
    directory = tmp_path_factory.mktemp("site")
    built = make(ROOT, "site", f"SITE={directory}")
    assert built.returncode == 0, built.stdout + built.stderr
    return directory


def pages(entry: Any) -> set[str]:
    """The pages of an entry of the menu."""
    if isinstance(entry, str):
        return {entry}
    return set().union(*map(pages, entry.values() if isinstance(entry, dict) else entry))


def test_every_page_is_in_the_menu_or_a_decision() -> None:
    written = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    decisions = {path for path in written if re.fullmatch(r"docs/decisions/\d{4}-.*", path)}
    listed = pages(CONFIGURATION["nav"])
    assert written - decisions - listed == set()
    assert [page for page in listed if not (ROOT / page).exists()] == []


def test_every_page_is_built_and_loads_nothing_from_elsewhere(site: Path) -> None:
    html = site / "html"
    assert (html / "index.html").is_file()
    for page in pages(CONFIGURATION["nav"]):
        name = page.replace("README.md", "index.md").removesuffix(".md")
        loaded = _Loaded()
        loaded.feed((html / f"{name}.html").read_text())
        assert [address for address in loaded.addresses if re.match(r"(https?:)?//", address)] == [], page
        assert loaded.addresses
    for sheet in html.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import) *[\"']?(?:https?:)?//", sheet.read_text()) == [], sheet


def test_a_link_to_a_heading_that_is_gone_fails_the_build(site: Path) -> None:
    page = site / "source" / "docs" / "concepts.md"
    page.write_text(page.read_text() + "\n[gone](actions.md#gone) [away](away.md)\n")
    build = [Path(sys.prefix) / "bin" / "zensical", "build", "--strict", "--config-file", site / "zensical.toml"]
    failed = subprocess.run(build, capture_output=True, text=True, check=False)
    said = re.sub(r"\x1b\[[\d;]*m", "", failed.stdout + failed.stderr)
    assert failed.returncode != 0, said
    assert "gone" in said
    assert "away.md" in said


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The address of a server of the site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=site / "html")) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


async def test_the_search_box_finds_a_page_and_asks_no_other_host(address: str, chromium: str) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        page = await browser.new_page()
        page.set_default_timeout(BROWSER_MILLISECONDS)
        page.on("request", note)
        await page.goto(address)
        await page.get_by_role("button", name="Search").click()
        await page.get_by_placeholder("Search").fill("gave up")
        await page.get_by_role("option", name="Recover").first.click()
        await page.wait_for_url(f"{address}docs/*.html*")
        await browser.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_the_search_knows_every_page(site: Path) -> None:
    found = {
        item["location"].partition("#")[0] for item in json.loads((site / "html" / "search.json").read_text())["items"]
    }
    names = {
        page.replace("README.md", "index.md").removesuffix(".md") + ".html" for page in pages(CONFIGURATION["nav"])
    }
    assert names - found == set()
