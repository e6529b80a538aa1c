"""What every page of the panel has: its headers, its texts, and no English of its own."""

import asyncio
import re
from pathlib import Path

import pytest
from sqlalchemy import text

from api.panel.app import named_routes
from api.panel.texts import TEXTS, t
from tests.api.installation import Installation, Shop, installation
from tests.deadlines import eventually
from tests.house import ROOT
from tests.panel.conftest import Visit
from tests.panel.visitor import PASSWORD, stranger, visitor
from tests.tcp_proxy import database_behind_proxy

PANEL = ROOT / "api" / "panel"
TEMPLATES = sorted((PANEL / "templates").rglob("*.html"))
_KEY = re.compile(r"""\bt\(\s*["']([a-z_]+\.[a-z0-9_]*[a-z0-9])["']""")
_PREFIX = re.compile(r"""["']([a-z_]+\.[a-z0-9_]+_)["'] ~""")
PLAIN = re.compile(r"[A-Za-z]{2,}")
DUE_SECONDS = 30
"""Far above the bound, for a busy machine; a hang would last for ever."""


def visible(template: Path) -> str:
    """The template without comments, statements, tags: what a reader would see as it stands."""
    text = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}", " ", template.read_text(), flags=re.DOTALL)
    return re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>|&\w+;", " ", text, flags=re.DOTALL)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_holds_a_sentence_of_its_own(template: Path) -> None:
    assert PLAIN.findall(visible(template)) == []
    spoken = re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]*)"', template.read_text())
    assert [text for text in spoken if PLAIN.search(re.sub(r"{{.*?}}|{%.*?%}", "", text))] == []


def test_every_text_is_there_and_every_text_is_used() -> None:
    sources = [*TEMPLATES, *sorted(PANEL.rglob("*.py"))]
    content = "\n".join(path.read_text() for path in sources)
    named = set(_KEY.findall(content)) | set(re.findall(r'"([a-z_]+\.[a-z0-9_]+)"', content)) & set(TEXTS)
    assert {key for key in _KEY.findall(content) if key not in TEXTS} == set()
    prefixes = tuple(_PREFIX.findall(content)) + tuple(re.findall(r'f"([a-z_]+\.[a-z0-9_]+_){', content))
    assert {key for key in TEXTS if key not in named and not key.startswith(prefixes)} == set()


def test_a_text_that_is_missing_is_no_empty_text() -> None:
    with pytest.raises(KeyError):
        t("frame.no_such_text")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_switches_escaping_off_or_carries_scripts_and_styles(template: Path) -> None:
    text = template.read_text()
    assert re.findall(r"\|\s*safe\b|autoescape|Markup", text) == []
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|https?://", text) == []


async def test_pages_carry_the_headers_that_keep_them_to_themselves(visit: Visit, shop: Shop) -> None:
    viewer = await visit("viewer")
    for page in ("webhooks", "dashboard"):
        response = await viewer.get(f"/admin/{shop.store}/{page}")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "same-origin"
        policy = response.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "style-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "nonce" not in policy


async def test_what_is_no_page_keeps_to_itself_too(installed: Installation, visit: Visit, shop: Shop) -> None:
    somebody, nobody = await visit("editor"), await stranger(installed)
    place = f"/admin/{shop.store}/webhooks"
    for response in (
        await somebody.get("/admin/"),
        await somebody.get("/admin/session"),
        await somebody.post(f"{place}/check", {"url": ""}),
        await nobody.get(place),
        await nobody.client.get(place, headers={"X-Requested-With": "fetch"}),
    ):
        assert response.headers["cache-control"] == "no-store", response
        assert response.headers["x-content-type-options"] == "nosniff", response


async def test_no_redirect_goes_where_the_request_says_that_the_panel_is(visit: Visit, shop: Shop) -> None:
    somebody = await visit("viewer")
    for path in (f"/admin/{shop.store}/webhooks/", "/admin/login/", "/admin/session/"):
        response = await somebody.client.get(path, headers={"Host": "evil.example"})
        assert (response.status_code, "location" in response.headers) == (404, False), path


async def test_errors_are_pages(installed: Installation, visit: Visit, shop: Shop) -> None:
    somebody = await visit("viewer")
    for path, status in (("/admin/nowhere/webhooks", 404), (f"/admin/{shop.store}/nothing/at/all", 404)):
        response = await somebody.get(path)
        assert (response.status_code, response.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert response.headers["content-security-policy"]
    assert (await (await stranger(installed)).client.delete("/admin/login")).status_code == 405


async def test_every_page_says_soon_that_the_database_hangs(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.login.principals.LOOK_UP_SECONDS", 0.5)
    async with database_behind_proxy(database_url) as (url, proxy), installation(url) as installed:
        store = (await installed.shop()).store
        somebody = await visitor(installed, "admin", ("*",))
        paths = [route.path for route in named_routes().values() if route.method == "GET"]
        pages = [f"/admin{path}".replace("{storeCode}", store) for path in ("/", "/session", "/login", *paths)]
        log_in = {"username": somebody.username, "password": PASSWORD}
        proxy.freeze()
        async with asyncio.timeout(DUE_SECONDS):
            answers = await asyncio.gather(
                *map(somebody.get, pages),
                somebody.post(f"/admin/{store}/webhooks/new", {"url": "https://receiver.example.com"}),
                somebody.post("/admin/login", log_in),
                somebody.post("/admin/logout"),
            )
        proxy.mend()
        for answer in answers:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.url
            assert t("frame.error_title", code=503) in answer.text

        async def shown_again() -> bool:
            return (await somebody.get(f"/admin/{store}/webhooks")).status_code == 200

        await eventually(shown_again, DUE_SECONDS, "the pages are shown again")


async def test_a_page_does_not_wait_for_a_statement_for_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.resources.STATEMENT_SECONDS", 0.5)
    async with installation(database_url) as installed:
        store, somebody = (await installed.shop()).store, await visitor(installed, "admin", ("*",))
        async with installed.database.transaction() as connection, asyncio.timeout(DUE_SECONDS):
            await connection.execute(text("LOCK TABLE subscription"))
            answer = await somebody.get(f"/admin/{store}/webhooks")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_what_pages_load_is_there_and_is_kept_by_browsers(installed: Installation) -> None:
    somebody = await stranger(installed)
    login = await somebody.get("/admin/login")
    files = re.findall(r'(?:src|href)="(/admin/-/[^"]+)"', login.text)
    assert len(files) >= 5
    for file in files:
        response = await somebody.client.get(file)
        assert response.status_code == 200, file
        assert "immutable" in response.headers["cache-control"]


async def test_files_of_packages_that_no_page_loads_are_not_served(installed: Installation) -> None:
    client = await installed.caller()
    for path in (
        "/admin/-/static/js/vendor/apexcharts.min.js",
        "/admin/-/static/js/vendor/../vendor/apexcharts.min.js",
        "/admin/-/static/js/vendor/jquery.min.js",
        "/admin/-/static/../rendering.py",
        "/docs/assets/redoc.standalone.js",
    ):
        assert (await client.get(path)).status_code == 404, path


async def test_the_panel_is_found_and_leads_to_its_first_page(visit: Visit, shop: Shop) -> None:
    somebody = await visit("viewer")
    for entrance in ("/", "/admin"):
        assert (await somebody.get(entrance)).headers["location"] == "/admin/"
    first = (await somebody.get("/admin/")).headers["location"]
    assert first.startswith(f"/admin/{shop.store}/")
    assert (await somebody.get(first)).status_code == 200


async def test_a_filter_that_is_wrong_is_said_and_the_page_still_shows(visit: Visit, shop: Shop) -> None:
    somebody = await visit("viewer")
    for query in (
        "activeFrom[from]=yesterday",
        "activeFrom[to]=9999-12-31",
        "activeFrom[to]=9999-12-31T23:59",
        "_page=0",
        "legacy=perhaps",
        "nothing=1",
    ):
        response = await somebody.get(f"/admin/{shop.store}/webhooks?{query}")
        assert response.status_code == 200
        assert 'role="alert"' in response.text


def test_menus_and_links_name_routes_that_exist() -> None:
    routes = named_routes()
    content = "\n".join(path.read_text() for path in TEMPLATES)
    linked = set(re.findall(r'page\.(?:url|may_open)\("([a-z_]+\.[a-z_]+)"', content))
    assert {name for name in linked if name not in routes} == set()
