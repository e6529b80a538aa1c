"""The seam to httpx: our connections below httpx's client, and deliveries over somebody's own transport."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bench.transport import unchanged
from domain.delivery.failure_kinds import FailureKind
from domain.urls.rules import UrlRefused, UrlRules, normalise_url
from sending.http.client import SendResult
from sending.http.egress_proxy import EgressProxy
from sending.http.pool import Connections
from sending.http.transport import GuardedTransport
from tests.domain.url_vectors import url_vectors
from tests.receiver import Authority, Receiver, close_before_answer, hang, raw, response, status
from tests.sending.http.sending import LOCAL, STRICT, local_sender, request_to, send

AUTHORITY = Authority()


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_client_of_httpx_works_over_our_connections(tls: bool) -> None:
    context = AUTHORITY.server_context("127.0.0.1") if tls else None
    transport = GuardedTransport(Connections(LOCAL, ca_bundle=AUTHORITY.ca_bundle), LOCAL, 100_000)

    async def parts() -> AsyncIterator[bytes]:
        yield b"a" * 50_000
        yield b"b"

    async with Receiver(tls=context) as receiver, httpx.AsyncClient(transport=transport) as client:
        receiver.script(
            status(201, body=b'{"a": 1}', headers=(("X-Own", "1"), ("X-Own", "2"))),
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"),
        )
        made = await client.post(receiver.url("/a?b=%20c"), json={"n": 1}, headers={"X-CaSe": "1"})
        streamed = await client.put(receiver.url("/"), content=parts())
        got = await client.get(receiver.url("/"))
        with pytest.raises(UrlRefused):
            await client.get("http://10.0.0.1/")
    assert (made.status_code, made.json(), made.headers.get_list("X-Own")) == (201, {"a": 1}, ["1", "2"])
    assert (streamed.text, "X-T" in streamed.headers, got.text) == ("ok", False, "ok")
    first, second, third = receiver.requests
    assert (first.method, first.target, first.body) == ("POST", "/a?b=%20c", b'{"n":1}')
    assert "X-CaSe" in dict(first.headers)
    assert (second.method, len(second.body), second.header("Transfer-Encoding")) == ("PUT", 50_001, None)
    assert (third.method, third.header("Content-Length")) == ("GET", "0")
    assert receiver.connections == 1


async def test_a_client_of_httpx_gets_its_errors_and_its_timeout() -> None:
    transport = GuardedTransport(Connections(LOCAL), LOCAL, 1000)
    async with Receiver() as receiver, httpx.AsyncClient(transport=transport, timeout=10) as client:
        receiver.script(close_before_answer(), raw(b"SSH-2.0-OpenSSH_9.2\r\n", close=True), hang())
        with pytest.raises(httpx.ReadError, match="closed before an answer"):
            await client.get(receiver.url())
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(receiver.url())
        with pytest.raises(httpx.ReadTimeout):
            await asyncio.wait_for(client.get(receiver.url(), timeout=0.1), 10)
        with pytest.raises(httpx.ConnectError, match=r"connection refused by 127\.0\.0\.1") as refused:
            await client.get("http://127.0.0.1:1/")
    assert refused.value.request.url == "http://127.0.0.1:1/"


async def test_a_failure_below_a_wrapper_has_the_kind_and_the_words_of_one_without_it() -> None:
    caught: list[httpx.TransportError] = []

    class Counting(httpx.AsyncBaseTransport):
        def __init__(self, below: httpx.AsyncBaseTransport) -> None:
            self._below = below

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            try:
                return await self._below.handle_async_request(request)
            except httpx.TransportError as error:
                caught.append(error)
                raise

    async with Receiver() as receiver:
        receiver.otherwise = close_before_answer()
        for url in (receiver.url(), "http://127.0.0.1:1/", "http://name.invalid/"):
            wrapped, direct = await send(url, transport=Counting), await send(url)
            assert (wrapped.failure, wrapped.detail) == (direct.failure, direct.detail)
    assert len(caught) == 3


def test_httpx_changes_no_url_that_we_send_to() -> None:
    anywhere = UrlRules(allow_http=True)
    for vector in url_vectors():
        if vector.verdict == "ok":
            url = normalise_url(vector.at(8080), anywhere)
            of_httpx = httpx.URL(url.url)
            assert (str(of_httpx), of_httpx.raw_path.decode()) == (url.url, url.target)


async def test_a_delivery_is_the_same_request_over_a_transport_and_without_one() -> None:
    async with Receiver() as receiver:
        for transport in (None, unchanged):
            async with local_sender(transport=transport) as sender:
                request = request_to(receiver.url("/a%20b?c"), b'{"x": 1}', (("X-Own", "ü"), ("webhook-id", "1")))
                assert (await sender.send(request)).status_code == 200
        direct, carried = receiver.requests
    assert (carried.method, carried.target, carried.body) == (direct.method, direct.target, direct.body)
    assert sorted(carried.headers) == sorted(direct.headers)


async def over(handler: httpx.MockTransport, url: str = "http://127.0.0.1:1/hook") -> SendResult:
    return await send(url, transport=lambda _: handler)


async def test_a_mocked_transport_gets_each_delivery_and_its_response_is_judged() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(429, headers={"Retry-After": "7", "retry-after": "9"}, content=b"x" * 100_000)

    result = await over(httpx.MockTransport(answer))
    assert (result.status_code, result.failure, result.retry_after_seconds) == (429, None, 7)
    assert result.excerpt == "x" * 1024
    [request] = seen
    assert (request.method, str(request.url), request.headers["Host"]) == (
        "POST",
        "http://127.0.0.1:1/hook",
        "127.0.0.1:1",
    )
    assert request.headers["User-Agent"] == "OpenLoyalty"
    moved = await over(httpx.MockTransport(lambda _: httpx.Response(302, headers={"Location": "/b"})))
    assert (moved.status_code, moved.location) == (302, "/b")


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (httpx.ConnectError("x"), FailureKind.connect),
        (httpx.ConnectTimeout("x"), FailureKind.connect),
        (httpx.PoolTimeout("x"), FailureKind.internal),
        (httpx.ReadTimeout("x"), FailureKind.timeout),
        (httpx.WriteTimeout("x"), FailureKind.timeout),
        (httpx.ReadError("x"), FailureKind.reset),
        (httpx.WriteError("x"), FailureKind.reset),
        (httpx.RemoteProtocolError("x"), FailureKind.invalid_response),
        (httpx.ProxyError("x"), FailureKind.proxy_unavailable),
        (httpx.LocalProtocolError("x"), FailureKind.internal),
        (httpx.UnsupportedProtocol("x"), FailureKind.internal),
    ],
    ids=repr,
)
async def test_errors_of_another_transport_have_their_kinds(error: Exception, failure: FailureKind) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    result = await over(httpx.MockTransport(fail))
    assert (result.status_code, result.failure, result.detail) == (None, failure, type(error).__name__)


async def test_a_wrapper_may_change_the_response_and_the_guard_stays_below_it() -> None:
    class Lenient(httpx.AsyncBaseTransport):
        """Takes a conflict for a success."""

        def __init__(self, below: httpx.AsyncBaseTransport) -> None:
            self._below = below

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await self._below.handle_async_request(request)
            return httpx.Response(202, content=b"had it") if answer.status_code == 409 else answer

    async with Receiver() as receiver:
        receiver.script(status(409))
        result = await send(receiver.url(), transport=Lenient)
        refused = await send(receiver.url(), rules=STRICT, transport=Lenient)
    assert (result.status_code, result.excerpt, len(receiver.requests)) == (202, "had it", 1)
    assert refused.failure is FailureKind.blocked


@pytest.mark.parametrize("cut", [False, True])
async def test_a_wrapper_that_sends_twice_reports_the_second_response_alone(cut: bool) -> None:
    class Twice(httpx.AsyncBaseTransport):
        def __init__(self, below: httpx.AsyncBaseTransport) -> None:
            self._below = below

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await self._below.handle_async_request(request)
            return await self._below.handle_async_request(request)

    odd = b"HTTP/1.1 503 X\r\nRetry-After: 7\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nold"
    async with Receiver() as receiver:
        receiver.script(raw(odd), raw(b"", close=True) if cut else status(500, body=b"new"))
        result = await send(receiver.url(), transport=Twice)
    assert len(receiver.requests) == 2
    expected = (None, FailureKind.reset, "") if cut else (500, None, "new")
    assert (result.status_code, result.failure, result.excerpt) == expected
    assert (result.retry_after_seconds, result.note) == (None, "")


async def test_a_silent_proxy_is_no_timeout_of_the_receiver_over_a_transport_either() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never shakes hands
        proxy = EgressProxy.of(f"https://127.0.0.1:{silent.getsockname()[1]}")
        result = await send("http://127.0.0.1:1/", proxy=proxy, transport=unchanged, timeout_seconds=0.3)
    assert result.failure is FailureKind.proxy_unavailable


async def test_the_instrumentation_of_opentelemetry_traces_deliveries() -> None:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.httpx")
    page = (Path(__file__).parents[3] / "docs/operating.md").read_text()
    [block] = [one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "without_query" in one]
    module: dict[str, Any] = {}
    exec(block, module)
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    async with Receiver() as receiver:
        receiver.otherwise = raw(response(503))
        result = await send(
            receiver.url("/hook?token=secret"),
            transport=lambda ours: instrumentation.AsyncOpenTelemetryTransport(
                ours, tracer_provider=provider, request_hook=module["without_query"]
            ),
        )
        traceparent = receiver.requests[0].header("traceparent")
    assert result.status_code == 503
    [span] = spans.get_finished_spans()
    assert span.attributes is not None
    assert 503 in span.attributes.values()
    assert receiver.url("/hook") in span.attributes.values()
    assert "secret" not in span.to_json()
    context = span.get_span_context()
    assert context is not None
    assert traceparent is not None
    assert f"{context.trace_id:032x}" in traceparent
