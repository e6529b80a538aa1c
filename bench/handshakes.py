"""What a new connection costs a request, as of a subscription that was quiet for long: `python -m bench.handshakes`.

Requests one after the other to a receiver in a process of its own, by the HTTP client of the worker: on one connection,
and on a new connection each, over http, over TLS with the session resumed, and over TLS with a whole handshake. Latency
is that of a request, its connection included; CPU that of the process, per request. The certificate is ECDSA P-256.
"""

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from statistics import median, quantiles
from typing import Any

import uvloop

from bench.pipeline import keep, machine
from bench.servers import Certificate, certificate_for, receiver
from bench.stack import tree_cpu_seconds
from domain.urls.rules import UrlRules, normalise_url
from sending.http.client import OutgoingRequest, Sender, SenderSettings

RULES = UrlRules(allow_http=True, allowed_networks=(ip_network("127.0.0.0/8"),))
REQUESTS, ROUNDS = 500, 5


@dataclass(frozen=True)
class Kind:
    """A way to a receiver: by HTTPS or not, on a new connection each time or not, its session resumed or not."""

    title: str
    tls: bool
    new: bool
    tickets: bool = True


KINDS = {
    "http-open": Kind("http, connection open", tls=False, new=False),
    "http-new": Kind("http, new connection", tls=False, new=True),
    "https-open": Kind("HTTPS, connection open", tls=True, new=False),
    "https-resumed": Kind("HTTPS, new connection, session resumed", tls=True, new=True),
    "https-full": Kind("HTTPS, new connection, whole handshake", tls=True, new=True, tickets=False),
}


def own_cpu_seconds() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def requests(kind: Kind, certificate: Certificate, count: int) -> dict[str, float]:
    """Latency and CPU of so many requests of a kind, after one that is not counted."""
    body = b'{"messageId":"x"}'
    with_key = certificate.with_key if kind.tls else None
    settings = SenderSettings(rules=RULES, ca_bundle=str(certificate.authority))
    async with receiver(with_key, tickets=kind.tickets) as (url, pid), Sender(settings) as sender:
        request = OutgoingRequest(normalise_url(url + ("/close" if kind.new else "/many"), RULES), [], body)
        took: list[float] = []
        for number in range(count + 1):
            if number == 1:
                ours, theirs = own_cpu_seconds(), tree_cpu_seconds(pid)
            began = time.perf_counter()
            result = await sender.send(request)
            took.append((time.perf_counter() - began) * 1000)
            if result.failure is not None:
                raise RuntimeError(f"{kind.title}: {result.failure} {result.detail}")
        used = own_cpu_seconds() - ours, tree_cpu_seconds(pid) - theirs
    return {
        "p50_ms": median(took[1:]),
        "p99_ms": quantiles(took[1:], n=100, method="inclusive")[-1],
        "sender_cpu_ms": used[0] / count * 1000,
        "receiver_cpu_ms": used[1] / count * 1000,
    }


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(median(one[name] for one in rounds), 3) for name in rounds[0]}


async def run(count: int = REQUESTS, rounds: int = ROUNDS) -> dict[str, Any]:
    """All kinds in turn, in rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in KINDS}
    with certificate_for(tls=True) as certificate:
        if certificate is None:
            raise RuntimeError("no certificate")
        for _ in range(rounds):
            for name, kind in KINDS.items():
                found[name].append(await requests(kind, certificate, count))
    figures = {name: {"title": KINDS[name].title} | medians(one) for name, one in found.items()}
    return {"requests": count, "rounds": rounds, "kinds": figures}


def main() -> None:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"of each kind in a round ({REQUESTS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of all kinds ({ROUNDS})")
    arguments = parser.parse_args()
    before = machine()
    keep("handshakes", uvloop.run(run(arguments.requests, arguments.rounds)), before)


if __name__ == "__main__":
    main()
