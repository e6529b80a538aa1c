"""Attacks by URLs and by receivers on a worker. The cases are those of the sender's tests."""

import asyncio
import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from statistics import median
from typing import Any

import asyncpg
import httpx

from bench.live import live_receiver
from bench.pipeline import event_line
from bench.servers import Certificate, free_port, listens
from bench.stack import Bench
from domain.delivery.lifecycle import DeliveryStatus
from tests.attack.api import Target
from tests.attack.tried import Tried
from tests.receiver import Exchange, Receiver, raw, response
from tests.sending.http.hostile import HOSTILE, Case
from tests.sending.http.test_sender_addresses import REFUSED, Listener

EVENT = "CustomerDeactivated"
PUBLIC_URL = "http://93.184.215.14/"
"""Replaced before an event is emitted: nothing is sent there."""

ATTEMPTED_SECONDS = 60.0
ENDED = "SELECT count(*) FROM delivery WHERE attempts > 0 OR status <> 'pending'"
DELIVERED = "SELECT count(*) FROM delivery WHERE subscription_id = $1 AND status = 'delivered'"
ATTEMPTS = """
SELECT count(*), count(*) FILTER (WHERE outcome_at IS NULL) FROM attempt JOIN delivery USING (accepted_on, message_id)
WHERE subscription_id = $1
"""
DELIVERIES = 1500
"""To each receiver, times the scale."""

EMITTED_AT_ONCE = 50
"""Events to a receiver in a batch. All at once would measure the burst, whoever receives it."""

WARM_SECONDS, IDLE_SECONDS, BESIDE_SECONDS = 4.0, 20.0, 6.0
"""Of the neighbour before anything is measured, alone, and beside each receiver."""

OPEN_SECONDS = 15.0
"""Maximum wait for the attempts of a burst: a time-out and more. A slow receiver that succeeds has some for longer."""

CLOSES = "answers and closes"
POLITE = {
    "answers and keeps the connection": Case(raw(response()), 200, None),
    CLOSES: Case(raw(response(headers=(("Connection", "close"),)), close=True), 200, None),
}
"""Receivers without fault. What a neighbour feels beside them is the load, not the hostility."""

RECEIVERS = POLITE | HOSTILE
OVER_TLS = (
    *POLITE,
    "resets within the body of a 200",
    "announces more than it sends",
    "sends a body without end",
    "sends headers without end",
    "sends its body in one-byte chunks",
)
"""Receivers that are tried over TLS too."""

NAMED = [vector for vector in REFUSED if not vector.addresses]
"""Without those whose names only a resolver of the tests knows."""


async def addresses_at_creation(target: Target) -> Tried:
    """Subscriptions to each refused URL of the table."""
    tried = Tried()
    async with httpx.AsyncClient(base_url=target.root, headers={"X-AUTH-TOKEN": target.key}, timeout=60) as client:
        for vector in target.random.sample(NAMED, len(NAMED)):
            wanted = json.dumps({"webhookSubscription": {"eventName": EVENT, "url": vector.at(8080)}})
            answer = await client.post("/api/default/webhook/subscription", content=wanted)
            tried.note(f"{vector.url}: {answer.status_code}", answer.status_code != httpx.codes.BAD_REQUEST)
    return tried


async def addresses_at_send(target: Target, database: str) -> Tried:
    """The same URLs, written into the table of subscriptions behind the API's back; an event goes to each."""
    tried, listener, connection = Tried(), Listener(), await asyncpg.connect(database)
    await listener.start()
    try:
        async with httpx.AsyncClient(base_url=target.root, headers={"X-AUTH-TOKEN": target.key}, timeout=60) as client:
            for vector in target.random.sample(NAMED, len(NAMED)):
                url = vector.at(listener.port)
                if re.search("[\0\ud800-\udfff]", url):
                    continue  # PostgreSQL stores neither NUL nor half a surrogate pair
                wanted = {"webhookSubscription": {"eventName": EVENT, "url": PUBLIC_URL}}
                made = await client.post("/api/default/webhook/subscription", json=wanted)
                made.raise_for_status()
                await connection.execute(
                    "UPDATE subscription SET url = $2 WHERE id = $1", made.json()["webhookSubscriptionId"], url
                )
                tried.note(url, False)
            (await client.post("/api/default/event", json={"event": event_line(EVENT)})).raise_for_status()
            deadline = time.monotonic() + ATTEMPTED_SECONDS
            while (ended := await connection.fetchval(ENDED)) < tried.cases and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
        tried.cases = ended
        for url in await connection.fetch("SELECT url FROM delivery WHERE status = $1", DeliveryStatus.DELIVERED):
            tried.let_in.append(url["url"])
        tried.let_in += ["a connection to the private listener"] * listener.connections
    finally:
        await connection.close()
        await listener.aclose()
    return tried


async def hostile_receivers(bench: Bench, target: Target, certificate: Certificate) -> tuple[Tried, dict[str, Any]]:
    """Deliveries to each receiver, beside a neighbour whose events come one by one. Each attempt to a hostile one is a
    case."""
    tried, events = Tried(), target.times(DELIVERIES)
    lines = [json.dumps(event_line(EVENT)).encode() for _ in range(events)]
    kinds = [(name, False) for name in RECEIVERS] + [(name, True) for name in OVER_TLS]
    beside: dict[str, dict[str, Any]] = {}
    connection = await asyncpg.connect(bench.facts["database"])
    async with receivers() as plain, receivers(certificate) as secure, live_receiver() as live:
        await live.prepare(bench)
        await live.during(bench, asyncio.sleep(WARM_SECONDS))
        alone = await live.during(bench, asyncio.sleep(IDLE_SECONDS))
        for name, tls in target.random.sample(kinds, len(kinds)):
            root = secure if tls else plain
            subscription = await replace(bench, receiver_url=root).subscribe(EVENT, f"/{[*RECEIVERS].index(name)}")

            async def load() -> None:
                began = time.monotonic()
                for start in range(0, events, EMITTED_AT_ONCE):
                    await bench.emit_batch(b"\n".join(lines[start : start + EMITTED_AT_ONCE]))
                    due = began + BESIDE_SECONDS * min(1.0, (start + EMITTED_AT_ONCE) / events)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))

            among = await live.during(bench, load())
            ratio = round(among["p99_ms"] / alone["p99_ms"], 2)
            attempts = await settled(connection, subscription)
            beside[_title(name, tls)] = {"alone": alone, "among": among, "p99_ratio": ratio, "attempts": attempts}
            if name in HOSTILE:
                delivered = await connection.fetchval(DELIVERED, subscription)
                tried.cases += attempts
                tried.let_in += [name] * (0 if succeeds(HOSTILE[name]) else delivered)
            (await bench.api.delete(f"{bench.store_path}/webhook/subscription/{subscription}")).raise_for_status()
            await settled(connection, subscription)
    await connection.close()
    polite = {_title(name, tls) for name, tls in kinds if name in POLITE}
    for name, tls in kinds:
        pair, base = beside[_title(name, tls)], beside[_title(CLOSES, tls)]
        pair["p99_ratio_to_polite"] = round(pair["among"]["p99_ms"] / base["among"]["p99_ms"], 2)
    hostile = {title: pair for title, pair in beside.items() if title not in polite}
    halves = {half: [pair[half] for pair in hostile.values()] for half in ("alone", "among")}
    figures = {
        f"{name}_{half}": round(median(one[name] for one in found), 1)
        for half, found in halves.items()
        for name in ("p50_ms", "p99_ms")
    }
    worst = max(hostile, key=lambda title: hostile[title]["p99_ratio_to_polite"])
    return tried, figures | {
        "p99_ratio": median(pair["p99_ratio"] for pair in hostile.values()),
        "worst": worst,
        "worst_p99_ratio_to_polite": hostile[worst]["p99_ratio_to_polite"],
        "polite": {title: beside[title] for title in sorted(polite)},
        "receivers": hostile,
    }


def _title(name: str, tls: bool) -> str:
    return name + " (TLS)" * tls


async def settled(connection: asyncpg.Connection, subscription: str) -> int:
    """Wait until no attempt is open, OPEN_SECONDS at most; the number of attempts."""
    deadline = time.monotonic() + OPEN_SECONDS
    while True:
        attempts, still_open = await connection.fetchrow(ATTEMPTS, subscription)
        if not still_open or time.monotonic() > deadline:
            return int(attempts)
        await asyncio.sleep(0.2)


def succeeds(case: Case) -> bool:
    """Return True if the table calls the delivery delivered."""
    return case.failure is None and case.status_code is not None and case.status_code // 100 == 2


@asynccontextmanager
async def receivers(certificate: Certificate | None = None) -> AsyncIterator[str]:
    """Root of all receivers in a process of their own, with a certificate over TLS: `/N` is the Nth of them."""
    port, tls = free_port(), [str(certificate.with_key)] if certificate else []
    process = subprocess.Popen([sys.executable, "-m", "tests.attack.worker", str(port), *tls])
    try:
        while not await listens(port):
            await asyncio.sleep(0.02)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def serve(port: int, certificate: str | None = None) -> None:
    """Be the receivers."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    replies = [case.reply for case in RECEIVERS.values()]

    async def reply(exchange: Exchange) -> None:
        await replies[int(exchange.request.target.strip("/"))](exchange)

    async with Receiver(port=port, tls=context) as receiver:
        receiver.otherwise = reply
        while True:
            await asyncio.sleep(BESIDE_SECONDS)
            receiver.requests.clear()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
