"""Every way in which an attempt can end without an answer has a failure kind of its own choosing, not by accident."""

import errno
import inspect
import socket
import ssl
from ipaddress import ip_network

import pytest

from domain.delivery.failure_kinds import EXPLANATIONS, FailureKind
from domain.urls import rules as url_rules
from domain.urls.rules import UrlRefused, UrlRules
from sending.http import address_guard, connection, egress_proxy
from sending.http import pool as connections
from sending.http.address_guard import AddressBlockedError
from sending.http.client import KINDS, Sender, SenderSettings, detail_of, failure_of
from tests.sending.http.sending import local_sender, request_to

OURS = sorted(
    {
        member
        for module in (address_guard, connection, connections, egress_proxy, url_rules)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Exception) and member.__module__ == module.__name__
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("error", OURS, ids=lambda error: error.__name__)
def test_each_error_of_a_connection_has_a_failure_kind_of_its_own(error: type[Exception]) -> None:
    assert error in KINDS, f"{error} would be called something else; add it to KINDS"


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), FailureKind.connect, "refused"),
        (OSError(errno.EMFILE, "Too many open files"), FailureKind.internal, "Too many open files"),
        (OSError(errno.EADDRNOTAVAIL, "no port"), FailureKind.internal, "no port"),
        (AddressBlockedError("10.0.0.1 is …"), FailureKind.blocked, "10.0.0.1 is …"),
        (OSError(errno.ENETUNREACH, "unreachable"), FailureKind.connect, "unreachable"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), FailureKind.reset, "reset"),
        (BrokenPipeError(errno.EPIPE, "pipe"), FailureKind.reset, "pipe"),
        (MemoryError(), FailureKind.internal, "MemoryError"),
        (ValueError("a header with a secret"), FailureKind.internal, "ValueError"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), FailureKind.dns, "unknown"),
        (ssl.SSLError("x"), FailureKind.tls, "handshake failed"),
        (TimeoutError(), FailureKind.timeout, "TimeoutError"),
        (UrlRefused("scheme", "https only"), FailureKind.blocked, "https only"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_failures_are_told_apart_by_class_and_number(error: BaseException, kind: FailureKind, detail: str) -> None:
    assert failure_of(error) is kind
    assert detail_of(error) == detail


async def test_a_refused_connection_and_an_unknown_name_are_told_apart() -> None:
    async with local_sender() as sender:
        refused = await sender.send(request_to("http://127.0.0.1:1/"))
        unknown = await sender.send(request_to("http://name.invalid/"))
    assert (refused.failure, unknown.failure) == (FailureKind.connect, FailureKind.dns)
    assert refused.detail
    assert unknown.detail


async def test_a_closed_sender_reports_an_internal_error_instead_of_raising() -> None:
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
