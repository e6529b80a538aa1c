"""The egress proxy: a real one (tinyproxy) in front of real receivers, and scripted ones for the odd answers."""

import asyncio
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from domain.delivery.failure_kinds import FailureKind
from domain.wire.client_certificate import ClientCertificate
from domain.wire.oauth2 import OAuth2Client
from sending.http import pool
from sending.http.egress_proxy import EgressProxy
from tests.authorization_server import AuthorizationServer
from tests.forward_proxy import Tinyproxy, scripted_proxy, tinyproxy
from tests.receiver import Authority, Exchange, Receiver, client_of, raw, response, status
from tests.sending.http.sending import LOCAL, STRICT, local_sender, request_to, send
from tests.sending.http.test_sender_addresses import resolve_to
from tests.sending.http.test_sender_loops import LOOPS, descriptors, kept, until, without_collector
from tests.tcp_proxy import TcpProxy

AUTHORITY = Authority()
NAME = "hooks.example.com"


def proxy_at(port: int, scheme: str = "http", user: str = "", **settings: Any) -> EgressProxy:
    """The proxy on this machine."""
    return EgressProxy.of(f"{scheme}://{user}{'localhost' if scheme == 'https' else '127.0.0.1'}:{port}", **settings)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_delivery_goes_to_the_checked_address_and_its_certificate_is_checked_for_the_name(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    context = AUTHORITY.server_context(NAME)
    context.sni_callback = lambda _, name, __: names.append(name)
    resolve_to(monkeypatch, ("127.0.0.1",))
    with tinyproxy(tmp_path, "BasicAuth somebody some.thing") as proxy:
        through = proxy_at(proxy.port, user="somebody:some%2Ething@")
        async with Receiver(tls=context if tls else None) as receiver:
            async with local_sender(proxy=through, ca_bundle=AUTHORITY.ca_bundle) as sender:
                for _ in range(2):
                    result = await sender.send(request_to(receiver.url("/points", host=NAME)))
                    assert (result.status_code, result.failure, result.detail) == (200, None, "")
            assert receiver.requests[0].header("Host") == f"{NAME}:{receiver.port}"
            assert receiver.connections == 1, "the tunnel is kept for the next request"
            assert proxy.asked == [f"127.0.0.1:{receiver.port}"]
            assert names == ([NAME] if tls else [])
            if tls:
                other = await send(receiver.url(host="other.example.com"), proxy=through, ca_bundle=AUTHORITY.ca_bundle)
                assert (other.failure, "not valid for" in other.detail) == (FailureKind.tls, True)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_certificate_is_presented_through_a_proxy_to_the_receiver_of_the_name_alone(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str | None, bool]] = []

    async def note(exchange: Exchange) -> None:
        tls = exchange.writer.get_extra_info("ssl_object")
        seen.append((client_of(exchange), names[-1], tls.session_reused))
        await raw(response(), close=True)(exchange)

    names: list[str | None] = []
    context = AUTHORITY.server_context(NAME, require_client=True)
    context.sni_callback = lambda _, name, __: names.append(name)
    clients = [ClientCertificate(*AUTHORITY.client_pems(name)) for name in ("one.example.com", "other.example.com")]
    resolve_to(monkeypatch, ("127.0.0.1",))

    async def work(proxy: Tinyproxy) -> None:
        async with (
            Receiver(tls=context) as receiver,
            local_sender(proxy=proxy_at(proxy.port), ca_bundle=AUTHORITY.ca_bundle) as sender,
        ):
            receiver.otherwise = note
            for certificate in clients * 2:
                result = await sender.send(request_to(receiver.url(host=NAME), certificate=certificate))
                assert result.status_code == 200, result
                assert result.stored_detail == (
                    "sent through the egress proxy, with the client certificate valid until 3000-01-01"
                )
            elsewhere = request_to(receiver.url(host="elsewhere.example.com"), certificate=clients[0])
            result = await sender.send(elsewhere)
            assert (result.failure, "not valid for" in result.detail) == (FailureKind.tls, True)
            assert len(receiver.requests) == 4
            assert set(proxy.asked) == {f"127.0.0.1:{receiver.port}"}

    with tinyproxy(tmp_path) as proxy, asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(work(proxy))
    assert seen == [(name, NAME, again) for again in (False, True) for name in ("one.example.com", "other.example.com")]


@pytest.mark.usefixtures("programs")
async def test_a_token_request_goes_through_the_proxy_to_a_checked_address_as_its_delivery_does(
    tmp_path: Path,
) -> None:
    async with Receiver(host="127.0.0.2") as socket, Receiver() as receiver:
        server = AuthorizationServer(socket, clients={"shop": "s3cret"})
        socket.otherwise = server.token
        receiver.otherwise = server.protects(status(200))
        request = request_to(receiver.url(), oauth2=OAuth2Client(server.token_url, "shop", "s3cret"))
        with tinyproxy(tmp_path) as proxy:
            through = proxy_at(proxy.port)
            async with local_sender(proxy=through, rules=STRICT) as strict:
                refused = await strict.send(request)
            assert (refused.failure, proxy.asked) == (FailureKind.oauth2_token, [])
            assert "127.0.0.2 is a loopback address" in refused.detail
            async with local_sender(proxy=through) as sender:
                result = await sender.send(request)
            assert result.status_code == 200, result
            assert result.stored_detail == "sent through the egress proxy, with an OAuth 2 access token"
            assert proxy.asked == [f"127.0.0.2:{socket.port}", f"127.0.0.1:{receiver.port}"]


@pytest.mark.usefixtures("programs")
async def test_a_real_proxy_tells_a_receiver_that_is_down_its_policy_and_wrong_credentials_apart(
    tmp_path: Path,
) -> None:
    refused = tmp_path / "filter"
    refused.write_text("127.0.0.9\n")
    with tinyproxy(tmp_path, "BasicAuth somebody something", f'Filter "{refused}"', "FilterType fnmatch") as proxy:
        results = [
            await send(url, proxy=proxy_at(proxy.port, user=user))
            for url, user in (
                ("http://127.0.0.1:1/", "somebody:something@"),
                ("http://127.0.0.9:1/", "somebody:something@"),
                ("http://127.0.0.1:1/", "somebody:wrong@"),
                ("http://127.0.0.1:1/", ""),
            )
        ]
    assert [(result.failure, result.detail) for result in results] == [
        (FailureKind.connect, "no connection through the egress proxy (500): 127.0.0.1"),
        (FailureKind.proxy_refused, "the egress proxy refuses this receiver (403)"),
        (FailureKind.proxy_unavailable, "the egress proxy does not accept our user and password (401)"),
        (FailureKind.proxy_unavailable, "the egress proxy does not accept our user and password (407)"),
    ]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scheme", ["http", "https", "mtls"])
def test_a_tunnel_through_a_proxy_over_tls_carries_http_and_tls_and_leaves_nothing_behind(
    scheme: str, loop: str
) -> None:
    """TLS within TLS is where event loops differ."""

    async def work() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        mtls = ClientCertificate(*AUTHORITY.client_pems("one.example.com")) if scheme == "mtls" else None
        context = AUTHORITY.server_context("127.0.0.1", require_client=mtls is not None) if scheme != "http" else None
        body = b"x" * (1 << 20)
        async with Receiver(tls=context) as receiver:
            await send(receiver.url())  # the loop opens some of its own for the first
            open_before = descriptors()
            receiver.otherwise = raw(response(200, b"y" * 70_000))
            async with scripted_proxy(upstream=receiver.port, tls=AUTHORITY.server_context("localhost")) as proxy:
                through = {"proxy": proxy_at(proxy.port, "https"), "ca_bundle": AUTHORITY.ca_bundle}
                async with local_sender(**through) as sender:
                    for _ in range(3):
                        result = await sender.send(request_to(receiver.url(), body, certificate=mtls))
                        assert (result.status_code, result.failure) == (200, None), result
                assert {len(request.body) for request in receiver.requests[-3:]} == {len(body)}
                assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1\r\n")
                untrusted = await send(receiver.url(), proxy=through["proxy"])
                assert untrusted.failure is FailureKind.proxy_unavailable
                assert "certificate verify failed" in untrusted.detail
            await until(lambda: not kept() and descriptors() <= open_before, "the end")
        assert complaints == []

    with without_collector(), asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(work())


CONNECT, REFUSED, UNAVAILABLE = FailureKind.connect, FailureKind.proxy_refused, FailureKind.proxy_unavailable


@pytest.mark.parametrize(
    ("answer", "failure", "detail"),
    [
        (b"HTTP/1.1 502 X\r\n\r\n", CONNECT, "no connection through the egress proxy (502): 127.0.0.1"),
        (b"HTTP/1.1 503 X\r\n\r\n", CONNECT, "no connection through the egress proxy (503): 127.0.0.1"),
        (
            b"HTTP/1.1 504 X\r\n\r\n",
            FailureKind.timeout,
            "the connection through the egress proxy timed out (504): 127.0.0.1",
        ),
        (
            b"HTTP/1.1 403 X\r\nContent-Length: 4\r\n\r\nno\r\n",
            REFUSED,
            "the egress proxy refuses this receiver (403)",
        ),
        (
            b'HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n',
            UNAVAILABLE,
            "the egress proxy does not accept our user and password (407)",
        ),
        *[
            (b"HTTP/1.1 %d X\r\n\r\n" % status, REFUSED, f"the egress proxy refuses this receiver ({status})")
            for status in (302, 400, 404, 405, 429, 451)
        ],
        *[
            (
                b"HTTP/1.1 %d X\r\n\r\n" % status,
                CONNECT,
                f"no connection through the egress proxy ({status}): 127.0.0.1",
            )
            for status in (507, 999)
        ],
        (b"SSH-2.0-OpenSSH_9.2\r\n", UNAVAILABLE, "the egress proxy does not answer in HTTP/1.1"),
        (b"HTTP/1.1 200 X\r\n" + b"X: y\r\n" * 9000, UNAVAILABLE, "the egress proxy does not answer in HTTP/1.1"),
        (b"", UNAVAILABLE, "the egress proxy closed the connection without an answer"),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_answers_to_connect_are_told_apart(answer: bytes, failure: FailureKind, detail: str) -> None:
    async with scripted_proxy(answer) as proxy:
        result = await send("http://127.0.0.1:1/", proxy=proxy_at(proxy.port))
    assert (result.status_code, result.failure, result.detail) == (None, failure, detail)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 204 X\r\n\r\n",
    ],
)
async def test_any_2xx_opens_the_tunnel(answer: bytes) -> None:
    async with Receiver() as receiver, scripted_proxy(answer, receiver.port) as proxy:
        assert (await send(receiver.url(), proxy=proxy_at(proxy.port))).status_code == 200


async def test_an_interim_response_in_a_packet_of_its_own_is_not_the_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 403 X\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    result = await send("http://127.0.0.1:1/", proxy=proxy_at(server.sockets[0].getsockname()[1]))
    server.close()
    assert result.failure is REFUSED


async def test_a_proxy_that_is_not_there_is_no_failure_of_the_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = await send("http://127.0.0.1:1/", proxy=proxy_at(1))
    unknown = await send("http://127.0.0.1:1/", proxy=EgressProxy.of("http://proxy.invalid:3128"))
    assert (refused.failure, refused.detail) == (UNAVAILABLE, "no connection to the egress proxy: connection refused")
    assert unknown.failure is UNAVAILABLE

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    over_tls = proxy_at(port, "https")  # the handshake with it never ends
    late = await send("http://127.0.0.1:1/", proxy=over_tls, timeout_seconds=0.3)
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.3)
    results = [late, await send("http://127.0.0.1:1/", proxy=over_tls)]
    assert {(result.failure, result.detail) for result in results} == {
        (UNAVAILABLE, "no connection to the egress proxy within 0.3 s")
    }
    waits = await send("http://127.0.0.1:1/", proxy=proxy_at(port))  # as a proxy does that tries the receiver
    assert (waits.failure, waits.detail) == (
        CONNECT,
        "no connection to 127.0.0.1 through the egress proxy within 0.3 s",
    )
    silent.close()


async def test_the_guard_decides_before_the_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ("127.0.0.1",))
    for resolves in (False, True):
        async with scripted_proxy() as proxy:
            through = proxy_at(proxy.port, resolves=resolves)
            literal = await send("http://127.0.0.1:1/", rules=STRICT, proxy=through)
            named = await send("http://localhost:1/", rules=STRICT, proxy=through)
            assert literal.failure is named.failure is FailureKind.blocked
            if not resolves:
                rebound = await send("http://rebound.example.com/", rules=STRICT, proxy=through)
                assert rebound.failure is FailureKind.dns_refused
            assert proxy.connections == 0


async def test_a_proxy_that_resolves_is_told_the_name_and_nothing_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = resolve_to(monkeypatch, ("127.0.0.1",))
    async with (
        Receiver(tls=AUTHORITY.server_context(NAME)) as receiver,
        scripted_proxy(upstream=receiver.port) as proxy,
    ):
        through = proxy_at(proxy.port, resolves=True)
        result = await send(receiver.url(host=NAME), rules=LOCAL, proxy=through, ca_bundle=AUTHORITY.ca_bundle)
        assert result.status_code == 200, result
        assert proxy.heads == [f"CONNECT {NAME}:{receiver.port} HTTP/1.1\r\nHost: {NAME}:{receiver.port}\r\n\r\n"]
    assert asked == []


async def test_a_tunnel_that_closes_at_once_is_a_handshake_cut_off() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    result = await send("https://127.0.0.1:1/", proxy=proxy_at(server.sockets[0].getsockname()[1]))
    server.close()
    assert (result.failure, result.detail) == (
        FailureKind.tls,
        "the connection was closed during the TLS handshake",
    )


async def test_the_next_address_is_tried_where_the_proxy_does_not_reach_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, ("::1", "127.0.0.1"))
    async with Receiver() as receiver:
        tunnel = TcpProxy("127.0.0.1", receiver.port)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"CONNECT [::1]:" in head:
                writer.write(b"HTTP/1.1 503 X\r\n\r\n")
                writer.close()
            else:
                writer.write(b"HTTP/1.1 200 X\r\n\r\n")
                await tunnel.serve(reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        result = await send(receiver.url(host=NAME), proxy=proxy_at(server.sockets[0].getsockname()[1]))
        server.close()
    assert (result.status_code, result.failure) == (200, None), result


async def test_a_receiver_without_the_proxy_is_reached_directly() -> None:
    direct = ("example.com", ip_network("127.0.0.0/8"))
    async with Receiver() as receiver, scripted_proxy() as proxy:
        through = proxy_at(proxy.port, no_proxy=direct)
        assert (await send(receiver.url(), proxy=through)).status_code == 200
        assert proxy.connections == 0
    for host, served in (
        ("example.com", False),
        ("hooks.example.com", False),
        ("notexample.com", True),
        ("example.com.evil.org", True),
        ("127.1.2.3", False),
        ("128.0.0.1", True),
        ("::1", True),
    ):
        assert through.serves(host) is served, host


def test_the_password_of_the_proxy_is_in_no_text() -> None:
    assert "secret" not in repr(EgressProxy.of("http://user:secret@127.0.0.1:1"))
