"""A receiver that only counts, in a process of its own: over 20,000 requests a second on one core.

    python -m bench.receiver PORT

Every POST is answered with 200 at once, or as the path says: `/fail/503` with that status, `/tenth/503` every tenth
time with that status, `/hang` never. `GET /count` answers how many came since the last `POST /reset`, at no cost, and
`GET /stats` answers a JSON object of what came since the last `POST /reset`: `received`, `repeated` (the same messageId
again), `rate` (per second, first to last arrival), `p50_ms`, `p99_ms`, `max_ms` (createdAt to arrival), `by_second`.
"""

import asyncio
import json
import re
import sys
import time
from datetime import datetime
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
MESSAGE_ID = re.compile(rb'"messageId":"([^"]+)"')
CREATED_AT = re.compile(rb'"createdAt":"([^"]+)"')
CONTENT_LENGTH = b"\r\ncontent-length:"


class Counts:
    """What arrived: message ids and texts of createdAt as they came, worked out only when asked."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, bytes]] = []
        self.tenths = 0

    def add(self, body: bytes) -> None:
        """Note one delivery."""
        self.arrivals.append((time.time(), body))

    def tenth(self) -> bool:
        """Whether this is one of those that fail."""
        self.tenths += 1
        return self.tenths % 10 == 0

    def stats(self) -> dict[str, object]:
        """The summary that `GET /stats` answers."""
        if not self.arrivals:
            return {"received": 0, "repeated": 0}
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
            "received": len(self.arrivals),
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

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
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
            counts = self._counts
            content = json.dumps(len(counts.arrivals) if target == b"/count" else counts.stats()).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
        elif target == b"/reset":
            self._counts.arrivals = []
            self._transport.write(ANSWER)
        elif target.startswith(b"/fail/") or (target.startswith(b"/tenth/") and self._counts.tenth()):
            self._transport.write(b"HTTP/1.1 %s Failed\r\nContent-Length: 0\r\n\r\n" % target.split(b"/")[2][:3])
        elif not target.startswith(b"/hang"):
            self._counts.add(body)
            self._transport.write(ANSWER)


async def serve(port: int) -> None:
    """Receive until ended."""
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(counts), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
