"""One connection, packet by packet: what a socket cannot be made to do, so the transport is one of the test's own."""

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sending.http import connection
from sending.http.connection import (
    EARLY_BYTES_MAX,
    FRAMING_BYTES_MAX,
    PIECES_MAX,
    ClosedBeforeAnswerError,
    Connection,
    MalformedResponseError,
    Response,
    repaired_head,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and brings what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Any] = []
        self.unsent = 0
        self.closed = False
        self.connection = Connection(asyncio.get_running_loop())
        self.connection.connection_made(self)

    def write(self, data: Any) -> None:
        self.sent.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing more comes by itself."""

    def abort(self) -> None:
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, error)


@dataclass
class Outcome:
    """How an exchange ended."""

    response: Response
    reusable: bool
    error: Exception | None


async def exchange(wire: Wire, packets: list[bytes], *, end: bool = False, limit: int = 65536) -> Outcome:
    """One exchange in which `packets` come, one after the other; then, with `end`, the end of the connection."""
    response = Response(limit)
    task = asyncio.create_task(wire.connection.exchange(b"request", response))
    await asyncio.sleep(0)
    for packet in packets:
        if wire.closed:
            break
        wire.connection.data_received(packet)
    if end:
        wire.lose(None)
    try:
        return Outcome(response, await asyncio.wait_for(task, 10), None)
    except (MalformedResponseError, ClosedBeforeAnswerError) as error:
        return Outcome(response, False, error)


@dataclass(frozen=True)
class Sent:
    """A response as a receiver may send it, and what is to be read of it."""

    data: bytes
    status_code: int
    body: bytes
    location: bytes | None
    keep_alive: bool
    ends_with_connection: bool


SAFE = st.binary(max_size=20).map(lambda value: value.hex().encode())
INTERIM = st.sampled_from([b"HTTP/1.1 103 Early\r\nLocation: /no\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n"])


@st.composite
def responses(draw: st.DrawFn) -> Sent:
    """Valid responses of every framing, interim ones before them."""
    status_code = draw(st.sampled_from([200, 201, 204, 302, 304, 400, 410, 429, 503, 599, 999]))
    body = b"" if status_code in (204, 304) else draw(st.binary(max_size=100))
    location = draw(st.none() | SAFE.map(lambda path: b"/" + path))
    framing = draw(st.sampled_from(["length", "chunks", "end"])) if status_code not in (204, 304) else "none"
    close = draw(st.booleans())
    lines = [b"HTTP/1.1 %d Some reason" % status_code, b"X-Other: " + draw(SAFE)]
    if location is not None:
        lines.append(draw(st.sampled_from([b"Location", b"LOCATION", b"location"])) + b": " + location)
    if close:
        lines.append(b"Connection: close")
    payload = body
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "chunks":
        lines.append(draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding: gzip, Chunked"])))
        size = draw(st.integers(4, 100))
        extension = draw(st.sampled_from([b"", b";a=b", b';name="quoted"']))
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        payload = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
        payload += b"0\r\n" + draw(st.sampled_from([b"", b"Location: /no\r\n", b"X-Sum: 1\r\nX-More: 2\r\n"])) + b"\r\n"
    lines[1:] = draw(st.permutations(lines[1:]))
    interim = b"".join(draw(st.lists(INTERIM, max_size=3)))
    data = interim + b"\r\n".join(lines) + b"\r\n\r\n" + payload
    ends = framing == "end"
    return Sent(data, status_code, body, location, not close and not ends, ends)


def packets_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at some of its places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


CUTS = st.lists(st.integers(0, 5000), max_size=30) | st.just(list(range(5000)))


@given(st.lists(st.tuples(responses(), CUTS), min_size=1, max_size=3))
async def test_a_response_is_the_same_in_whatever_packets_it_comes(answers: list[tuple[Sent, list[int]]]) -> None:
    wire = Wire()
    for sent, cuts in answers:
        outcome = await exchange(wire, packets_of(sent.data, cuts), end=sent.ends_with_connection)
        read = outcome.response
        assert outcome.error is None
        assert (read.status_code, read.body, read.location) == (sent.status_code, sent.body, sent.location)
        assert outcome.reusable == wire.connection.reusable == sent.keep_alive
        assert wire.closed == (not sent.keep_alive)
        if not sent.keep_alive:
            return
    assert wire.sent == [b"request"] * len(answers)


MALFORMED = {
    "a status of 0": b"HTTP/1.1 000 X\r\nContent-Length: 2\r\n\r\nok",
    "a status below 100, then another response": b"HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\nok" + OK,
    "a status of four digits": b"HTTP/1.1 1000 X\r\nContent-Length: 2\r\n\r\nok",
    "a length with a sign": OK.replace(b": 2", b": +2"),
    "a length in two words": OK.replace(b": 2", b": 2 2"),
    "two lengths": OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"),
    "two lengths in a list": OK.replace(b": 2", b": 2, 3"),
    "a length too large": OK.replace(b": 2", b": 18446744073709551618"),
    "a folded header and two lengths": OK.replace(b": 2", b": 2\r\nX: a\r\n b\r\nContent-Length: 3"),
    "a space before the colon": OK.replace(b"h:", b"h :"),
    "a line without a colon": OK.replace(b": 2", b": 2\r\nContent-Length: 2\r\nX"),
    "RTSP": OK.replace(b"HTTP/1.1", b"RTSP/1.0"),
    "RTSP behind an interim response": b"HTTP/1.1 100 C\r\n\r\n" + OK.replace(b"HTTP/1.1", b"RTSP/1.0"),
    "ICE": OK.replace(b"HTTP/1.1", b"ICE/1.0"),
    "HTTP/2.0 in text": OK.replace(b"1.1", b"2.0"),
    "HTTP/0.9 in text": OK.replace(b"1.1", b"0.9"),
    "another protocol": b"\x4a\x00\x00\x00\x0a8.0.36\x00",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a request": b"POST / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_what_could_be_read_in_two_ways_is_not_read_at_all(case: str, size: int) -> None:
    data = MALFORMED[case]
    wire = Wire()
    outcome = await exchange(wire, [data[start : start + size] for start in range(0, len(data), size)])
    assert isinstance(outcome.error, MalformedResponseError)
    assert outcome.response.status_code is None
    assert wire.closed


# response, body, note
ODD = {
    "lengths in a list": (OK.replace(b": 2", b": 2, 2"), b"ok", "Content-Length more than once"),
    "the same length twice": (OK.replace(b": 2", b": 2\r\ncontent-length:2"), b"ok", "Content-Length more than once"),
    "a folded length": (OK.replace(b": 2", b":\r\n 2"), b"ok", "a folded header"),
    "a folded header": (OK.replace(b"\r\n\r\n", b"\r\nX: a\r\n\tb\r\n\r\n"), b"ok", "a folded header"),
    "chunks and a length": (
        CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"ok",
        "Content-Length beside Transfer-Encoding",
    ),
    "a length and chunks": (
        OK.replace(b"\r\n\r\nok", b"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        b"ok",
        "Content-Length beside Transfer-Encoding",
    ),
    "a length twice behind an interim response": (
        b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n" + OK.replace(b": 2", b": 2\r\nContent-Length: 2"),
        b"ok",
        "Content-Length more than once",
    ),
    "a byte behind the body": (OK + b"x", b"ok", "bytes behind the response"),
    "a body after 204": (OK.replace(b"200", b"204"), b"", "bytes behind the response"),
    "a body after 304": (OK.replace(b"200", b"304"), b"", "bytes behind the response"),
    "bytes behind the last chunk": (CHUNKED + b"2\r\nok\r\n0\r\n\r\nmore", b"ok", "bytes behind the response"),
    "bytes behind a last response": (
        OK.replace(b": 2", b": 2\r\nConnection: close") + b"more",
        b"ok",
        "bytes behind the response",
    ),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_an_odd_response_counts_is_noted_and_ends_the_connection(case: str, size: int) -> None:
    data, body, note = ODD[case]
    wire = Wire()
    outcome = await exchange(wire, [data[start : start + size] for start in range(0, len(data), size)])
    assert (outcome.error, outcome.response.body, list(outcome.response.notes)) == (None, body, [note])
    assert outcome.response.status_code in (200, 204, 304)
    assert not outcome.reusable
    assert wire.closed


@pytest.mark.parametrize("headers", [b"", b"Upgrade: x\r\nConnection: upgrade\r\n"], ids=["nothing", "a protocol"])
async def test_no_other_exchange_follows_a_switch_of_protocols_to(headers: bytes) -> None:
    wire = Wire()
    outcome = await exchange(wire, [b"HTTP/1.1 101 X\r\n" + headers + b"\r\n"])
    assert (outcome.response.status_code, outcome.reusable) == (101, False)
    assert wire.closed


@pytest.mark.parametrize("behind", [OK, b"H", b"HTTP/1.1 500 X\r\nLocation: /no\r\n\r\n", b"x" * 9000], ids=repr)
@pytest.mark.parametrize("packets", [1, 2])
async def test_bytes_behind_the_response_end_the_connection_and_change_nothing(behind: bytes, packets: int) -> None:
    wire = Wire()
    outcome = await exchange(wire, [OK, behind] if packets == 2 else [OK + behind])
    assert (outcome.response.status_code, outcome.response.body, outcome.error) == (200, b"ok", None)
    assert (outcome.response.location, [*outcome.response.notes]) == (None, ["bytes behind the response"])
    assert not outcome.reusable
    assert wire.closed


@pytest.mark.parametrize("late", [OK, b"H", b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=repr)
async def test_what_comes_while_nothing_was_asked_ends_the_connection(late: bytes) -> None:
    wire = Wire()
    assert (await exchange(wire, [OK])).reusable
    wire.connection.data_received(late)
    assert not wire.connection.reusable
    assert wire.closed


@pytest.mark.parametrize("size", [1, 1000])
async def test_a_response_before_the_request_answers_it_and_no_other(size: int) -> None:
    wire = Wire()
    for start in range(0, len(OK), size):
        wire.connection.data_received(OK[start : start + size])
    outcome = await exchange(wire, [])
    assert (outcome.response.status_code, outcome.response.body, outcome.error) == (200, b"ok", None)
    assert wire.closed, "whoever is a response ahead once would be for ever"


def test_of_what_comes_before_a_request_only_so_much_is_kept() -> None:
    loop = asyncio.new_event_loop()
    connection = Connection(loop)
    for _ in range(100):
        connection.data_received(b"x" * 65536)
    assert connection._early is not None
    assert len(connection._early) <= EARLY_BYTES_MAX + 65536
    loop.close()


async def test_a_cut_in_chunks_that_a_second_header_announces_is_no_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert isinstance((await exchange(Wire(), [head + b"2\r\nok\r\n"], end=True)).error, MalformedResponseError)
    whole = await exchange(Wire(), [head + b"2\r\nok\r\n0\r\n\r\n"])
    assert (whole.response.body, whole.reusable) == (b"ok", True)


async def test_a_coding_that_only_ends_like_chunked_lasts_to_the_end_of_the_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n"
    outcome = await exchange(Wire(), [head + b"body"], end=True)
    assert (outcome.response.body, outcome.error) == (b"body", None)


ENDLESS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 395 + b"\r\n"),
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 100),
    "extensions of a chunk": (CHUNKED + b"2", b";x=y"),
    "an extension of a chunk": (CHUNKED + b"2;x=", b"y" * 100),
    "chunks that are nearly extensions alone": (CHUNKED, b"1;x=" + b"y" * 400 + b"\r\nz\r\n"),
    "digits of a chunk's length": (CHUNKED, b"0" * 100),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\n", b"X: " + b"y" * 395 + b"\r\n"),
    "a trailer": (CHUNKED + b"2\r\nok\r\n0\r\nX: ", b"y" * 100),
}


@pytest.mark.parametrize("case", ENDLESS)
@pytest.mark.parametrize("packet_bytes", [200, 1 << 20])
async def test_of_what_is_no_body_only_so_much_is_read(case: str, packet_bytes: int) -> None:
    start, more = ENDLESS[case]
    data = start + more * (4 * FRAMING_BYTES_MAX // len(more))
    outcome = await exchange(Wire(), [data[at : at + packet_bytes] for at in range(0, len(data), packet_bytes)])
    assert isinstance(outcome.error, MalformedResponseError)
    assert f"longer than {FRAMING_BYTES_MAX} bytes" in str(outcome.error)


async def test_a_body_in_small_chunks_is_read_in_one_place() -> None:
    wire, response = Wire(), Response(65536)
    body = response.body
    task = asyncio.create_task(wire.connection.exchange(b"request", response))
    await asyncio.sleep(0)
    wire.connection.data_received(CHUNKED + b"41\r\n" + b"x" * 65 + b"\r\n" + b"40\r\n" + b"x" * 64 + b"\r\n")
    wire.connection.data_received((b"40\r\n" + b"x" * 64 + b"\r\n") * 200 + b"0\r\n\r\n")
    assert await task is True
    assert response.body == b"x" * (64 * 202 + 1)
    assert response.body is body, "a copy for each chunk would be quadratic"


@pytest.mark.parametrize("packet_bytes", [1, 3, 1 << 20])
@pytest.mark.parametrize("status", [200, 503])
async def test_of_a_response_in_tiny_pieces_the_rest_is_not_read(packet_bytes: int, status: int) -> None:
    data = CHUNKED.replace(b"200", b"%d" % status) + b"1\r\nx\r\n" * 65536
    outcome = await exchange(Wire(), [data[at : at + packet_bytes] for at in range(0, len(data), packet_bytes)])
    assert (outcome.response.status_code, outcome.error, outcome.reusable) == (status, None, False)
    assert len(outcome.response.body) < 3 * PIECES_MAX
    assert "pieces" in next(iter(outcome.response.notes))


@pytest.mark.parametrize("header", [b"X: y\r\n", b"X: " + b"y" * 20000 + b"\r\n"], ids=["headers", "a header"])
async def test_a_head_in_tiny_pieces_is_not_read_to_its_end(header: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + header * (24000 // len(header))
    outcome = await exchange(Wire(), [data[at : at + 1] for at in range(len(data))])
    assert isinstance(outcome.error, MalformedResponseError)
    assert "pieces" in str(outcome.error)


@pytest.mark.parametrize("interim", [15000, 0], ids=["behind a long interim head", "alone"])
async def test_a_refused_head_in_tiny_pieces_is_not_scanned_for_each_of_them(
    interim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = list[int]()

    def noted(received: bytes) -> tuple[bytes, list[str]] | None:
        scanned.append(len(received))
        return repaired_head(received)

    monkeypatch.setattr(connection, "repaired_head", noted)
    start = b"HTTP/1.1 100 C\r\n" + b"a\n" * interim + b"\r\n" if interim else b""
    # The final head begins in the same kilobyte as the interim one ends, because it is parsed by the kilobyte.
    start = start.ljust(-len(start) // 1024 * -1024 - 20, b"\n")
    tail = b"Content-Length: 2\r\nX: a\r\n fold\r\nY: " + b"y" * 1200 + b"\r\n\r\nok"
    packets = [start + b"HTTP/1.1 200 OK\r\n", *[tail[at : at + 2] for at in range(0, len(tail), 2)]]
    outcome = await exchange(Wire(), packets)
    assert (outcome.response.status_code, outcome.response.body, outcome.error) == (200, b"ok", None)
    assert "a folded header" in outcome.response.notes
    assert sum(scanned) <= 3 * FRAMING_BYTES_MAX


async def test_a_body_of_exactly_the_limit_is_whole_and_one_byte_more_is_cut() -> None:
    for body in (b"four", b"fives"):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        outcome = await exchange(Wire(), [head + body], limit=4)
        assert (outcome.response.body, outcome.error) == (body[:4], None)


async def test_an_exchange_cancelled_as_its_response_completes_leaves_no_connection_behind() -> None:
    wire = Wire()
    task = asyncio.create_task(wire.connection.exchange(b"request", Response(100)))
    await asyncio.sleep(0)
    wire.connection.data_received(OK)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wire.closed, "nobody else would ever close it"


async def test_a_response_after_the_exchange_was_cancelled_reaches_nobody() -> None:
    wire, response = Wire(), Response(100)
    task = asyncio.create_task(wire.connection.exchange(b"request", response))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wire.connection.data_received(OK)
    assert wire.closed
    assert response.status_code is None


async def test_a_refusal_before_all_of_the_request_was_sent_ends_the_connection() -> None:
    wire = Wire()
    wire.unsent = 1
    outcome = await exchange(wire, [OK.replace(b"200", b"413")])
    assert (outcome.response.status_code, outcome.reusable) == (413, False)
    assert wire.closed, "a receiver that never reads the rest would keep it for ever"
