"""A receiver that only counts, in a process of its own: over 20,000 requests a second on one core.

    python -m bench.receiver PORT [CERTIFICATE [TICKETS]]

With a PEM file of a certificate and its key it speaks HTTPS; with 0 session tickets no connection can be resumed.

Every POST is answered with 200 at once, unless its path says otherwise:

    /fail/503     that status, always
    /first/503    that status the first time a message comes
    /tenth/503    that status the first time a message comes, of every tenth message
    /slow/10      200 after so many seconds
    /hang         no answer
    /close        200 and the end of the connection
    /many         200, counted and not remembered: for more requests than fit into memory

`POST /reset` forgets everything. `GET /count` answers the number of successful requests, at no cost, and `GET /failed`
the number of failed ones. `GET /stats` answers a JSON object: `received`, `repeated` (the same messageId again), and of
what was received `rate` (per second, first to last arrival), `first_at`, `last_at`, `p50_ms`, `p99_ms`, `max_ms`
(createdAt to arrival), `by_second`.
`GET /retries` answers a JSON list of `[messageId, seconds from the failure to the retry]`, of `/first` and `/tenth`.
"""

import asyncio
import json
import re
import ssl
import sys
import time
from datetime import datetime
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CLOSING_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
MESSAGE_ID = re.compile(rb'"messageId":"([^"]+)"')
CREATED_AT = re.compile(rb'"createdAt":"([^"]+)"')
CONTENT_LENGTH = b"\r\ncontent-length:"
FAILING_AT_FIRST = {b"first": 1, b"tenth": 10}
"""First part of the path -> one message of so many fails at first."""


class Counts:
    """The requests since the last reset: bodies as they came, evaluated only on request."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, bytes]] = []
        self.unremembered = 0
        self.failed = 0
        self._seen = 0
        self._failed_at: dict[bytes, float] = {}
        self._retries: list[tuple[bytes, float]] = []

    @property
    def received(self) -> int:
        """Number of successful requests."""
        return len(self.arrivals) + self.unremembered

    def add(self, body: bytes) -> None:
        """Record a successful request."""
        self.arrivals.append((time.time(), body))

    def fails_at_first(self, body: bytes, every: int) -> bool:
        """Return True if this request is the first one of a message that fails at first; record a retry."""
        found = MESSAGE_ID.search(body)
        identity = found[1] if found else b""
        if identity in self._failed_at:
            self._retries.append((identity, time.time() - self._failed_at[identity]))
            return False
        self._seen += 1
        if self._seen % every:
            return False
        self._failed_at[identity] = time.time()
        return True

    def retries(self) -> list[tuple[str, float]]:
        """Return (messageId, seconds from the failure to the retry) in the order of arrival."""
        return [(identity.decode(), round(seconds, 4)) for identity, seconds in self._retries]

    def stats(self) -> dict[str, object]:
        """Return the summary that `GET /stats` answers."""
        if not self.arrivals:
            return {"received": self.received, "repeated": 0}
        ids = set()
        latencies = []
        for arrived, body in self.arrivals:
            if found := MESSAGE_ID.search(body):
                ids.add(found[1])
            if found := CREATED_AT.search(body):
                latencies.append((arrived - datetime.fromisoformat(found[1].decode()).timestamp()) * 1000)
        latencies.sort()
        first, last = self.arrivals[0][0], self.arrivals[-1][0]
        by_second: dict[int, int] = {}
        for arrived, _ in self.arrivals:
            by_second[int(arrived - first)] = by_second.get(int(arrived - first), 0) + 1
        return {
            "received": self.received,
            "repeated": len(self.arrivals) - len(ids),
            "first_at": first,
            "last_at": last,
            "rate": round(len(self.arrivals) / max(last - first, 0.001), 1),
            "p50_ms": _quantile(latencies, 0.50),
            "p99_ms": _quantile(latencies, 0.99),
            "max_ms": _quantile(latencies, 1.0),
            "by_second": [by_second.get(second, 0) for second in range(int(last - first) + 1)],
        }


def _quantile(ordered: list[float], fraction: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * fraction))], 2)


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as a sender of webhooks speaks it: Content-Length, keep-alive, pipelining."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower() + b"\r\n"
            length = 0
            if (at := head.find(CONTENT_LENGTH)) >= 0:
                start = at + len(CONTENT_LENGTH)
                length = int(head[start : head.index(b"\r\n", start)])
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        if method == b"get":
            content = self._server.report(target)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
            return
        counts, (_, kind, *rest) = self._server.counts, target.split(b"/")
        if kind == b"reset":
            self._server.counts = Counts()
        elif kind == b"hang":
            return
        elif kind == b"many":
            counts.unremembered += 1
        elif kind == b"close":
            counts.unremembered += 1
            self._transport.write(CLOSING_ANSWER)
            self._transport.close()
            return
        elif kind == b"fail" or (kind in FAILING_AT_FIRST and counts.fails_at_first(body, FAILING_AT_FIRST[kind])):
            counts.failed += 1
            self._transport.write(b"HTTP/1.1 %s Failed\r\nContent-Length: 0\r\n\r\n" % rest[0][:3])
            return
        elif kind == b"slow":
            counts.add(body)
            asyncio.get_running_loop().call_later(float(rest[0]), self._answer_late)
            return
        else:
            counts.add(body)
        self._transport.write(ANSWER)

    def _answer_late(self) -> None:
        if not self._transport.is_closing():  # the sender may have given up
            self._transport.write(ANSWER)


class Server:
    """The counts that all connections share."""

    def __init__(self) -> None:
        self.counts = Counts()

    def report(self, target: bytes) -> bytes:
        """Return the JSON that a GET of this path answers."""
        if target == b"/count":
            return json.dumps(self.counts.received).encode()
        if target == b"/failed":
            return json.dumps(self.counts.failed).encode()
        return json.dumps(self.counts.retries() if target == b"/retries" else self.counts.stats()).encode()

    async def serve(self, port: int, certificate: str | None = None, tickets: str = "2") -> None:
        """Receive until terminated."""
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            tls.num_tickets = int(tickets)
        server = await asyncio.get_running_loop().create_server(lambda: Connection(self), "127.0.0.1", port, ssl=tls)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(Server().serve(int(sys.argv[1]), *sys.argv[2:]))
