"""Receivers that misbehave, and how an attempt ends with each: the table of `docs/hostile-receivers.md`."""

from typing import NamedTuple

from domain.delivery.failure_kinds import FailureKind
from sending.http.connection import PIECES_MAX
from tests.receiver import (
    Reply,
    close_before_answer,
    endless_body,
    endless_headers,
    endless_interim,
    gzip_bomb,
    hang,
    one_endless_header,
    packet_a_byte,
    raw,
    reset_before_answer,
    reset_mid_response,
    response,
    trickle,
    wrong_length,
)

EXCESS = "bytes behind the response"
TINY = f"a response in more than {PIECES_MAX} pieces, the rest not read"
TWICE = "Content-Length more than once"
BESIDE = "Content-Length beside Transfer-Encoding"
INVALID = FailureKind.invalid_response
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Case(NamedTuple):
    """A reply, and what an attempt reads in it."""

    reply: Reply
    status_code: int | None
    failure: FailureKind | None
    note: str | None = None


_CASES: dict[str, tuple[Reply, int | None, FailureKind | None] | tuple[Reply, int | None, None, str]] = {
    "never answers": (hang(), None, FailureKind.timeout),
    "resets before the answer": (reset_before_answer(), None, FailureKind.reset),
    "closes before the answer": (close_before_answer(), None, FailureKind.reset),
    "closes within the head": (raw(b"HTTP/1.1 200 OK\r\nContent-", close=True), None, FailureKind.reset),
    "resets within the body of a 200": (reset_mid_response(), 200, FailureKind.reset),
    "resets within the body of a 500": (reset_mid_response(500), 500, FailureKind.reset),
    "announces more than it sends": (wrong_length(), 200, INVALID),
    "sends more than it announced": (raw(response(200, b"hello", length=2)), 200, None, EXCESS),
    "sends a second response behind the first": (raw(response() + response(500)), 200, None, EXCESS),
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
    "has the same length twice": (
        raw(response(headers=(("Content-Length", "2"),))),
        200,
        None,
        TWICE,
    ),
    "has a length and chunks": (
        raw(CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n0\r\n\r\n"),
        200,
        None,
        BESIDE,
    ),
    "folds a header": (raw(response(headers=(("X-A", "a\r\n b"),))), 200, None, "a folded header"),
    "has a space before a colon": (raw(response(headers=(("X-A ", "a"),))), None, INVALID),
    "has broken chunks": (raw(CHUNKED + b"ZZ\r\nok\r\n", close=True), 200, INVALID),
    "ends within a chunk": (raw(CHUNKED + b"5\r\nok", close=True), 200, INVALID),
    "ends its lines with LF alone": (raw(b"HTTP/1.1 200 OK\nContent-Length: 4\n\nfine"), 200, None),
    "pads the lengths of its chunks": (raw(CHUNKED + b"2  \r\nok\r\n0  \r\n\r\n"), 200, None),
    "has good chunks": (raw(CHUNKED + b"2\r\nok\r\n0\r\n\r\n"), 200, None),
    "has a NUL in a header": (raw(b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n"), None, INVALID),
    "has a status that is no number": (raw(b"HTTP/1.1 OK 200\r\n\r\n", close=True), None, INVALID),
    "answers 204 with a body": (
        raw(b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\nhello", close=True),
        204,
        None,
        EXCESS,
    ),
    "sends its body in one-byte chunks": (raw(CHUNKED + b"1\r\nx\r\n" * 65536), 200, None, TINY),
    "sends a packet a byte": (packet_a_byte(), 200, None),
    "says RTSP": (raw(b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), None, INVALID),
    "says HTTP/2.0 in text": (raw(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), None, INVALID),
    "switches protocols unasked": (raw(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), 101, None),
    "says webhook-delivery: stop": (
        raw(response(headers=(("webhook-delivery", "stop"),))),
        200,
        None,
        "an unknown webhook-delivery, ignored",
    ),
    "says webhook-delivery: disable, twice and otherwise": (
        raw(response(headers=(("webhook-delivery", "disable"), ("Webhook-Delivery", "abort-message")))),
        200,
        None,
        "an unknown webhook-delivery, ignored",
    ),
    "says webhook-delivery: disable with a 503": (
        raw(response(503, headers=(("webhook-delivery", "disable"),))),
        503,
        None,
        "webhook-delivery with neither a 2xx nor a 4xx, ignored",
    ),
    "answers 999": (raw(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"), 999, None),
}

HOSTILE = {name: Case(*case) for name, case in _CASES.items()}
