"""How fast events become requests: `python -m bench.pipeline [--help]`.

Every figure comes from one run on this machine, receiver and emitter included; compare ratios, not machines.
"""

import argparse
import asyncio
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import psutil

from bench.servers import certificate_for
from bench.stack import SETTLE_SECONDS, Bench, bench_stack

RESULTS = Path(__file__).parent / "results"
CODE = (":/", ":(top,exclude)bench/results", ":(top,exclude)docs")
EVENT = "CustomerUpdated"
EMIT_BATCH = 500


def event_line(name: str = EVENT) -> dict[str, Any]:
    """An event as a platform emits it; its createdAt is now, so that the receiver can tell the latency."""
    customer = {
        "customerId": str(uuid4()),
        "email": "member@example.com",
        "phone": "+48123456789",
        "loyaltyCardNumber": "1234567890123",
    }
    return {"eventName": name, "createdAt": datetime.now(UTC).isoformat(), "data": {"customer": customer}}


async def warm_up(bench: Bench, subscriptions: int) -> None:
    """Let every process load what it needs: a few hundred events, then a quiet moment."""
    for _ in range(3):
        await burst_once(bench, 100, subscriptions)


async def burst_once(bench: Bench, events: int, subscriptions: int, name: str = EVENT) -> dict[str, Any]:
    """Emit as fast as the API takes it, and wait for the last delivery."""
    await bench.reset()
    cpu, began = bench.cpu_seconds(), time.time()
    for start in range(0, events, EMIT_BATCH):
        lines = [json.dumps(event_line(name)) for _ in range(min(EMIT_BATCH, events - start))]
        await bench.emit_batch("\n".join(lines).encode())
    emitted = time.time()
    stats = await bench.until_received(events * subscriptions, 300)
    took = stats["last_at"] - began
    per_1000 = {name: (used - cpu[name]) / events / subscriptions * 1000 for name, used in bench.cpu_seconds().items()}
    return {
        "deliveries": events * subscriptions,
        "per_second": round(events * subscriptions / took),
        "emitted_per_second": round(events / (emitted - began)),
        "cpu_seconds_per_1000": {name: round(used, 4) for name, used in per_1000.items()},
        "cpu_seconds_per_1000_total": round(sum(per_1000.values()), 4),
        "p50_ms": stats["p50_ms"],
        "p99_ms": stats["p99_ms"],
        "repeated": stats["repeated"],
        "by_second": stats["by_second"],
    }


async def burst_by_https(events: int, rounds: int) -> dict[str, Any]:
    """Bursts to one subscription of a stack that delivers by HTTPS."""
    with certificate_for(tls=True) as certificate:
        async with bench_stack(certificate=certificate) as bench:
            await bench.subscribe(EVENT, "/0")
            await warm_up(bench, 1)
            found = [await burst_once(bench, events, 1) for _ in range(rounds)]
    return {"events": events, "rounds": found, "per_second_median": median(one["per_second"] for one in found)}


async def burst(events: int, subscriptions: int, rounds: int) -> dict[str, Any]:
    """Rounds with batches, and beside them the same events with batches off (fewer rounds: it is far slower)."""
    figures: dict[str, Any] = {"events": events, "subscriptions": subscriptions}
    async with bench_stack() as bench:
        for number in range(subscriptions):
            await bench.subscribe(EVENT, f"/{number}")
        await warm_up(bench, subscriptions)
        before = bench.memory_mb("worker")
        figures["rounds"] = [await burst_once(bench, events, subscriptions) for _ in range(rounds)]
        figures["worker_memory_mb"] = [before, bench.memory_mb("worker")]
    async with bench_stack({"BATCH_EVENTS": "1"}) as bench:
        for number in range(subscriptions):
            await bench.subscribe(EVENT, f"/{number}")
        await burst_once(bench, 20, subscriptions)
        figures["batches_off"] = await burst_once(bench, min(events, 1000), subscriptions)
    rates = sorted(one["per_second"] for one in figures["rounds"])
    figures["per_second_median"] = rates[len(rates) // 2]
    figures["ratio_to_batches_off"] = round(figures["per_second_median"] / figures["batches_off"]["per_second"], 1)
    return figures


async def idle(events: int, rate: float, *, tls: bool = False) -> dict[str, Any]:
    """One event at a time, evenly spaced: the latency when nothing else is to do."""
    with certificate_for(tls) as certificate:
        async with bench_stack(certificate=certificate) as bench:
            await bench.subscribe(EVENT, "/idle")
            await warm_up(bench, 1)
            return {"events": events, "rate": rate} | await idle_once(bench, events, rate)


async def idle_once(bench: Bench, events: int, rate: float) -> dict[str, Any]:
    """One event at a time to one subscription, once all is quiet."""
    await asyncio.sleep(SETTLE_SECONDS)
    await bench.reset()
    next_at = time.monotonic()
    for _ in range(events):
        answer = await bench.api.post(f"{bench.store_path}/event", json={"event": event_line()})
        answer.raise_for_status()
        next_at += 1 / rate
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))
    stats = await bench.until_received(events, 60)
    return {key: stats[key] for key in ("p50_ms", "p99_ms", "max_ms")}


async def signing(events: int, rounds: int) -> dict[str, Any]:
    """Bursts to a subscription that is signed and to one that is not, of one stack, in turn."""
    names = {"signed": EVENT, "unsigned": "CustomerDeactivated"}
    rates: dict[str, list[int]] = {kind: [] for kind in names}
    async with bench_stack() as bench:
        for kind, name in names.items():
            await bench.subscribe(name, f"/{kind}", hmacEnabled=kind == "signed")
            await burst_once(bench, events, 1, name)
        for number in range(rounds):
            for kind in sorted(names, reverse=bool(number % 2)):
                rates[kind].append((await burst_once(bench, events, 1, names[kind]))["per_second"])
    medians = {kind: round(median(found)) for kind, found in rates.items()}
    ratio = round(medians["signed"] / medians["unsigned"], 3)
    return {"events": events, "per_second": rates, "per_second_median": medians, "ratio_of_medians": ratio}


def keep(name: str, figures: dict[str, Any], before: dict[str, Any]) -> None:
    """Write a scenario's figures to bench/results/, with the facts of the machine before it, and print them."""
    result = {"scenario": name, "machine": before, "figures": figures}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how: the command, and the commit with a `+` if files differ from it."""
    module = getattr(sys.modules["__main__"].__spec__, "name", "").removesuffix(".__main__")
    running = ["TEMPORAL_ADDRESS=…", "TEMPORAL_PID_FILES=…"] if "TEMPORAL_PID_FILES" in os.environ else []
    return {
        "commit": _git("rev-parse", "HEAD") + "+" * bool(_git("status", "--porcelain", "--", *CODE)),
        "command": " ".join([*running, shlex.join(["python", "-m", module, *sys.argv[1:]])]),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(*arguments: str) -> str:
    """Output of a command of git; empty outside a checkout."""
    done = subprocess.run(["git", *arguments], cwd=RESULTS, capture_output=True, text=True, check=False)
    return done.stdout.strip()


SCENARIOS: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
    "idle": lambda: idle(200, 20),
    "idle-https": lambda: idle(200, 20, tls=True),
    "burst-1": lambda: burst(10_000, 1, 5),
    "burst-https": lambda: burst_by_https(10_000, 5),
    "burst-5": lambda: burst(2_000, 5, 5),
    "signing": lambda: signing(10_000, 6),
}


def main() -> None:
    """Run scenarios and keep their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help=f"of {', '.join(SCENARIOS)}; none: all")
    arguments = parser.parse_args()
    for name in arguments.scenario or SCENARIOS:
        before = machine()
        keep(name, asyncio.run(_run(name)), before)


async def _run(name: str) -> dict[str, Any]:
    return await SCENARIOS[name]()


if __name__ == "__main__":
    main()
