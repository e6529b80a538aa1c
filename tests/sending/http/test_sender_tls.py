"""TLS: whom the sender trusts, who it is, what it says when the handshake fails, and sessions that are resumed."""

import asyncio
import gc
import itertools
import re
import ssl
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme

from domain.delivery.failure_kinds import FailureKind
from domain.wire.client_certificate import ClientCertificate
from sending.http import connection
from sending.http.tls import CertificateFileError, ResumingContext, client_context, read_authorities
from tests.receiver import Authority, Exchange, Receiver, client_of, raw, response, status
from tests.sending.http.sending import local_sender, request_to, send


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def test_an_authority_of_the_installation_is_trusted_beside_the_public_ones(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certifi.contents", certifi.core.contents)  # all, as without `few_authorities`
    async with Receiver(tls=authority.server_context("localhost")) as receiver:
        url = receiver.url("/hook", host="localhost")
        trusted = await send(url, ca_bundle=authority.ca_bundle)
        untrusted = await send(url)
    assert (trusted.status_code, receiver.requests[0].header("Host")) == (200, f"localhost:{receiver.port}")
    assert (untrusted.status_code, untrusted.failure) == (None, FailureKind.tls)
    assert "certificate verify failed" in untrusted.detail
    with_own, public = (client_context(read_authorities(path), None) for path in (authority.ca_bundle, None))
    assert with_own.cert_store_stats()["x509_ca"] > public.cert_store_stats()["x509_ca"] > 50


async def test_the_authorities_are_read_once_whatever_client_certificates_come(
    authority: Authority, tmp_path: Path
) -> None:
    own = tmp_path / "ca.pem"
    own.write_text(f"# Comment of the installation: \N{EURO SIGN}\n{Path(authority.ca_bundle).read_text()}")
    async with (
        Receiver(tls=authority.server_context("localhost", require_client=True)) as receiver,
        local_sender(ca_bundle=str(own)) as sender,
    ):
        own.unlink()
        certificate = ClientCertificate(*authority.client_pems("one.example.com"))
        result = await sender.send(request_to(receiver.url(host="localhost"), certificate=certificate))
    assert (result.status_code, result.failure) == (200, None)


async def test_the_certificate_has_to_be_for_the_name_also_when_the_address_was_checked(authority: Authority) -> None:
    async with Receiver(tls=authority.server_context("other.example.com")) as receiver:
        by_name = await send(receiver.url(host="localhost"), ca_bundle=authority.ca_bundle)
        by_address = await send(receiver.url(), ca_bundle=authority.ca_bundle)
    for result in (by_name, by_address):
        assert result.failure is FailureKind.tls
        assert "not valid for" in result.detail
    assert receiver.requests == []


async def test_a_certificate_for_an_address_serves_a_url_with_that_address(authority: Authority) -> None:
    async with Receiver(tls=authority.server_context("127.0.0.1")) as receiver:
        assert (await send(receiver.url(), ca_bundle=authority.ca_bundle)).status_code == 200


async def test_an_expired_certificate_is_refused() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    expired = authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    expired.configure_cert(context)
    with authority.cert_pem.tempfile() as ca_bundle:
        async with Receiver(tls=context) as receiver:
            result = await send(receiver.url(host="localhost"), ca_bundle=ca_bundle)
    assert (result.failure, result.detail) == (
        FailureKind.tls,
        "certificate verify failed: certificate has expired",
    )


async def test_old_tls_versions_are_refused(authority: Authority) -> None:
    context = authority.server_context("localhost")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with Receiver(tls=context) as receiver:
        result = await send(receiver.url(host="localhost"), ca_bundle=authority.ca_bundle)
    assert result.failure is FailureKind.tls
    assert result.detail


async def test_a_connection_cut_during_the_handshake_is_a_tls_failure() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    result = await send(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    server.close()
    assert (result.failure, result.detail) == (
        FailureKind.tls,
        "the connection was closed during the TLS handshake",
    )


async def test_plain_http_behind_an_https_url_is_a_tls_failure(authority: Authority) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(response(400, b"speak http"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await send(f"https://127.0.0.1:{port}/", ca_bundle=authority.ca_bundle)
    server.close()
    assert (result.failure, result.detail) == (FailureKind.tls, "wrong version number")


async def test_tiny_records_count_as_tiny_packets(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PIECES_MAX", 64)

    async def reply(exchange: Exchange) -> None:
        for byte in response(200, b"x" * 4000):
            exchange.writer.write(bytes((byte,)))

    async with Receiver(tls=authority.server_context("localhost")) as receiver:
        receiver.script(reply)
        result = await send(receiver.url(host="localhost"), ca_bundle=authority.ca_bundle)
    assert (result.status_code, result.note) == (200, "Odd: a response in more than 64 pieces, the rest not read")
    assert result.packets >= 60


async def test_a_handshake_that_never_ends_is_a_timeout() -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # to its end: a writer that nobody holds is closed, on newer Pythons
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await send(f"https://127.0.0.1:{port}/", timeout_seconds=0.4)
    server.close()
    assert result.failure is FailureKind.timeout


async def test_the_client_certificate_of_the_installation_is_shown_on_request(authority: Authority) -> None:
    shown: list[object] = []

    async def note(exchange: Exchange) -> None:
        shown.append(client_of(exchange))
        await status()(exchange)

    async with Receiver(tls=authority.server_context("localhost", require_client=True)) as receiver:
        receiver.script(note)
        url = receiver.url(host="localhost")
        known = await send(url, ca_bundle=authority.ca_bundle, client_cert=authority.client_cert("us.example.com"))
        without = await send(url, ca_bundle=authority.ca_bundle)
    assert known.status_code == 200
    assert shown == ["us.example.com"]
    # TLS 1.3 refuses after the handshake; the alert and the reset race each other
    assert without.failure in {FailureKind.tls, FailureKind.reset}
    assert len(receiver.requests) == 1


async def test_a_session_is_resumed_on_the_next_connection_to_the_same_host(authority: Authority) -> None:
    resumed: list[bool] = []

    async def note(exchange: Exchange) -> None:
        resumed.append(exchange.writer.get_extra_info("ssl_object").session_reused)
        await raw(response(), close=True)(exchange)

    async with Receiver(tls=authority.server_context("localhost", "127.0.0.1")) as receiver:
        receiver.script(note, note, note, note)
        async with local_sender(ca_bundle=authority.ca_bundle) as sender:
            for count, host in enumerate(("localhost", "localhost", "127.0.0.1", "localhost"), 1):
                result = await sender.send(request_to(receiver.url(host=host)))
                assert result.status_code == 200, result
                assert receiver.connections == count
    assert resumed == [False, True, False, True]


async def test_a_session_belongs_to_one_port_of_a_host(authority: Authority) -> None:
    """Two servers with one context take each other's tickets."""
    resumed: list[bool] = []

    async def note(exchange: Exchange) -> None:
        resumed.append(exchange.writer.get_extra_info("ssl_object").session_reused)
        await raw(response(), close=True)(exchange)

    context = authority.server_context("localhost")
    async with Receiver(tls=context) as first, Receiver(tls=context) as second:
        first.otherwise = second.otherwise = note
        async with local_sender(ca_bundle=authority.ca_bundle) as sender:
            for receiver in (first, second, first, second):
                result = await sender.send(request_to(receiver.url(host="localhost")))
                assert result.status_code == 200, result
    assert resumed == [False, False, True, True]


@pytest.mark.parametrize("transport", [None, lambda ours: ours], ids=["direct", "over httpx"])
@pytest.mark.parametrize("close", [False, True], ids=["idle connections", "sessions"])
async def test_two_client_certificates_share_neither_connections_nor_sessions(
    authority: Authority, close: bool, transport: Any
) -> None:
    seen: list[tuple[str, bool]] = []

    async def note(exchange: Exchange) -> None:
        seen.append((client_of(exchange), exchange.writer.get_extra_info("ssl_object").session_reused))
        await raw(response(), close=close)(exchange)

    one, other = (ClientCertificate(*authority.client_pems(name)) for name in ("one.example.com", "other.example.com"))
    async with Receiver(tls=authority.server_context("localhost", require_client=True)) as receiver:
        receiver.otherwise = note
        url = receiver.url(host="localhost")
        ours = authority.client_cert("us.example.com")
        async with local_sender(ca_bundle=authority.ca_bundle, client_cert=ours, transport=transport) as sender:
            for certificate in (one, other, None) * 2:
                result = await sender.send(request_to(url, certificate=certificate))
                assert result.status_code == 200, result
        assert receiver.connections == (6 if close else 3)
    names = ["one.example.com", "other.example.com", "us.example.com"]
    assert seen == [(name, again and close) for again in (False, True) for name in names]


def contexts() -> list[ResumingContext]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, ResumingContext)]


async def test_each_of_many_client_certificates_is_presented_and_none_has_a_context_of_its_own(
    authority: Authority,
) -> None:
    names = [f"client-{number}.example.com" for number in range(70)]
    types = (trustme.KeyType.ECDSA,) * 20 + (trustme.KeyType.RSA,)  # an RSA key takes long to make
    certificates = [
        ClientCertificate(*authority.client_pems(name, key_type=key_type))
        for name, key_type in zip(names, itertools.cycle(types), strict=False)
    ]
    before = contexts()  # of earlier tests, which end when they like
    async with (
        Receiver(tls=authority.server_context("localhost", require_client=True)) as receiver,
        local_sender(ca_bundle=authority.ca_bundle) as sender,
    ):

        async def echo(exchange: Exchange) -> None:
            await raw(response(200, client_of(exchange).encode()), close=True)(exchange)

        receiver.otherwise = echo
        url = receiver.url(host="localhost")
        for _ in range(2):  # the second time with the sessions of the first
            results = await asyncio.gather(
                *(sender.send(request_to(url, certificate=certificate)) for certificate in certificates)
            )
            assert [result.excerpt for result in results] == names
        assert len([one for one in contexts() if one not in before]) == 1 + len(set(types))


async def test_a_certificate_that_the_receiver_does_not_know_is_no_success(authority: Authority) -> None:
    stranger = ClientCertificate(*Authority().client_pems("one.example.com"))
    async with (
        Receiver(tls=authority.server_context("localhost", require_client=True)) as receiver,
        local_sender(ca_bundle=authority.ca_bundle) as sender,
    ):
        result = await sender.send(request_to(receiver.url(host="localhost"), certificate=stranger))
    assert result.failure in {FailureKind.tls, FailureKind.reset}
    assert receiver.requests == []


async def test_connections_are_kept_alive_over_tls(authority: Authority) -> None:
    async with Receiver(tls=authority.server_context("localhost")) as receiver:
        async with local_sender(ca_bundle=authority.ca_bundle) as sender:
            for _ in range(5):
                assert (await sender.send(request_to(receiver.url(host="localhost")))).status_code == 200
        assert receiver.connections == 1


def test_a_missing_or_broken_certificate_file_is_said_at_the_start(authority: Authority, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for ca_bundle, client_cert in (
        ("/nowhere/missing.pem", None),
        (__file__, None),
        (str(empty), None),
        (None, "/nowhere/missing.pem"),
        (None, authority.ca_bundle),  # a certificate without its key
    ):
        with pytest.raises(CertificateFileError, match=re.escape(str(ca_bundle or client_cert))):
            client_context(read_authorities(ca_bundle), client_cert)
