"""Every route has a right, and refuses in the contract's order. Generated from the routes, so a new one is in it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from api.access import InstallationRight, StoreRight
from api.app import ROUTERS
from api.openapi.document import dependencies
from domain.access import Scope
from tests.api.installation import Installation, Shop

OPEN = {
    ("POST", "/api/admin/login_check"),
    ("POST", "/api/token/refresh"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
}
"""Routes for everybody: how one gets in, and probes, which hold nothing of any store."""

Right = StoreRight | InstallationRight


@dataclass(frozen=True)
class Guarded:
    """A route and the right it asks for."""

    method: str
    path: str
    right: Right

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def at(self, store: str, **ids: str) -> str:
        """The path with this store, and with ids that name nothing unless given."""
        path = self.path.replace("{storeCode}", store)
        for name in self.parameters:
            path = path.replace(f"{{{name}}}", ids.get(name, str(uuid4())))
        return path

    @property
    def parameters(self) -> list[str]:
        """Names of the path's parameters other than the store's."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{") and part != "{storeCode}"]


def routes() -> Iterator[tuple[str, str, list[Right]]]:
    for router in ROUTERS:
        for context in iter_route_contexts(router.routes):
            route = context.original_route
            assert isinstance(route, APIRoute)
            rights = [call for call in dependencies(route.dependant) if isinstance(call, Right)]
            for method in route.methods or ():
                yield method, route.path_format, list(dict.fromkeys(rights))


GUARDED = [Guarded(method, path, rights[0]) for method, path, rights in routes() if rights]
OF_A_STORE = [route for route in GUARDED if isinstance(route.right, StoreRight)]
OF_THE_INSTALLATION = [route for route in GUARDED if isinstance(route.right, InstallationRight)]


def test_every_route_has_one_right_or_is_open_to_all() -> None:
    rights = {(method, path): found for method, path, found in routes()}
    assert {route for route, found in rights.items() if not found} == OPEN
    assert {route: found for route, found in rights.items() if len(found) > 1} == {}
    for (_, path), found in rights.items():
        if found:
            assert isinstance(found[0], StoreRight) == path.startswith("/api/{storeCode}/"), path


def test_only_reading_rights_open_routes_that_read() -> None:
    reading = {Scope.SUBSCRIPTION_READ, Scope.DELIVERY_READ}
    for route in OF_A_STORE:
        if route.method != "GET":
            assert route.right.scope not in reading, str(route)


async def answer(client: httpx.AsyncClient, method: str, path: str) -> tuple[int, Any]:
    """Status and body, for a request whose body and query are nonsense: what is refused before looks at neither."""
    response = await client.request(method, f"{path}?nonsense=1", content=b"nonsense")
    return response.status_code, response.json() if response.content else None


@pytest.mark.parametrize("route", GUARDED, ids=str)
async def test_without_credentials_it_is_a_401(installed: Installation, shop: Shop, route: Guarded) -> None:
    nobody = await installed.caller()
    expected = (401, {"message": "Authentication Required"})
    assert await answer(nobody, route.method, route.at(shop.store)) == expected
    assert await answer(nobody, route.method, route.at("nowhere")) == expected
    stranger = await installed.caller({"X-AUTH-TOKEN": "lwk_nonsense"})
    assert await answer(stranger, route.method, route.at(shop.store)) == expected
    forger = await installed.caller({"Authorization": "Bearer nonsense"})
    assert await answer(forger, route.method, route.at("nowhere")) == (
        401,
        {"code": 401, "message": "Invalid JWT Token"},
    )


@pytest.mark.parametrize("route", GUARDED, ids=str)
async def test_without_the_right_it_is_a_403(installed: Installation, shop: Shop, route: Guarded) -> None:
    others = [scope for scope in Scope if scope not in (route.right.scope, Scope.ADMIN)]
    caller = await installed.with_key(*others)
    assert await answer(caller, route.method, route.at(shop.store)) == (403, {"code": 403, "message": "Forbidden."})


@pytest.mark.parametrize("route", GUARDED, ids=str)
async def test_the_right_itself_is_enough(installed: Installation, shop: Shop, route: Guarded) -> None:
    caller = await installed.with_key(route.right.scope)
    status, _ = await answer(caller, route.method, route.at(shop.store))
    assert status not in (401, 403)


@pytest.mark.parametrize("route", OF_A_STORE, ids=str)
async def test_a_store_that_is_not_ones_own_or_is_none_is_a_404_before_any_403(
    installed: Installation, shop: Shop, route: Guarded
) -> None:
    nothing_here = (404, {"code": 404, "message": "Not Found"})
    elsewhere = await installed.with_key(stores=["another"])
    assert await answer(elsewhere, route.method, route.at(shop.store)) == nothing_here
    others = [scope for scope in Scope if scope not in (route.right.scope, Scope.ADMIN)]
    rightless = await installed.with_key(*others)
    for code in ("nowhere", "%00", "a%2Fb", "..", "ä", "x" * 100, "admin", shop.store.upper()):
        assert await answer(rightless, route.method, route.at(code)) == nothing_here, code


@pytest.mark.parametrize("route", [route for route in OF_THE_INSTALLATION if route.right.everywhere], ids=str)
async def test_what_concerns_all_stores_is_for_those_who_may_enter_all(
    installed: Installation, shop: Shop, route: Guarded
) -> None:
    caller = await installed.with_key(Scope.ADMIN, stores=[shop.store])
    assert (await answer(caller, route.method, route.path))[0] == 403


async def a_subscription(shop: Shop) -> str:
    return await shop.created()


async def an_event(shop: Shop) -> str:
    event = {"eventName": "CustomerUpdated", "data": {}}
    response = await shop.client.post(f"/api/{shop.store}/event", json={"event": event})
    assert response.status_code == 202, response.text
    return str(response.json()["eventId"])


async def a_delivery(shop: Shop) -> str:
    message_id = str(uuid4())
    await shop.installation.execute(
        "INSERT INTO delivery (message_id, store_code, event_id, event_name, subscription_id, variant, url, status) "
        "VALUES (:message, :store, :event, 'CustomerUpdated', :subscription, 'main', 'https://x/', 'delivered')",
        message=message_id,
        store=shop.store,
        event=await an_event(shop),
        subscription=await shop.created(),
    )
    return message_id


async def a_recovery(shop: Shop) -> str:
    return await a_window_act(shop, "recover")


async def a_backfill(shop: Shop) -> str:
    return await a_window_act(shop, "backfill")


async def a_window_act(shop: Shop, kind: str) -> str:
    action_id = str(uuid4())
    await shop.installation.execute(
        "INSERT INTO bulk_action (id, kind, store_code, subscription_id, since, until, statuses, count) "
        "VALUES (:id, :kind, :store, :subscription, now(), now(), '{}', 0)",
        id=action_id,
        kind=kind,
        store=shop.store,
        subscription=await shop.created(),
    )
    return action_id


OBJECTS: Mapping[str, Callable[[Shop], Awaitable[str]]] = {
    "webhookSubscriptionId": a_subscription,
    "eventId": an_event,
    "messageId": a_delivery,
    "recoverId": a_recovery,
    "backfillId": a_backfill,
}
"""How an object of each path parameter comes to be. A parameter that is missing here needs its line."""
NO_OBJECT_OF_A_STORE = {"eventName", "kind", "transferId", "customerId", "issuedCouponId"}
"""Of expiry rows the ids are the platform's: a row of another store is written or forgotten as one that is not there.
"""

WITH_OBJECTS = [route for route in OF_A_STORE if not set(route.parameters) <= NO_OBJECT_OF_A_STORE]


@pytest.mark.parametrize("route", WITH_OBJECTS, ids=str)
async def test_an_object_of_another_store_does_not_exist(installed: Installation, shop: Shop, route: Guarded) -> None:
    other = await installed.shop()
    ids = {name: await OBJECTS[name](other) for name in route.parameters}
    assert await answer(shop.client, route.method, route.at(shop.store, **ids)) == (
        404,
        {"code": 404, "message": "Not Found"},
    )
    status, body = await answer(other.client, route.method, route.at(other.store, **ids))
    assert status != 404, body
