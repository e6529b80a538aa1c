"""Receivers that misbehave: each ends in a failure kind, in time, with bounded memory, and harms no other."""

import asyncio
import resource

import pytest

from bench.transport import unchanged
from domain.delivery.failure_kinds import FailureKind
from domain.delivery.verdict import CONTROL_HEADER
from sending.http.client import Sender
from sending.http.transport import TransportFactory
from tests.receiver import (
    Exchange,
    Receiver,
    endless_body,
    endless_headers,
    endless_interim,
    gzip_bomb,
    hang,
    one_endless_header,
    response,
    status,
    trickle,
)
from tests.sending.http.hostile import HOSTILE
from tests.sending.http.sending import TIMEOUT_SECONDS, local_sender, request_to, send


@pytest.mark.parametrize("transport", [None, unchanged], ids=["by a direct call", "as a request of httpx"])
@pytest.mark.parametrize("case", HOSTILE)
async def test_a_receiver_that(case: str, transport: TransportFactory | None) -> None:
    reply, status_code, failure, note = HOSTILE[case]
    timeout_seconds = 0.5 if failure is FailureKind.timeout else TIMEOUT_SECONDS
    async with Receiver() as receiver, local_sender(timeout_seconds=timeout_seconds, transport=transport) as sender:
        receiver.script(reply)
        result = await sender.send(request_to(receiver.url("/hook?secret=1")))
        assert (result.status_code, result.failure) == (status_code, failure), result
        assert bool(result.detail) == (failure is not None)
        assert result.note == (f"Odd: {note}" if note else "")
        assert (result.stored_detail is None) == (failure is note is None)
        assert "secret" not in result.detail
        assert len(result.excerpt.encode()) <= 1024
        assert result.excerpt.isprintable()
        if failure is not FailureKind.timeout:
            # the next request meets neither the rest of that response nor a closed connection
            assert (await sender.send(request_to(receiver.url()))).status_code == 200
            if note and CONTROL_HEADER not in note:
                assert receiver.connections == 2, "an odd response ends its connection"


async def let_go(sender: Sender) -> None:
    """Wait until the connection of the last request is seen not to be one for the next."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while sender._connections._open:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("pause_seconds", [0, 0.05], ids=["the same packet", "the next packet"])
async def test_a_byte_too_many_changes_no_verdict_in(pause_seconds: float) -> None:
    async def reply(exchange: Exchange) -> None:
        exchange.keep_alive = False
        await exchange.write(response() + (b"" if pause_seconds else b"x"))
        if pause_seconds:
            await asyncio.sleep(pause_seconds)
            await exchange.write(b"x")
        await exchange.until_closed()

    async with Receiver() as receiver, local_sender() as sender:
        for _ in range(3):
            receiver.script(reply)
            result = await sender.send(request_to(receiver.url()))
            assert (result.status_code, result.failure) == (200, None)
            await let_go(sender)
        assert receiver.connections == 3, "none of them was used again"


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
