"""What order costs: bursts to three subscriptions of one stack in turn, unordered, by customer, and by subscription.

`python -m bench.order`. The receiver answers at once, so that the figures are those of the way to it.
"""

import asyncio
import json
import time
from statistics import median
from typing import Any
from uuid import uuid4

from bench.pipeline import EMIT_BATCH, RESULTS, event_line, machine
from bench.stack import Bench, bench_stack

CUSTOMERS = 100
ROUNDS = 3
WAIT_SECONDS = 300
KINDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "unordered": ("CustomerUpdated", 2_000, {}),
    "by customer": ("CustomerDeactivated", 1_000, {"ordered": True, "orderKey": "customer"}),
    "by subscription": ("CustomerEmailWasChanged", 300, {"ordered": True}),
}
"""The event each subscribes to, how many are sent in a round, and how it is ordered."""


async def burst(bench: Bench, event_name: str, events: int) -> float:
    """Deliveries a second of one burst, from its first emit to its last arrival."""
    customers = [str(uuid4()) for _ in range(CUSTOMERS)]
    await bench.reset()
    began = time.time()
    lines = [event_line(event_name) for _ in range(events)]
    for number, line in enumerate(lines):
        line["data"]["customer"]["customerId"] = customers[number % CUSTOMERS]
    for start in range(0, events, EMIT_BATCH):
        await bench.emit_batch("\n".join(json.dumps(line) for line in lines[start : start + EMIT_BATCH]).encode())
    stats = await bench.until_received(events, WAIT_SECONDS)
    return float(events / (stats["last_at"] - began))


async def measure() -> dict[str, Any]:
    """The median of some rounds of each kind."""
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with bench_stack() as bench:
        for kind, (event_name, _, fields) in KINDS.items():
            await bench.subscribe(event_name, f"/{kind.replace(' ', '-')}", **fields)
            await burst(bench, event_name, 50)
        for _ in range(ROUNDS):
            for kind, (event_name, events, _) in KINDS.items():
                rates[kind].append(await burst(bench, event_name, events))
    return {
        "customers": CUSTOMERS,
        "per_second": {kind: [round(one) for one in found] for kind, found in rates.items()},
        "per_second_median": {kind: round(median(found)) for kind, found in rates.items()},
    }


def main() -> None:
    """Measure and keep the figures."""
    result = {"scenario": "order", "machine": machine(), "figures": asyncio.run(measure())}
    (RESULTS / "order.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
