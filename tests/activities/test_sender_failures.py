"""Every exception the HTTP libraries can raise has a failure kind of its own choosing, not by accident."""

import asyncio
import errno
import inspect
import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_network

import aiohttp
import httpx
import pytest
from aiohttp import client_exceptions, http_exceptions

from activities.address_guard import AddressBlockedError
from activities.failures import KINDS, detail_of, failure_of
from activities.sender import Sender, SenderSettings
from domain.failure_kinds import EXPLANATIONS, FailureKind
from domain.url_rules import UrlRefused, UrlRules
from tests.activities.sending import LOCAL, local_sender, request_to

# Raised by the websocket client or by misusing a response object; never on the way of a POST.
NOT_ON_THE_WAY = {
    aiohttp.EofStream,
    aiohttp.WebSocketError,
    client_exceptions.WSMessageTypeError,
    httpx.CookieConflict,
    httpx.StreamError,
    httpx.StreamConsumed,
    httpx.StreamClosed,
    httpx.ResponseNotRead,
    httpx.RequestNotRead,
}

# Never raised themselves. Listing them would make the next release's new exception pass unnoticed.
BASES = {aiohttp.ClientError, httpx.HTTPError, httpx.RequestError, httpx.TransportError, httpx.ProtocolError}


def _exceptions_of(module: object) -> Iterator[type[BaseException]]:
    for _, member in inspect.getmembers(module, inspect.isclass):
        if issubclass(member, Exception) and not issubclass(member, Warning):
            yield member


FOREIGN = sorted(
    {
        *_exceptions_of(httpx),
        *_exceptions_of(aiohttp),
        *_exceptions_of(client_exceptions),
        *_exceptions_of(http_exceptions),
    }
    - NOT_ON_THE_WAY
    - BASES,
    key=lambda kind: (kind.__name__, kind.__module__),
)


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: f"{error.__module__}.{error.__name__}")
def test_each_exception_of_httpx_and_aiohttp_has_a_failure_kind(error: type[BaseException]) -> None:
    listed = [ancestor for ancestor in error.__mro__ if ancestor in KINDS]
    assert listed, f"{error} would be called our own fault; add it to KINDS"
    assert KINDS[listed[0]] in FailureKind


HANDSHAKE_CUT = "the connection was closed during the TLS handshake"


def _connector_error(cause: OSError) -> aiohttp.ClientConnectorError:
    key = aiohttp.client_reqrep.ConnectionKey("host", 1, False, True, None, None, None)
    return aiohttp.ClientConnectorError(key, cause)


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (_connector_error(OSError(errno.ECONNREFUSED, "refused")), FailureKind.connect, "refused"),
        (_connector_error(ConnectionResetError(104, "reset")), FailureKind.tls, HANDSHAKE_CUT),
        (_connector_error(OSError(errno.EMFILE, "Too many open files")), FailureKind.internal, "Too many open files"),
        (_connector_error(OSError(errno.EADDRNOTAVAIL, "no port")), FailureKind.internal, "no port"),
        (_connector_error(AddressBlockedError("10.0.0.1 is …")), FailureKind.blocked, "10.0.0.1 is …"),
        (OSError(errno.ENETUNREACH, "unreachable"), FailureKind.connect, "unreachable"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), FailureKind.reset, "reset"),
        (BrokenPipeError(errno.EPIPE, "pipe"), FailureKind.reset, "pipe"),
        (MemoryError(), FailureKind.internal, "MemoryError"),
        (ValueError("a header with a secret"), FailureKind.internal, "ValueError"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), FailureKind.dns, "unknown"),
        (ssl.SSLError("x"), FailureKind.tls, "handshake failed"),
        (TimeoutError(), FailureKind.timeout, "TimeoutError"),
        (UrlRefused("scheme", "https only"), FailureKind.blocked, "https only"),
        (asyncio.IncompleteReadError(b"", 1), FailureKind.reset, "IncompleteReadError"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_failures_are_told_apart_by_class_and_number(error: BaseException, kind: FailureKind, detail: str) -> None:
    assert failure_of(error) is kind
    assert detail_of(error) == detail


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectTimeout("x"), FailureKind.timeout),
        (httpx.ReadError("x"), FailureKind.reset),
        (httpx.ConnectError("x"), FailureKind.connect),
        (httpx.RemoteProtocolError("x"), FailureKind.invalid_response),
        (RuntimeError("Session is closed"), FailureKind.internal),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_the_sender_works_with_any_httpx_transport(error: Exception, kind: FailureKind) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/fails":
            raise error
        return httpx.Response(503, headers={"Retry-After": "5"}, text=f"{request.method} {request.headers['host']}")

    async with Sender(SenderSettings(rules=LOCAL), httpx.MockTransport(answer)) as sender:
        good = await sender.send(request_to("http://127.0.0.1:1/"))
        assert (good.status_code, good.retry_after_seconds, good.excerpt) == (503, 5, "POST 127.0.0.1:1")
        assert (await sender.send(request_to("http://127.0.0.1:1/fails"))).failure is kind


async def test_a_refused_connection_and_an_unknown_name_are_told_apart() -> None:
    async with local_sender() as sender:
        refused = await sender.send(request_to("http://127.0.0.1:1/"))
        unknown = await sender.send(request_to("http://name.invalid/"))
    assert (refused.failure, unknown.failure) == (FailureKind.connect, FailureKind.dns)
    assert refused.detail
    assert unknown.detail


async def test_a_closed_sender_reports_its_own_fault_instead_of_raising() -> None:
    async with local_sender() as sender:
        pass
    assert (await sender.send(request_to("http://127.0.0.1:1/"))).failure is FailureKind.internal


async def test_a_stored_url_is_judged_again_by_the_rules_of_today() -> None:
    stored = request_to("http://127.0.0.1:1/")
    for rules, words in (
        (UrlRules(), "plain http"),
        (UrlRules(allow_http=True), "loopback"),
        (UrlRules(True, frozenset({443}), (ip_network("127.0.0.0/8"),)), "port 1 is not allowed"),
    ):
        async with Sender(SenderSettings(rules=rules)) as sender:
            result = await sender.send(stored)
        assert result.failure is FailureKind.blocked
        assert words in result.detail


def test_every_failure_kind_is_explained_once() -> None:
    assert list(EXPLANATIONS) == list(FailureKind)
