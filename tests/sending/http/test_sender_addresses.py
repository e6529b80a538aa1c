"""No URL and no name leads the sender to a private listener: the table of URLs again, now at the socket.

Three layers are tried one without the other: the sender, which judges a stored URL anew; the connections alone, which
get the URL unjudged and have their own resolver and sockets to refuse the address; the allow-list, which must let
through what it names, or the listener would prove nothing.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import pytest

from domain.delivery.failure_kinds import FailureKind
from domain.urls.rules import NormalisedUrl, UrlRefused, UrlRules, normalise_url
from sending.http import address_guard, pool
from sending.http.address_guard import AddressBlockedError
from sending.http.client import OutgoingRequest, Sender, SenderSettings, failure_of
from sending.http.connection import Response
from sending.http.pool import Connections
from tests.domain.url_vectors import UrlVector, url_vectors
from tests.house import ROOT
from tests.receiver import Receiver
from tests.sending.http.sending import LOCAL, STRICT, TIMEOUT_SECONDS, local_sender, request_to

# One line has a permitted address of the Internet beside a refused one; tests send nothing there.
REFUSED = [vector for vector in url_vectors() if vector.verdict != "ok" and "93.184.215.14" not in vector.addresses]
real_getaddrinfo = socket.getaddrinfo


class Listener:
    """Counts the connections to one port on every IPv4 and IPv6 address of this machine."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        self._servers.append(await asyncio.start_server(self._accept, "0.0.0.0", 0))
        self.port = self._servers[0].sockets[0].getsockname()[1]
        if socket.has_ipv6:
            self._servers.append(await asyncio.start_server(self._accept, "::", self.port))

    async def aclose(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    await listener.start()
    yield listener
    await listener.aclose()


def _found(address: str, port: int) -> tuple[int, int, int, str, tuple[Any, ...]]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, ...]) -> list[str]:
    """Let names resolve to the first answer, then the second…, the last for ever; returns the names asked for.

    Literal addresses in any notation go to the system's own parser, which needs no network for them.
    """
    asked: list[str] = []

    def lookup(host: str, port: int, **options: Any) -> list[Any]:
        try:
            return real_getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
        except socket.gaierror:
            addresses = answers[min(len(asked), len(answers) - 1)]
            asked.append(host)
            return [_found(address, port) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


@pytest.mark.parametrize("vector", REFUSED, ids=str)
async def test_no_refused_url_of_the_table_gets_through_at_send(
    vector: UrlVector, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, vector.addresses or ("127.0.0.1",))
    url = vector.at(listener.port)
    try:
        stored = normalise_url(url, STRICT)
    except UrlRefused:
        stored = NormalisedUrl(url, "http", "example.com", "example.com", 80, "/", "/")
    async with Sender(SenderSettings(rules=STRICT)) as sender:
        result = await sender.send(OutgoingRequest(stored, [], b"{}"))
    kind = FailureKind.dns_refused if vector.verdict == "address" else FailureKind.blocked
    assert (result.status_code, result.failure) == (None, kind), result
    assert result.detail
    assert listener.connections == 0


async def reached_unjudged(url: str, rules: UrlRules) -> bool:
    """Send to `url` without judging it first; whether anything answered."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return False
    unjudged = NormalisedUrl(url, parts.scheme, parts.netloc, parts.hostname or "", port, "/", "/")
    connections = Connections(rules)
    response = Response(body_limit=100)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await connections.exchange(unjudged, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", response)
    except Exception as error:
        failure_of(error)
    finally:
        await connections.aclose()
    return response.status_code is not None


@pytest.mark.parametrize("vector", REFUSED, ids=str)
async def test_no_refused_url_of_the_table_gets_through_the_connections_alone(
    vector: UrlVector, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, vector.addresses or ("127.0.0.1",))
    assert not await reached_unjudged(vector.at(listener.port), STRICT)
    assert listener.connections == 0


async def test_without_the_guard_many_urls_of_the_table_do_reach_the_listener(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = UrlRules(allow_http=True, allowed_networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    resolve_to(monkeypatch, ("127.0.0.1",))
    reached = 0
    for vector in REFUSED:
        leads_here = "PORT" in vector.url and ("[" not in vector.url or "::1]" in vector.url)
        if leads_here and vector.verdict in {"blocked_address", "address"}:
            reached += await reached_unjudged(vector.at(listener.port), everything)
    assert reached >= 25, "else the listener proves nothing"
    assert listener.connections == reached


async def test_a_name_that_turns_to_a_private_address_after_its_check_is_blocked_at_send(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolve_to(monkeypatch, ("127.0.0.2",), ("127.0.0.1",))
    rules = UrlRules(allow_http=True, allowed_networks=(ip_network("127.0.0.2/32"),))
    url = normalise_url(f"http://rebind.example.com:{listener.port}/", rules)
    for expected in (None, FailureKind.dns_refused, FailureKind.dns_refused):
        async with Sender(SenderSettings(rules=rules)) as sender:
            result = await sender.send(OutgoingRequest(url, [], b"{}"))
        assert result.failure is expected, result
    assert listener.connections == 1, "only the first went out, to the permitted address"
    assert asked == ["rebind.example.com"] * 3
    assert result.detail == (
        "rebind.example.com resolves to refused addresses only: 127.0.0.1 is a loopback address (127.0.0.0/8)"
    )
    literal = normalise_url(f"http://127.0.0.1:{listener.port}/", LOCAL)
    async with Sender(SenderSettings(rules=rules)) as sender:
        assert (await sender.send(OutgoingRequest(literal, [], b"{}"))).failure is FailureKind.blocked


@pytest.mark.parametrize("others", [("127.0.0.2",), ("::1",), ("127.0.0.2", "127.0.0.3", "::1")], ids=" ".join)
async def test_a_receiver_that_is_down_at_all_its_addresses_is_told_in_words(
    others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # the port is nobody else's, and nobody listens
        resolve_to(monkeypatch, ("127.0.0.1", *others))
        async with local_sender() as sender:
            result = await sender.send(request_to(f"http://down.example.com:{taken.getsockname()[1]}/"))
    assert result.failure is FailureKind.connect
    assert "connection refused by " in result.detail
    assert all(address in result.detail for address in ("127.0.0.1", *others))
    assert "Error" not in result.detail
    if ":" not in "".join(others):
        assert result.detail == "connection refused by 127.0.0.1 and 127.0.0.2"


async def test_one_address_that_works_is_found_among_dead_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver(host="127.0.0.3") as receiver, local_sender() as sender:
        resolve_to(monkeypatch, ("::1", "127.0.0.1", "127.0.0.2", "127.0.0.3"))
        for _ in range(4):
            assert (await sender.send(request_to(receiver.url(host="some.example.com")))).status_code == 200


@pytest.mark.parametrize("stage", ["no address of", "no connection to", "no TLS handshake with"])
async def test_a_connection_has_a_time_limit_of_its_own(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(address_guard, "LOOKUP_SECONDS", 0.3)
    release = threading.Event()
    with socket.socket() as listening, contextlib.ExitStack() as clients:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0 if stage == "no connection to" else 100)
        port = listening.getsockname()[1]
        if stage == "no connection to":
            for _ in range(4):  # what nobody accepts fills the queue, and the kernel ignores the next
                client = clients.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
        elif stage == "no address of":
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(60) and [])
        host = "silent.example.com" if stage == "no address of" else "127.0.0.1"
        async with local_sender() as sender:
            result = await sender.send(request_to(f"https://{host}:{port}/"))
        release.set()
    failure = FailureKind.dns if stage == "no address of" else FailureKind.connect
    assert (result.failure, result.detail) == (failure, f"{stage} {host} within 0.3 s")


async def test_a_slow_lookup_leaves_the_connection_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.5)
    resolve_to(monkeypatch, ("127.0.0.1",))
    prompt = socket.getaddrinfo

    def slow(host: str, port: int, **options: Any) -> list[Any]:
        time.sleep(0.8)
        return prompt(host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    async with Receiver() as receiver, local_sender() as sender:
        assert (await sender.send(request_to(receiver.url(host="slow.example.com")))).status_code == 200


async def test_of_several_addresses_only_permitted_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    private = await asyncio.start_server(lambda reader, writer: pytest.fail("reached"), "127.0.0.1", 0)
    port = private.sockets[0].getsockname()[1]
    async with Receiver(host="127.0.0.2", port=port) as public:
        resolve_to(monkeypatch, ("127.0.0.1", "127.0.0.2", "10.0.0.1"))
        rules = UrlRules(allow_http=True, allowed_networks=(ip_network("127.0.0.2/32"),))
        url = normalise_url(f"http://both.example.com:{port}/", rules)
        async with Sender(SenderSettings(rules=rules)) as sender:
            result = await sender.send(OutgoingRequest(url, [], b"{}"))
        assert (result.status_code, len(public.requests)) == (200, 1)
    private.close()


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%lo", "nonsense"]
)
async def test_the_socket_itself_is_refused_whatever_the_resolver_said(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(AddressBlockedError):
        await Connections(STRICT)._open_socket((family, socket.SOCK_STREAM, 6, "", (address, 443)))


async def test_the_allow_list_lets_through_what_it_names(listener: Listener) -> None:
    async with local_sender() as sender:
        for host in ("127.0.0.1", "127.0.0.2", "localhost"):
            result = await sender.send(request_to(f"http://{host}:{listener.port}/"))
            assert result.status_code == 200, result
    assert listener.connections == 3


def test_a_silent_name_server_does_not_hold_up_the_end_of_the_process() -> None:
    program = """
import asyncio, socket, threading
from tests.sending.http.sending import local_sender, request_to

socket.getaddrinfo = lambda *what, **options: threading.Event().wait(60)

async def main():
    async with local_sender(timeout_seconds=0.2) as sender:
        print((await sender.send(request_to("http://silent.example.com/"))).failure)

asyncio.run(main())
"""
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=40, check=True
    )
    assert done.stdout == "timeout\n"


async def test_a_name_server_that_does_not_answer_does_not_hold_up_other_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def lookup(host: str, port: int, **options: Any) -> list[Any]:
        if host == "silent.example.com":
            release.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    async with Receiver() as receiver, local_sender() as sender:
        to_silent = request_to(receiver.url(host="silent.example.com"))
        silent = [asyncio.create_task(sender.send(to_silent)) for _ in range(50)]
        fast = [sender.send(request_to(receiver.url(host=f"n{n}.example.com"))) for n in range(20)]
        assert [result.status_code for result in await asyncio.gather(*fast)] == [200] * 20
        assert not any(task.done() for task in silent)
        release.set()
        assert [(await task).status_code for task in silent] == [200] * 50
