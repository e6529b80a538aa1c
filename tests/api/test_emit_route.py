"""The route of a single emit calls by hand what the framework would resolve, and answers as it would."""

import json

import pytest
from fastapi.routing import iter_route_contexts

from api.app import create_app
from api.events.routes import MAY_EMIT, ONE_EVENT, CountedRoute, EmitRoute
from api.resources import resources
from tests.api.running import running_api
from tests.databases import cloned_database
from tests.pipeline import settings_for

UUID4 = "3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b"


def test_all_that_emit_depends_on_is_called_by_hand() -> None:
    """Those of the app and of `include_router` too, which the route itself does not show."""
    routes = iter_route_contexts(create_app(settings_for("postgresql://localhost/none")).routes)
    [emit] = [one for one in routes if one.path == "/api/{storeCode}/event" and "POST" in (one.methods or ())]
    assert [one.call for one in emit.dependant.dependencies] == [MAY_EMIT, resources, ONE_EVENT]


async def test_a_single_emit_is_answered_as_by_the_framework_itself(
    database_template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with it, and whatever else is."""
    event = {"eventName": "CustomerUpdated", "data": {}, "eventId": UUID4}
    right = json.dumps({"event": event}).encode()
    wrong = json.dumps({"event": event | {"createdAt": "yesterday"}}).encode()
    other = json.dumps({"event": event | {"data": {"customer": {"customerId": UUID4}}}}).encode()
    paths = ["event", "/api/none/event", "/api/%64efault/event", "/api/a%2Fb/event", "/api/%ff/event", "event/"]
    credentials: list[dict[str, str]] = [
        {},
        {"X-AUTH-TOKEN": "wrong"},
        {"Authorization": "Basic eA=="},
        {"Authorization": "Bearer x"},
    ]
    bodies = [right, right, other, wrong, b"", b"[]", b"\xff", b"{" + b" " * 70_000 + b"}"]
    asked = [(path, headers, body) for path in paths for headers in credentials for body in bodies]

    async def answers() -> list[tuple[int, dict[str, str], str]]:
        async with cloned_database(database_template) as url, running_api(url, event_limit_bytes=64 * 1024) as api:
            got = [await api.post(path, body, headers=headers) for path, headers, body in asked]
            got += [await api.client.request(method, api.url("event")) for method in ("GET", "OPTIONS", "HEAD", "PUT")]
            return [(one.status_code, dict(one.headers), one.text) for one in got]

    by_hand = await answers()
    monkeypatch.setattr(EmitRoute, "handler", CountedRoute.handler)
    assert by_hand == await answers()
    assert {status for status, *_ in by_hand} == {202, 400, 401, 404, 405, 409, 413}
