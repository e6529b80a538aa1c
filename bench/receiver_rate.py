"""How much the receiver takes: `python -m bench.receiver_rate`; it must not be what a burst is measured by.

A sender that only writes prepared requests, many of them before it reads an answer, has the other core. Kept in
bench/results/: requests a second, in rounds.
"""

import asyncio
import json
import socket
import time
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx

from bench.pipeline import event_line, keep, machine
from bench.servers import receiver

REQUESTS = 100_000
IN_FLIGHT = 100
ROUNDS = 5


def rate(connection: socket.socket, request: bytes, answer_size: int) -> float:
    """Requests a second."""
    together = request * IN_FLIGHT
    began = time.perf_counter()
    for _ in range(REQUESTS // IN_FLIGHT):
        connection.sendall(together)
        missing = IN_FLIGHT * answer_size
        while missing:
            missing -= len(connection.recv(missing))
    return REQUESTS / (time.perf_counter() - began)


async def measure() -> dict[str, Any]:
    """Rounds over one connection."""
    body = json.dumps(event_line()).encode()
    request = b"POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with receiver() as (address, _):
        with socket.create_connection(("127.0.0.1", urlsplit(address).port or 80)) as connection:
            connection.sendall(request)
            answer_size = len(connection.recv(4096))
            rates = [round(rate(connection, request, answer_size)) for _ in range(ROUNDS)]
        received = httpx.get(f"{address}/count").json()
    if received != ROUNDS * REQUESTS + 1:
        raise RuntimeError(f"{received} of {ROUNDS * REQUESTS + 1} requests were counted")
    return {"per_second": rates, "per_second_median": median(rates)}


def main() -> None:
    """Measure and keep the figures."""
    before = machine()
    keep("receiver", asyncio.run(measure()), before)


if __name__ == "__main__":
    main()
