"""Receivers that misbehave: each ends in a failure kind, in time, with bounded memory, and harms no other."""

import asyncio
import resource

import pytest

from domain.delivery.failure_kinds import FailureKind
from tests.receiver import (
    Exchange,
    Receiver,
    Reply,
    close_before_answer,
    endless_body,
    endless_headers,
    endless_interim,
    gzip_bomb,
    hang,
    one_endless_header,
    raw,
    reset_before_answer,
    reset_mid_response,
    response,
    status,
    trickle,
    wrong_length,
)
from tests.sending.http.sending import TIMEOUT_SECONDS, local_sender, request_to, send

INVALID = FailureKind.invalid_response
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

# reply, status read, failure kind
HOSTILE: dict[str, tuple[Reply, int | None, FailureKind | None]] = {
    "never answers": (hang(), None, FailureKind.timeout),
    "resets before the answer": (reset_before_answer(), None, FailureKind.reset),
    "closes before the answer": (close_before_answer(), None, FailureKind.reset),
    "closes within the head": (raw(b"HTTP/1.1 200 OK\r\nContent-", close=True), None, FailureKind.reset),
    "resets within the body of a 200": (reset_mid_response(), 200, FailureKind.reset),
    "resets within the body of a 500": (reset_mid_response(500), 500, FailureKind.reset),
    "announces more than it sends": (wrong_length(), 200, INVALID),
    "sends more than it announced": (raw(response(200, b"hello", length=2)), 200, INVALID),
    "trickles": (trickle(), 200, FailureKind.timeout),
    "sends a body without end": (endless_body(), 200, None),
    "sends an error without end": (endless_body(503), 503, None),
    "sends headers without end": (endless_headers(), None, INVALID),
    "sends a header without end": (one_endless_header(), None, INVALID),
    "sends 1xx without end": (endless_interim(), None, INVALID),
    "sends some 1xx first": (raw(b"HTTP/1.1 103 Early\r\n\r\n" * 16 + response()), 200, None),
    "sends a decompression bomb": (gzip_bomb(), 200, None),
    "speaks SSH": (raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), None, INVALID),
    "speaks TLS where http was asked for": (raw(b"\x15\x03\x01\x00\x02\x02\x46", close=True), None, INVALID),
    "speaks HTTP/2 unasked": (raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", close=True), None, INVALID),
    "speaks HTTP/0.9": (raw(b"hello", close=True), None, INVALID),
    "speaks HTTP/1.0 without a length": (raw(b"HTTP/1.0 200 OK\r\n\r\nfine", close=True), 200, None),
    "has a length that is no number": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n"), None, INVALID),
    "has a negative length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), None, INVALID),
    "has two lengths": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok"), None, INVALID),
    "has a length and chunks": (raw(CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n0\r\n\r\n", close=True), None, INVALID),
    "has broken chunks": (raw(CHUNKED + b"ZZ\r\nok\r\n", close=True), 200, INVALID),
    "ends within a chunk": (raw(CHUNKED + b"5\r\nok", close=True), 200, INVALID),
    "ends its lines with LF alone": (raw(b"HTTP/1.1 200 OK\nContent-Length: 4\n\nfine"), 200, None),
    "pads the lengths of its chunks": (raw(CHUNKED + b"2  \r\nok\r\n0  \r\n\r\n"), 200, None),
    "has good chunks": (raw(CHUNKED + b"2\r\nok\r\n0\r\n\r\n"), 200, None),
    "has a NUL in a header": (raw(b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n"), None, INVALID),
    "has a status that is no number": (raw(b"HTTP/1.1 OK 200\r\n\r\n", close=True), None, INVALID),
    "answers 204 with a body": (raw(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", close=True), 204, INVALID),
    "switches protocols unasked": (raw(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), 101, None),
    "answers 999": (raw(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"), 999, None),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_receiver_that(case: str) -> None:
    reply, status_code, failure = HOSTILE[case]
    timeout_seconds = 0.5 if failure is FailureKind.timeout else TIMEOUT_SECONDS
    async with Receiver() as receiver, local_sender(timeout_seconds=timeout_seconds) as sender:
        receiver.script(reply)
        result = await sender.send(request_to(receiver.url("/hook?secret=1")))
        assert (result.status_code, result.failure) == (status_code, failure), result
        assert bool(result.detail) == (failure is not None)
        assert "secret" not in result.detail
        assert len(result.excerpt.encode()) <= 1024
        assert result.excerpt.isprintable()
        if failure is not FailureKind.timeout:
            # the next request meets neither the rest of that response nor a closed connection
            assert (await sender.send(request_to(receiver.url()))).status_code == 200


async def test_no_more_than_the_limit_is_read_of_a_body() -> None:
    sent = 0

    async def counted(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await exchange.write(b"x" * 16384)
            sent += 16384

    async with Receiver() as receiver:
        receiver.script(counted)
        result = await send(receiver.url(), read_limit_bytes=65536)
        assert result.status_code == 200
        assert len(result.excerpt) == 1024
    # what both kernels buffer comes on top, some MB on loopback
    assert sent < 16 << 20


async def test_decompression_bombs_and_endless_answers_take_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with Receiver() as receiver, local_sender() as sender:
        for reply in (endless_body(), endless_headers(), endless_interim(), one_endless_header()):
            receiver.script(*[reply] * 3)
        await asyncio.gather(*[sender.send(request_to(receiver.url())) for _ in range(12)])
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100 * 1024  # KiB


async def test_a_compressed_body_is_kept_as_it_came() -> None:
    async with Receiver() as receiver:
        receiver.script(gzip_bomb(1))
        result = await send(receiver.url())
        assert receiver.requests[0].header("Accept-Encoding") == "identity"
    assert (result.status_code, result.failure) == (200, None)
    assert "\x00" not in result.excerpt


async def test_endless_answers_of_one_receiver_do_not_stop_the_others() -> None:
    async with Receiver() as bad, Receiver() as good, local_sender() as sender:
        bad.script(*[trickle(0.001)] * 10, *[hang()] * 10, *[endless_interim()] * 10, *[endless_headers()] * 10)
        hostile = [asyncio.create_task(sender.send(request_to(bad.url()))) for _ in range(40)]
        await bad.wait_for(40)
        for _ in range(20):
            assert (await sender.send(request_to(good.url()))).status_code == 200
        assert sum(not task.done() for task in hostile) == 20, "trickle and silence went on meanwhile"
        for task in hostile:
            task.cancel()
        await asyncio.gather(*hostile, return_exceptions=True)


@pytest.mark.parametrize(
    ("body", "excerpt"),
    [
        (b"", ""),
        (b"plain", "plain"),
        ("grün 漢 😀".encode(), "grün 漢 😀"),
        (b"a\x00b\x1b[31mred\x7f", "a b [31mred "),
        (b"line\r\nline\ttab", "line  line tab"),
        ("right\u202eleft\u2066\u200b".encode(), "right left  "),
        (b"\xff\xfe\xfa", "\ufffd\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"x" * 5000, "x" * 1024),
        (("ü" * 1000).encode(), "ü" * 512),
        (("a" + "ü" * 1000).encode(), "a" + "ü" * 511),
        (b"\xff" * 2000, "\ufffd" * 341),
    ],
    ids=[
        "empty",
        "plain",
        "unicode",
        "control characters",
        "lines",
        "invisible direction marks",
        "not UTF-8",
        "surrogates",
        "long",
        "cut between characters",
        "cut within a character",
        "replacements count as bytes",
    ],
)
async def test_the_excerpt_of_a_response_is_safe_text_of_1_kib(body: bytes, excerpt: str) -> None:
    async with Receiver() as receiver:
        receiver.script(status(500, body=body))
        assert (await send(receiver.url())).excerpt == excerpt
