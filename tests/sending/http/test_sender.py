"""What leaves the sender, byte for byte, and what it makes of an honest answer."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.transport import unchanged
from domain.delivery.verdict import DeliveryControl
from sending.http.egress_proxy import EgressProxy
from sending.http.transport import TransportFactory
from tests.forward_proxy import scripted_proxy
from tests.receiver import Authority, Exchange, Receiver, after, hang, response, status, when
from tests.sending.http.sending import TIMEOUT_SECONDS, local_sender, request_to, send


async def test_a_request_carries_exactly_the_headers_of_the_contract_and_the_body_unchanged() -> None:
    body = '{"ü":"\u2028","n":10.10}'.encode()
    async with Receiver() as receiver, local_sender() as sender:
        url = receiver.url("/hook?a=b")
        result = await sender.send(request_to(url, body, (("X-One", "1"), ("X-Two", "zwei ü"), ("X-One", "again"))))
    (received,) = receiver.requests
    assert (result.status_code, result.failure, result.excerpt) == (200, None, "ok")
    assert received.head.startswith(b"POST /hook?a=b HTTP/1.1\r\n")
    assert received.body == body
    assert sorted(received.head.split(b"\r\n")[1:-2]) == sorted(
        [
            f"Host: 127.0.0.1:{receiver.port}".encode(),
            b"Content-Type: application/json",
            b"Accept: */*",
            b"Accept-Encoding: identity",
            b"X-One: 1",
            "X-Two: zwei ü".encode(),
            b"X-One: again",
            b"User-Agent: OpenLoyalty",
            f"Content-Length: {len(body)}".encode(),
        ]
    )


async def test_a_subscription_may_replace_the_user_agent() -> None:
    async with Receiver() as receiver, local_sender(user_agent="Default/1") as sender:
        await sender.send(request_to(receiver.url(), headers=(("uSER-agent", "Mine/2"),)))
        await sender.send(request_to(receiver.url()))
    assert [[v for k, v in r.headers if k.lower() == "user-agent"] for r in receiver.requests] == [
        ["Mine/2"],
        ["Default/1"],
    ]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/%7E0",
        "/a%2Fb",
        "/a%2fb/%C3%A4",
        "/ä/漢",
        "/?q=a+b%20c",
        "/?q=%2B%26%3D%25",
        "/?a[]=1&b=ü",
        "/a//b/",
        "/a/../b",
        "/@:!$&'()*+,;=",
        "/%00%0D%0A",
        "/'\"<>`{|}^",
        "/x?y?z=/:@",
        "/x?",
        "/;v=1",
    ],
)
async def test_what_goes_over_the_wire_is_the_host_and_target_that_were_signed(path: str) -> None:
    async with Receiver() as receiver, local_sender() as sender:
        for host in (None, "localhost"):
            request = request_to(receiver.url(path, host=host))
            result = await sender.send(request)
            assert result.status_code == 200, result
            received = receiver.requests[-1]
            assert received.head.split(b"\r\n")[0] == f"POST {request.url.target} HTTP/1.1".encode()
            assert received.header("Host") == request.url.host
            assert received.target.partition("?")[0] == request.url.path


async def test_an_internationalised_host_is_sent_in_punycode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda host, port, **_: [(2, 1, 6, "", ("127.0.0.1", port))])
    async with Receiver() as receiver, local_sender() as sender:
        await sender.send(request_to(receiver.url("/ä", host="MÜNCHEN.example.com")))
    assert receiver.requests[0].header("Host") == f"xn--mnchen-3ya.example.com:{receiver.port}"
    assert receiver.requests[0].target == "/%C3%A4"


async def test_ipv6_literals_stand_in_brackets() -> None:
    try:
        receiver = Receiver(host="::1")
        await receiver.start()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with local_sender() as sender:
        result = await sender.send(request_to(receiver.url("/six")))
    await receiver.aclose()
    assert result.status_code == 200
    assert receiver.requests[0].header("Host") == f"[::1]:{receiver.port}"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed_but_shown(code: int) -> None:
    async with Receiver() as receiver, local_sender() as sender:
        receiver.script(status(code, headers=(("Location", f"{receiver.url('/elsewhere')}"), ("Retry-After", "7"))))
        result = await sender.send(request_to(receiver.url("/hook")))
        assert (result.status_code, result.failure) == (code, None)
        assert (result.location, result.retry_after_seconds) == (receiver.url("/elsewhere"), 7.0)
        assert len(receiver.requests) == 1


async def test_retry_after_is_read_from_any_answer_but_a_success() -> None:
    date = (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    async with Receiver() as receiver, local_sender() as sender:
        for code in (200, 404, 429, 503):
            receiver.script(status(code, headers=(("Retry-After", "120"),)))
        receiver.script(status(503, headers=(("Retry-After", date),)), status(503, headers=(("retry-after", "soon"),)))
        waits = [(await sender.send(request_to(receiver.url()))).retry_after_seconds for _ in range(6)]
    assert waits[:4] == [None, 120, 120, 120]
    assert waits[4] == pytest.approx(3600, abs=5)
    assert waits[5] is None


async def test_no_cookie_comes_back() -> None:
    async with Receiver() as receiver, local_sender() as sender:
        receiver.script(status(headers=(("Set-Cookie", "session=1; Path=/"),)))
        for _ in range(2):
            await sender.send(request_to(receiver.url()))
    assert receiver.requests[1].header("Cookie") is None


async def test_proxies_netrc_and_certificates_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    netrc.chmod(0o600)
    async with Receiver() as receiver, Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setitem(os.environ, name, proxy.url())
        monkeypatch.setitem(os.environ, "NETRC", str(netrc))
        monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        result = await send(receiver.url())
        assert result.status_code == 200
        assert (len(receiver.requests), len(proxy.requests)) == (1, 0)
        assert receiver.requests[0].header("Authorization") is None


async def test_a_connection_is_used_again() -> None:
    async with Receiver() as receiver, local_sender() as sender:
        for _ in range(5):
            await sender.send(request_to(receiver.url()))
        assert receiver.connections == 1


async def test_hanging_requests_to_a_host_hold_up_no_other_request_to_it() -> None:
    async with Receiver() as receiver, local_sender() as sender:
        receiver.script(*[hang()] * 150, path="/dead")
        dead = [asyncio.create_task(sender.send(request_to(receiver.url("/dead")))) for _ in range(150)]
        await receiver.wait_for(150)
        assert (await sender.send(request_to(receiver.url("/alive")))).status_code == 200
        for task in dead:
            task.cancel()
        await asyncio.gather(*dead, return_exceptions=True)


async def test_the_timeout_covers_the_whole_attempt() -> None:
    async with Receiver() as receiver, local_sender(timeout_seconds=0.3) as sender:
        receiver.script(after(5, status()))
        result = await sender.send(request_to(receiver.url()))
        assert (result.status_code, result.failure, result.detail) == (
            None,
            "timeout",
            "no complete answer within 0.3 s",
        )
        assert result.duration_ms >= 300


@pytest.mark.parametrize("answered", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"], ids=["nothing", "in part"])
async def test_a_request_that_was_given_up_is_sent_no_further(answered: bytes) -> None:
    """A receiver that reads again after the time-out gets a part, and then a reset. Without the reset it got the whole
    request, as a receiver did whose network was cut for longer than the time-out."""
    body, ended = b"x" * 8_000_000, asyncio.get_running_loop().create_future()
    given_up = asyncio.Event()

    async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answered)
        await given_up.wait()
        received = 0
        try:
            while part := await reader.read(65536):
                received += len(part)
            ended.set_result((received, "closed"))
        except ConnectionResetError:
            ended.set_result((received, "reset"))
        writer.close()

    server = await asyncio.start_server(read_late, "127.0.0.1", 0, limit=1024)
    async with server, local_sender(timeout_seconds=0.5) as sender:
        port = server.sockets[0].getsockname()[1]
        result = await sender.send(request_to(f"http://127.0.0.1:{port}/", body))
        given_up.set()
        received, how = await asyncio.wait_for(ended, 30)
    assert result.failure == "timeout"
    assert how == "reset"
    assert received < len(body)


async def test_a_request_has_its_own_timeout_whatever_those_beside_it_have() -> None:
    gate = asyncio.Event()
    async with Receiver() as receiver, local_sender(timeout_seconds=0.2) as sender:
        receiver.script(when(gate, status()), hang(), hang())
        patient = asyncio.create_task(sender.send(request_to(receiver.url(), timeout_seconds=TIMEOUT_SECONDS)))
        await receiver.wait_for(1)
        short = await sender.send(request_to(receiver.url(), timeout_seconds=0.4))
        usual = await sender.send(request_to(receiver.url()))
        assert [one.detail for one in (short, usual)] == [f"no complete answer within {one} s" for one in (0.4, 0.2)]
        assert (short.failure, short.duration_ms >= 400) == ("timeout", True)
        gate.set()
        assert (await patient).status_code == 200


@pytest.mark.parametrize(
    ("code", "word"),
    [(200, DeliveryControl.DISABLE), *((422, word) for word in DeliveryControl)],
)
@pytest.mark.parametrize("transport", [None, unchanged], ids=["direct", "over a transport"])
async def test_the_word_of_a_receiver_is_read_and_shown_in_the_attempt(
    transport: TransportFactory | None, code: int, word: str
) -> None:
    async with Receiver() as receiver, local_sender(transport=transport) as sender:
        receiver.otherwise = status(code, headers=(("Webhook-Delivery", f" {word}"),))
        for _ in range(2):
            result = await sender.send(request_to(receiver.url()))
            assert (result.status_code, result.control, result.note) == (code, word, "")
            assert result.stored_detail == f"webhook-delivery: {word}"
        assert receiver.connections == 1, "it is no oddity"


async def test_the_duration_is_that_of_the_attempt() -> None:
    async with Receiver() as receiver, local_sender() as sender:
        receiver.script(after(0.2, status()))
        before = datetime.now(UTC)
        result = await sender.send(request_to(receiver.url()))
        assert 200 <= result.duration_ms <= (datetime.now(UTC) - before).total_seconds() * 1000 + 1


async def test_cancelling_is_passed_on_and_leaves_the_sender_usable() -> None:
    gate = asyncio.Event()
    async with Receiver() as receiver, local_sender() as sender:
        receiver.script(when(gate, status()))
        task = asyncio.create_task(sender.send(request_to(receiver.url())))
        await receiver.wait_for(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await sender.send(request_to(receiver.url()))).status_code == 200


async def test_a_large_body_arrives_whole() -> None:
    body = os.urandom(1 << 20).hex().encode()
    async with Receiver() as receiver, local_sender() as sender:
        assert (await sender.send(request_to(receiver.url(), body))).status_code == 200
        assert receiver.requests[0].body == body


async def test_an_answer_before_the_whole_body_was_read_is_an_answer() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(413, b"too large"))
        await writer.drain()
        while await reader.read(65536):
            pass

    server = await asyncio.start_server(early, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with local_sender() as sender:
        result = await sender.send(request_to(f"http://127.0.0.1:{port}/", os.urandom(4 << 20)))
    server.close()
    assert (result.status_code, result.failure, result.excerpt) == (413, None, "too large")


@pytest.mark.parametrize("reads_on", [True, False], ids=["reads on", "hangs up"])
@pytest.mark.parametrize("way", ["http", "https", "https through a proxy"])
async def test_a_success_before_the_request_was_sent_whole_is_none(way: str, reads_on: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response())
        await writer.drain()
        while reads_on and await reader.read(1 << 16):
            await asyncio.sleep(0.01)
        writer.transport.abort()

    authority = Authority()
    tls = authority.server_context("127.0.0.1") if way != "http" else None
    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1 << 16, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    async with scripted_proxy(upstream=port) as proxy:
        through = EgressProxy.of(f"http://127.0.0.1:{proxy.port}") if "proxy" in way else None
        async with local_sender(ca_bundle=authority.ca_bundle, proxy=through) as sender:
            url = f"http{'s' if tls else ''}://127.0.0.1:{port}/"
            result = await sender.send(request_to(url, os.urandom(16 << 20)))  # more than the buffers of both kernels
    assert result.failure in ("invalid_response", "reset"), result
    if reads_on:
        assert (result.status_code, result.detail) == (200, "a success before the request was sent whole")
    server.close()


async def test_what_receivers_echo_is_kept_without_the_secrets_sent() -> None:
    secret, key = 'Bearer s3cr"t/ü-token', "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

    async def echo(exchange: Exchange) -> None:
        received = "\n".join(f"{name}: {value.encode('latin-1').decode()}" for name, value in exchange.request.headers)
        await exchange.write(
            response(500, f'{received} {key} s3cr\\"t\\/\\u00fc-token s3cr%22t%2F%C3%BC-token'.encode())
        )

    async with Receiver() as receiver, local_sender() as sender:
        receiver.script(echo)
        result = await sender.send(
            request_to(receiver.url(), headers=(("Authorization", secret),), redact=(secret, key))
        )
    assert "Authorization: •••" in result.excerpt
    for part in ("s3cr", "token", "whsec_", "AAECAw"):
        assert part not in result.excerpt


async def test_a_secret_across_the_cut_is_blotted_out_too() -> None:
    secret = "abcdefghijklmnopqrstuvwxyz"
    async with Receiver() as receiver:
        receiver.script(status(500, body=b"x" * 1010 + secret.encode() * 3))
        result = await send(receiver.url(), redact=(secret,))
    assert result.excerpt.startswith("x" * 1010)
    assert "abc" not in result.excerpt
    assert len(result.excerpt.encode()) <= 1024


async def test_a_header_that_cannot_be_sent_is_an_internal_error_and_reaches_nobody() -> None:
    async with Receiver() as receiver, local_sender() as sender:
        for header in (("X-Evil", "a\r\nX-Smuggled: 1"), ("X\nEvil", "a"), ("X-Evil", "a\x00b")):
            result = await sender.send(request_to(receiver.url(), headers=(header,)))
            assert (result.status_code, result.failure) == (None, "internal")
            assert "Smuggled" not in result.detail
        assert receiver.requests == []
