"""What the seam to httpx costs: `python -m bench.seam [--help]`.

First the requests of one event loop that keeps 64 in flight to a receiver in a process of its own: over our connections
alone, by the sender as deliveries call it, and by the sender with every delivery an `httpx.Request` over our transport.
CPU is that of the sending process, per request. Then bursts of a whole stack without and with that transport, in turn.
Both over http and over HTTPS. Printed, and kept in bench/results/.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import uvloop

from bench.compare import compare, ratios
from bench.handshakes import RULES, own_cpu_seconds
from bench.pipeline import keep, machine
from bench.servers import Certificate, certificate_for, receiver
from bench.sides import Side
from bench.transport import unchanged
from bench.works import WORKS, sized
from domain.urls.rules import NormalisedUrl, normalise_url
from sending.http.client import OutgoingRequest, Sender, SenderSettings
from sending.http.connection import Response
from sending.http.pool import Connections

REQUESTS, ROUNDS, IN_FLIGHT = 20_000, 5, 64
EVENTS, PAIRS = 10_000, 5
HEADERS = [("webhook-id", "9ef7ebfd-406a-5f81-a250-162e220634b9"), ("webhook-timestamp", "1795509351")]
BODY = b'{"messageId":"x","data":"' + b"x" * 300 + b'"}'
BODY_LIMIT = 65_536
SEAM = Side.parse("HTTP_TRANSPORT=bench.transport:unchanged")

WAYS = {
    "connections": "our connections alone",
    "direct": "the sender, as deliveries call it",
    "httpx": "the sender, every delivery an `httpx.Request`",
}

Sending = Callable[[], Awaitable[object]]


async def _way(stack: AsyncExitStack, name: str, url: NormalisedUrl, certificate: Certificate) -> Sending:
    """Return what sends one request in this way."""
    if name == "connections":
        connections = Connections(RULES, ca_bundle=str(certificate.authority))
        stack.push_async_callback(connections.aclose)
        lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
        head = f"POST {url.target} HTTP/1.1\r\nHost: {url.hostname}\r\nContent-Length: {len(BODY)}\r\n{lines}\r\n"
        octets = head.encode() + BODY
        return lambda: connections.exchange(url, octets, Response(BODY_LIMIT))
    settings = SenderSettings(
        rules=RULES, ca_bundle=str(certificate.authority), transport=unchanged if name == "httpx" else None
    )
    sender = await stack.enter_async_context(Sender(settings))

    async def send() -> None:
        result = await sender.send(OutgoingRequest(url, list(HEADERS), BODY))
        if result.failure is not None:
            raise RuntimeError(f"{result.failure} {result.detail}")

    return send


async def requests(name: str, certificate: Certificate, count: int, *, tls: bool) -> dict[str, float]:
    """CPU and duration of a request in this way, after as many as are in flight at once."""
    with_key = certificate.with_key if tls else None
    async with receiver(with_key) as (root, _), AsyncExitStack() as stack:
        send = await _way(stack, name, normalise_url(f"{root}/many", RULES), certificate)
        await asyncio.gather(*(send() for _ in range(IN_FLIGHT)))
        left = iter(range(count))

        async def sends() -> None:
            for _ in left:
                await send()

        cpu, began = own_cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(sends() for _ in range(IN_FLIGHT)))
        took, used = time.perf_counter() - began, own_cpu_seconds() - cpu
    return {"cpu_us": used / count * 1e6, "us": took / count * 1e6}


async def of_requests(count: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Medians of every way over http and HTTPS, in rounds."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with certificate_for(tls=True) as certificate:
        if certificate is None:
            raise RuntimeError("no certificate")
        for _ in range(rounds):
            for scheme in ("http", "https"):
                for name in WAYS:
                    one = await requests(name, certificate, count, tls=scheme == "https")
                    found.setdefault((name, scheme), []).append(one)
    return {
        name: {
            scheme: {key: round(median(one[key] for one in found[name, scheme]), 1) for key in ("cpu_us", "us")}
            for scheme in ("http", "https")
        }
        for name in WAYS
    }


async def of_bursts(events: int, pairs: int) -> dict[str, Any]:
    """Ratios of bursts with the transport to bursts without, over http and HTTPS: median, least, most."""
    work, figures = sized(WORKS["burst-1"], events, pairs), {}
    for scheme in ("http", "https"):
        turns = await compare([Side(), SEAM], work, tls=scheme == "https")
        figures[scheme] = {
            name: [round(one(ratios(turns, name)), 3) for one in (median, min, max)]
            for name in ("deliveries_per_second", "cpu_s_per_1000", "cpu_s_per_1000_worker")
        }
    return figures


def main() -> None:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"of each way in a round ({REQUESTS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of all ways ({ROUNDS})")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"of a burst ({EVENTS})")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of bursts ({PAIRS})")
    chosen, before = parser.parse_args(), machine()
    figures = {
        "in_flight": IN_FLIGHT,
        "requests": uvloop.run(of_requests(chosen.requests, chosen.rounds)),
        "events": chosen.events,
        "bursts": asyncio.run(of_bursts(chosen.events, chosen.pairs)),
    }
    keep("seam", figures, before)


if __name__ == "__main__":
    main()
