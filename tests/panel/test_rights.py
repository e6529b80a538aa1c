"""Every page and button of the panel by role: generated from the routes, so that a new one is in it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from api.panel.app import named_routes
from api.panel.frame.page import PanelRoutes
from api.panel.frame.routes import MENU, PanelRoute
from domain.access import ROLES, Scope
from storage.deliveries.bulk_actions import BulkActionKind, NewBulkAction, TimeWindow, begin_bulk_action
from tests.api.installation import Installation, Shop
from tests.panel.conftest import Visit
from tests.panel.logged import add_delivery, add_event
from tests.panel.rights import RULES, may
from tests.panel.visitor import Visitor, stranger, visitor

ROUTES = named_routes()
EVERY = pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: f"{route.method} {route.path}")
NOBODY = str(uuid4())


@pytest.fixture(scope="module")
async def shop(installed: Installation) -> Shop:
    """One store for hundreds of requests, most of which change nothing."""
    return await installed.shop()


@pytest.fixture(scope="module")
async def visit(installed: Installation, shop: Shop) -> Visit:
    """One visitor of each role for all tests."""
    known: dict[tuple[str, tuple[str, ...]], Visitor] = {}

    async def logged_in(role: str = "admin", stores: tuple[str, ...] | None = None) -> Visitor:
        key = role, stores or (shop.store,)
        if key not in known:
            known[key] = await visitor(installed, *key)
        return known[key]

    return logged_in


@pytest.fixture(scope="module")
async def other(installed: Installation) -> Shop:
    """A store of others."""
    return await installed.shop()


@pytest.fixture(scope="module")
async def foreign(other: Shop) -> dict[str, str]:
    """What the store of others has."""
    return await objects(other)


def rule_of(route: PanelRoute) -> str:
    """How the rules name a route."""
    return f"{route.method} {route.path.removeprefix('/{storeCode}')}"


def at(route: PanelRoute, store: str) -> str:
    """The route's address with ids that name nothing: what is refused by right is so before they are looked at."""
    path = route.path.replace("{storeCode}", store)
    for name in route.parameters:
        path = path.replace(f"{{{name}}}", NOBODY)
    return f"/admin{path}"


async def answered(
    visit: Visit, route: PanelRoute, role: str, store: str, stores: tuple[str, ...] | None = None
) -> int:
    somebody = await visit(role, stores)
    response = await (somebody.get if route.method == "GET" else somebody.post)(at(route, store))
    assert response.status_code < 500, response.text
    return response.status_code


@EVERY
@pytest.mark.parametrize("role", ROLES)
async def test_a_role_opens_what_the_rules_say_and_nothing_else(
    visit: Visit, shop: Shop, route: PanelRoute, role: str
) -> None:
    status = await answered(visit, route, role, shop.store)
    assert (status != 403) == may(role, rule_of(route)), status


@EVERY
async def test_what_belongs_to_the_installation_is_for_those_of_every_store(
    visit: Visit, shop: Shop, route: PanelRoute
) -> None:
    assert await answered(visit, route, "admin", shop.store, ("*", shop.store)) != 403


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    assert {rule_of(route) for route in ROUTES.values()} == set(RULES), "tests/panel/rights.py"


@EVERY
async def test_a_store_of_others_does_not_exist(visit: Visit, other: Shop, route: PanelRoute) -> None:
    assert await answered(visit, route, "admin", other.store) == 404
    assert await answered(visit, route, "admin", "nowhere") == 404


HOST = "receiver.example.com"
IDS = {"messageId", "eventId", "bulkActionId", "webhookSubscriptionId"}
OF_ONE = [route for route in ROUTES.values() if IDS & set(route.parameters)]


async def objects(shop: Shop) -> dict[str, str]:
    """One of each that a store has, by the parameter that names it."""
    webhook = await shop.created(eventName="CustomerUpdated", legacy=True)
    event = await add_event(shop)
    made = await add_delivery(shop, webhook, event, status="exhausted")
    now = datetime.now(UTC)
    window = TimeWindow(now - timedelta(days=1), now, ("exhausted",))
    act = NewBulkAction(uuid4(), BulkActionKind.RECOVER, shop.store, UUID(webhook), window, None, 1)
    async with shop.installation.database.transaction() as connection:
        assert await begin_bulk_action(connection, act)
    found = {"messageId": made, "eventId": event, "bulkActionId": act.id, "webhookSubscriptionId": webhook}
    return {name: str(value) for name, value in found.items()}


@pytest.mark.parametrize("route", OF_ONE, ids=lambda route: f"{route.method} {route.path}")
async def test_what_is_of_another_store_does_not_exist_in_this_one(
    visit: Visit, shop: Shop, other: Shop, foreign: dict[str, str], route: PanelRoute
) -> None:
    somebody = await visit("admin")
    path = f"/admin{route.path.replace('{storeCode}', shop.store)}"
    act = {"act": "cancel" if "messageId" in route.parameters else "disable"}

    async def status(ids: Mapping[str, str]) -> int:
        place = path
        for name, value in ids.items():
            place = place.replace(f"{{{name}}}", value)
        answer = await (somebody.get(place) if route.method == "GET" else somebody.post(place, act))
        return answer.status_code

    audited = await other.audit()
    assert await status(foreign) == 404
    assert await other.audit() == audited
    assert await status(await objects(shop)) != 404


BY_QUERY = (
    "deliveries?webhookSubscriptionId={webhookSubscriptionId}",
    "deliveries?messageId={messageId}",
    "deliveries?eventId={eventId}",
    "deliveries/fresh?open={messageId}",
    "deliveries/recover?webhookSubscriptionId={webhookSubscriptionId}",
    "events?id={messageId}",
    "recover?webhookSubscriptionId={webhookSubscriptionId}",
)
"""Pages that take an id in their query."""


@pytest.mark.parametrize("page", BY_QUERY)
async def test_an_id_of_another_store_finds_nothing_as_part_of_a_query(
    installed: Installation, visit: Visit, foreign: dict[str, str], page: str
) -> None:
    shop = await installed.shop()  # which shows nothing yet
    somebody = await visit("admin", (shop.store,))

    async def shows(ids: dict[str, str]) -> bool:
        answer = await somebody.get(f"/admin/{shop.store}/{page.format(**ids)}")
        assert answer.status_code in (200, 303)
        return HOST in answer.text or "/deliveries/" in answer.headers.get("location", "")

    assert (await shows(foreign), await shows(await objects(shop))) == (False, True)


@EVERY
async def test_without_a_session_it_is_the_log_in(installed: Installation, shop: Shop, route: PanelRoute) -> None:
    somebody = await stranger(installed)
    response = await (somebody.get if route.method == "GET" else somebody.post)(at(route, shop.store))
    assert response.status_code == 303
    assert response.headers["location"].startswith("/admin/login")
    scripted = await somebody.client.request(route.method, at(route, shop.store), headers={"X-Requested-With": "fetch"})
    assert scripted.status_code == 401


POSTS = [route for route in ROUTES.values() if route.method == "POST"]


@pytest.mark.parametrize("route", POSTS, ids=lambda route: f"{route.method} {route.path}")
async def test_a_form_that_is_not_ours_is_refused(visit: Visit, shop: Shop, route: PanelRoute) -> None:
    somebody, another = await visit("admin"), await visit("editor")
    place = at(route, shop.store)
    for fields in ({"csrf": ""}, {"csrf": "0" * 64}, {"csrf": another.csrf}):
        assert (await somebody.post(place, fields)).status_code == 403, fields
    for origin in ("https://evil.example", "null", "http://api.evil.example"):
        assert (await somebody.post(place, Origin=origin)).status_code == 403, origin
    assert (await somebody.post(place, **{"Sec-Fetch-Site": "cross-site"})).status_code == 403


@pytest.mark.parametrize("path", ["/admin/login", "/admin/logout"])
async def test_the_log_in_and_the_log_out_are_protected_alike(visit: Visit, path: str) -> None:
    somebody = await visit("viewer")
    assert (await somebody.post(path, {"csrf": "", "username": "a", "password": "b"})).status_code == 403
    assert (await somebody.post(path, {"username": "a"}, Origin="https://evil.example")).status_code == 403


def test_routes_that_only_read_ask_for_reading_rights_and_others_do_not() -> None:
    reading = {Scope.SUBSCRIPTION_READ, Scope.DELIVERY_READ}
    assert [route.name for route in POSTS if route.scope in reading] == []


def test_no_page_stands_outside_a_store_or_twice() -> None:
    pages = PanelRoutes()
    with pytest.raises(ValueError, match="starts with"):
        pages.get("/webhooks", Scope.ADMIN)(handler)
    pages.get("/{storeCode}/one", Scope.ADMIN)(handler)
    pages.get("/{storeCode}/two", Scope.ADMIN)(handler)
    with pytest.raises(ValueError, match="two routes"):
        named_routes([pages])


async def handler(page: object) -> None:
    """Of no page."""


def test_every_route_of_the_panel_has_a_right_or_is_the_entrance() -> None:
    from api.panel.app import create_panel

    paths = {route.path for route in create_panel().routes if hasattr(route, "path")}
    assert paths - {route.path for route in ROUTES.values()} == {
        "/",
        "/login",
        "/logout",
        "/session",
        "/-/static",
    }


def test_no_line_of_the_menu_leads_nowhere() -> None:
    """Lines whose page is not there do not show; what shows is a page that is looked at."""
    lines = [entry.route for entries in MENU.values() for entry in entries]
    assert [name for name in lines if name in ROUTES and ROUTES[name].method != "GET"] == []
    assert [name for name in lines if name in ROUTES and ROUTES[name].parameters != ["storeCode"]] == []
