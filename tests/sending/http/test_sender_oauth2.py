"""OAuth 2: one token for many requests, another after a 401, and failures in words."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.verdict import CONTROL_HEADER, DeliveryControl
from domain.wire.oauth2 import OAuth2Client
from sending.http.client import NEW_TOKEN, NO_NEW_TOKEN, Sender
from sending.http.egress_proxy import EgressProxy
from sending.http.pool import SENT_AGAIN
from tests.authorization_server import AuthorizationServer
from tests.forward_proxy import scripted_proxy
from tests.receiver import Receiver, close_before_answer, hang, status
from tests.sending.http.sending import STRICT, local_sender, request_to

SECRET = "s3cret & %"


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with Receiver() as socket:
        server = AuthorizationServer(socket, clients={"shop: 1": SECRET}, scopes={"deliveries"})
        socket.otherwise = server.token
        yield server


@pytest.fixture(params=[None, lambda ours: ours], ids=["direct", "over httpx"])
async def sender(request: pytest.FixtureRequest) -> AsyncIterator[Sender]:
    async with local_sender(transport=request.param) as sender:
        yield sender


def client_of(server: AuthorizationServer) -> OAuth2Client:
    return OAuth2Client(server.token_url, "shop: 1", SECRET, "deliveries")


async def test_concurrent_requests_share_one_token(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = server.protects(status(200))
    request = request_to(receiver.url(), oauth2=client_of(server))
    results = await asyncio.gather(*(sender.send(request) for _ in range(20)))
    results.append(await sender.send(request))
    assert {(result.status_code, result.stored_detail) for result in results} == {
        (200, "sent with an OAuth 2 access token")
    }
    assert [granted["scope"] for granted in server.granted] == ["deliveries"]
    token = server.granted[0]["access_token"]
    assert {one.header("Authorization") for one in receiver.requests} == {f"Bearer {token}"}


async def test_a_token_is_replaced_before_it_ends(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    server.life_seconds = 0
    receiver.otherwise = status(200)
    for _ in range(2):
        assert (await sender.send(request_to(receiver.url(), oauth2=client_of(server)))).status_code == 200
    assert len(server.granted) == 2


async def test_after_a_401_another_token_is_tried_once_within_the_attempt(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = server.protects(status(200))
    request = request_to(receiver.url(), b'{"a":1}', oauth2=client_of(server))
    assert (await sender.send(request)).status_code == 200
    server.revoke_all()
    results = await asyncio.gather(*(sender.send(request) for _ in range(5)))
    assert {(result.status_code, result.failure, result.note) for result in results} == {
        (200, None, f"Odd: {NEW_TOKEN}")
    }
    assert len(server.granted) == 2
    assert {one.body for one in receiver.requests} == {b'{"a":1}'}
    assert (await sender.send(request)).note == ""


async def test_an_attempt_notes_a_repeat_before_its_401_too(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = server.protects(status(200))
    request = request_to(receiver.url(), oauth2=client_of(server))
    await sender.send(request)
    server.revoke_all()
    receiver.script(close_before_answer())
    result = await sender.send(request)
    assert (result.status_code, result.note) == (200, f"Odd: {SENT_AGAIN}, {NEW_TOKEN}")
    assert len(receiver.requests) == 4


async def test_a_second_401_is_the_answer_and_shows_no_token(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = AuthorizationServer(server.socket, clients={}).protects(status(200))
    result = await sender.send(request_to(receiver.url(), oauth2=client_of(server)))
    assert (result.status_code, result.failure, len(receiver.requests), len(server.granted)) == (401, None, 2, 2)
    assert result.excerpt == "not valid: •••"


async def test_a_receiver_that_always_answers_401_leaves_the_token_to_the_others(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = status(401)
    refused = request_to(receiver.url(), oauth2=client_of(server))
    notes = [(await sender.send(refused)).note for _ in range(3)]
    assert notes == [f"Odd: {NEW_TOKEN}", "", ""]
    assert (len(server.granted), len(receiver.requests)) == (2, 4)
    receiver.otherwise = server.protects(status(200))
    assert (await sender.send(refused)).status_code == 200
    assert len(server.granted) == 2


async def test_a_401_is_the_answer_if_no_other_token_is_granted(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = status(200)
    request = request_to(receiver.url(), redact=(SECRET,), oauth2=client_of(server))
    assert (await sender.send(request)).status_code == 200
    server.socket.otherwise = status(400, body=b'{"error":"s3cret & %"}')
    receiver.script(status(401))
    result = await sender.send(request)
    assert (result.status_code, result.failure) == (401, None)
    assert result.note == f"Odd: {NO_NEW_TOKEN} (the authorization server answered 400, •••)"
    assert (await sender.send(request)).status_code == 200  # with the token that it had
    server.socket.otherwise = server.token
    receiver.script(status(401))
    assert (await sender.send(request)).note == f"Odd: {NEW_TOKEN}"  # The failed request begins no waiting time.


async def test_a_401_that_tells_what_to_do_is_the_answer(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = status(401, headers=((CONTROL_HEADER, DeliveryControl.ABORT_MESSAGE.value),))
    result = await sender.send(request_to(receiver.url(), oauth2=client_of(server)))
    assert (result.status_code, result.control, result.note) == (401, DeliveryControl.ABORT_MESSAGE, "")
    assert (len(receiver.requests), len(server.granted)) == (1, 1)


async def test_a_401_with_an_unknown_word_is_tried_with_another_token(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = status(200)
    receiver.script(status(401, headers=((CONTROL_HEADER, "whatever"),)))
    result = await sender.send(request_to(receiver.url(), oauth2=client_of(server)))
    assert (result.status_code, result.note, len(server.granted)) == (200, f"Odd: {NEW_TOKEN}", 2)


async def test_a_401_is_the_answer_if_the_attempt_ends_before_another_token_comes(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    request = request_to(receiver.url(), oauth2=client_of(server))
    assert (await sender.send(request)).status_code == 200
    server.socket.otherwise = hang()
    receiver.otherwise = status(401)
    result = await sender.send(replace(request, timeout_seconds=0.5))
    assert (result.status_code, result.failure, result.detail) == (401, None, "")
    why = "no answer of the authorization server before the attempt's end (0.5 s)"
    assert result.note == f"Odd: {NO_NEW_TOKEN} ({why})"


async def test_each_client_has_tokens_of_its_own(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = server.protects(status(200))
    server.clients["other"] = "another"
    for client in (client_of(server), OAuth2Client(server.token_url, "other", "another")):
        assert (await sender.send(request_to(receiver.url(), oauth2=client))).status_code == 200
    assert len(server.granted) == 2
    wrong = replace(client_of(server), client_secret="a guess")
    assert (await sender.send(request_to(receiver.url(), oauth2=wrong))).failure is FailureKind.oauth2_token


async def test_without_a_token_nothing_is_sent_and_the_attempt_says_why(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    good = client_of(server)
    closed = server.token_url.replace(f":{server.socket.port}", ":1")
    for client, detail in (
        (
            replace(good, client_secret="wrong"),
            "the authorization server answered 401, invalid_client: client authentication failed",
        ),
        (
            replace(good, scope="all"),
            "the authorization server answered 400, invalid_scope: unknown scope all",
        ),
        (
            replace(good, token_url=closed),
            "no answer of the authorization server: connection refused by 127.0.0.1",
        ),
        (
            replace(good, token_url="http://169.254.169.254/token"),
            "no answer of the authorization server: 169.254.169.254 is a cloud metadata address",
        ),
    ):
        result = await sender.send(request_to(receiver.url(), oauth2=client))
        assert (result.status_code, result.failure) == (None, FailureKind.oauth2_token)
        assert detail in result.detail
    assert receiver.requests == []


async def test_the_address_guard_stands_before_the_token_url(server: AuthorizationServer, receiver: Receiver) -> None:
    async with local_sender(rules=STRICT) as sender:
        result = await sender.send(request_to(receiver.url(), oauth2=client_of(server)))
    assert result.failure is FailureKind.oauth2_token
    assert "a loopback address" in result.detail
    assert server.socket.requests == []


async def test_a_token_url_that_the_egress_proxy_refuses_is_a_refusal_of_the_proxy(
    server: AuthorizationServer, receiver: Receiver
) -> None:
    async with scripted_proxy(b"HTTP/1.1 403 Filtered\r\n\r\n") as proxy:
        through = EgressProxy.of(f"http://127.0.0.1:{proxy.port}")
        async with local_sender(proxy=through) as sender:
            result = await sender.send(request_to(receiver.url(), oauth2=client_of(server)))
    assert (result.failure, result.detail) == (
        FailureKind.proxy_refused,
        "no answer of the authorization server: the egress proxy refuses this receiver (403)",
    )


@pytest.mark.parametrize("timeout_seconds", [None, 0.1], ids=["the token's time", "the attempt's time"])
async def test_a_silent_egress_proxy_is_no_failure_of_the_authorization_server(
    timeout_seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sending.http.client.TOKEN_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never shakes hands
        through = EgressProxy.of(f"https://127.0.0.1:{silent.getsockname()[1]}")
        client = OAuth2Client("http://127.0.0.1:1/token", "shop", SECRET)
        async with local_sender(proxy=through) as sender:
            request = request_to("http://127.0.0.1:1/", oauth2=client, timeout_seconds=timeout_seconds)
            result = await sender.send(request)
    when = "before the attempt's end (0.1 s)" if timeout_seconds else "within 0.3 s"
    assert (result.failure, result.detail) == (
        FailureKind.proxy_unavailable,
        f"no connection to the egress proxy {when}",
    )


async def test_an_attempt_that_ends_before_it_has_a_token_is_no_timeout_of_the_receiver(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    server.socket.otherwise = hang()
    result = await sender.send(request_to(receiver.url(), oauth2=client_of(server), timeout_seconds=0.3))
    assert (result.failure, result.detail) == (
        FailureKind.oauth2_token,
        "no answer of the authorization server before the attempt's end (0.3 s)",
    )


async def test_a_silent_authorization_server_is_named(
    server: AuthorizationServer, sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sending.http.client.TOKEN_SECONDS", 0.2)
    server.socket.otherwise = hang()
    result = await sender.send(request_to(receiver.url(), oauth2=client_of(server)))
    assert (result.failure, result.detail) == (
        FailureKind.oauth2_token,
        "no answer of the authorization server within 0.2 s",
    )
    monkeypatch.setattr("sending.http.client.TOKEN_SECONDS", 30.0)
    server.socket.otherwise = server.token
    receiver.otherwise = server.protects(status(200))
    assert (await sender.send(request_to(receiver.url(), oauth2=client_of(server)))).status_code == 200


async def test_a_secret_that_the_server_echoes_is_not_kept(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    server.socket.otherwise = status(400, body=b'{"error":"invalid_client","error_description":"s3cret & % is wrong"}')
    request = request_to(receiver.url(), redact=(SECRET,), oauth2=client_of(server))
    assert (await sender.send(request)).detail.endswith("invalid_client: ••• is wrong")


async def test_a_cancelled_request_leaves_the_others_their_token(
    server: AuthorizationServer, sender: Sender, receiver: Receiver
) -> None:
    receiver.otherwise = server.protects(status(200))
    request = request_to(receiver.url(), oauth2=client_of(server))
    first, second = (asyncio.create_task(sender.send(request)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).status_code == 200
    assert len(server.granted) == 1
