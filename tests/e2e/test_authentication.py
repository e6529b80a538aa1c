"""Deliveries to receivers that demand to know who sends, from the API's call to the receiver's answer."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.api.acting import ActionStarts, acting_installation, in_a_new_store
from tests.authorization_server import AuthorizationServer
from tests.databases import cloned_database
from tests.receiver import Authority, Exchange, Receiver, client_of, status


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
async def installed(
    database_template: str, temporal: WorkflowEnvironment, authority: Authority
) -> AsyncIterator[ActionStarts]:
    """API and worker, which trust the test's authority."""
    async with (
        cloned_database(database_template) as url,
        acting_installation(url, temporal, ca_bundle=authority.ca_bundle) as started,
    ):
        yield started


@pytest.fixture
async def acting(installed: ActionStarts) -> ActionStarts:
    return await in_a_new_store(installed)


async def update(acting: ActionStarts, subscription_id: str, url: str, authentication: dict[str, Any]) -> None:
    """Replace the authentication of a subscription."""
    path = acting.api.url(f"webhook/subscription/{subscription_id}")
    body = {"webhookSubscription": {"url": url, "authentication": authentication}}
    answer = await acting.api.client.put(path, json=body)
    assert answer.status_code == 204, answer.text


def checked(accepts: Callable[[Exchange], bool]) -> Callable[[Exchange], Any]:
    async def reply(exchange: Exchange) -> None:
        await status(200 if accepts(exchange) else 403)(exchange)

    return reply


async def test_a_client_certificate_is_rotated_without_losing_a_delivery(
    acting: ActionStarts, authority: Authority
) -> None:
    first, second = (authority.client_pems(name) for name in ("first.example.com", "second.example.com"))
    accepted = "first.example.com"
    seen: list[str] = []

    def known(exchange: Exchange) -> bool:
        seen.append(client_of(exchange))
        return seen[-1] == accepted

    async with Receiver(tls=authority.server_context("127.0.0.1", require_client=True)) as receiver:
        receiver.otherwise = checked(known)
        mtls = {"type": "mtls", "certificate": first[0], "privateKey": first[1]}
        url = receiver.url("/hook")
        subscription = await acting.subscribe(url, authentication=mtls, retrySchedule=[1, 1, 1, 1])
        await acting.until(await acting.emit(), "delivered", 1)
        accepted = "second.example.com"
        event = await acting.emit()
        await acting.until(event, "pending", 1)
        renewed = {"type": "mtls", "certificate": second[0], "privateKey": second[1]}
        await update(acting, subscription, url, renewed)
        [delivery] = await acting.deliveries(event)
        assert (await acting.ended(delivery["messageId"]))["status"] == "delivered"
    assert (seen[0], seen[-1]) == ("first.example.com", "second.example.com")
    assert seen == sorted(seen)  # no request of the old one after the first of the new one


async def test_a_client_secret_is_rotated_without_losing_a_delivery(acting: ActionStarts, receiver: Receiver) -> None:
    async with Receiver() as socket:
        server = AuthorizationServer(socket, clients={"shop": "first"}, scopes={"deliveries"})
        socket.otherwise = server.token
        receiver.otherwise = server.protects(status(200))
        url = receiver.url("/hook")
        oauth2 = {"type": "oauth2", "tokenUrl": server.token_url, "clientId": "shop", "scope": "deliveries"}
        subscription = await acting.subscribe(
            url, authentication={**oauth2, "clientSecret": "first"}, retrySchedule=[1] * 20
        )
        await acting.until(await acting.emit(), "delivered", 1)
        server.clients["shop"] = "second"
        server.revoke_all()
        event = await acting.emit()
        await acting.until(event, "pending", 1)
        [delivery] = await acting.deliveries(event)
        assert (delivery["lastStatusCode"], delivery["lastFailure"]) == (401, "http_4xx")
        [attempt] = (await acting.look(f"delivery/{delivery['messageId']}"))["attemptList"][:1]
        assert "no new access token after the 401" in attempt["detail"]
        assert "invalid_client" in attempt["detail"]
        [explained] = (await acting.explain(event, subscription))["items"]
        assert "status 401" in explained["text"]
        await update(acting, subscription, url, {**oauth2, "clientSecret": "second"})
        assert (await acting.ended(delivery["messageId"]))["status"] == "delivered"
    details = await acting.look(f"subscription/{subscription}")
    assert details["authentication"] == {**oauth2, "clientSecret": "•••"}
