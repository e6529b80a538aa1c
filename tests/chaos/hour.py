"""An hour at 30 % of the burst rate with a disturbance a minute: `make hour`, or a shorter one

    python -m tests.chaos.hour --minutes 2

The burst rate is measured first. Every other minute is quiet; the others have two disturbances, in the order of
`DISTURBANCES`. What was refused is emitted again until it is accepted. Kept in bench/results/, for docs/reliability.md.
Ends with 1 if anything accepted was lost or a goal was missed. On a Temporal server that runs already
(`bench/temporal_server.py`) its processes are killed in turn.
"""

import argparse
import asyncio
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.pipeline import keep, machine
from bench.temporal_server import RunningTemporal
from tests.chaos.even_load import EvenLoad, even_load
from tests.chaos.executioner import execute
from tests.chaos.kills import SETTINGS
from tests.chaos.stack import chaos_stack
from tests.chaos.timetable import Action

SHARE = 0.3
BATCHES_PER_SECOND = 20
BURST_EVENTS, BURST_SIZE, BURSTS = 10_000, 500, 3
AT_SECONDS = (5.0, 30.0)
"""Of a minute with disturbances; the second one is over before the quiet minute."""

DISTURBANCES = (
    ("kill", "api", 0.0),
    ("kill", "worker", 0.0),
    ("kill", "postgres", 0.0),
    ("kill", "temporal", 0.0),
    ("stop", "api", 2.0),
    ("stop", "worker", 4.0),
    ("stop", "postgres", 2.0),
    ("stop", "temporal", 4.0),
    ("drop", "postgres", 0.0),
    ("roll", "worker", 0.0),
)
"""What is done in turn, and for how long a process is stopped: shorter and longer than a worker's lease of 3 s."""

GOALS = {"quiet": 99.9, "all": 98.0}
"""Minima of the share of first attempts within 5 s, in percent, of minutes without a disturbance and of all."""

BOUNDS = (2, 5)
"""Seconds from the 202 to the first attempt, of which the shares are taken."""


def actions(minutes: int, components: Sequence[tuple[str, str, float]] = DISTURBANCES) -> list[Action]:
    """Two disturbances in every other minute."""
    instants = [minute * 60 + second for minute in range(1, minutes, 2) for second in AT_SECONDS]
    return [
        Action(at, kind, target, seconds)
        for at, (kind, target, seconds) in zip(instants, itertools.cycle(components), strict=False)
    ]


async def burst_rate(load: EvenLoad) -> list[int]:
    """Events a second of bursts, from the first emit to the last arrival."""
    rates = []
    for _ in range(BURSTS):
        began = time.monotonic()
        await load.arrived(await load.emit(BURST_EVENTS, float("inf"), size=BURST_SIZE, again=True))
        rates.append(round(BURST_EVENTS / (load.instants.last_at - began)))
    return rates


def shares(late: Sequence[float]) -> dict[str, Any]:
    """Of some deliveries: how many, the slowest, and the shares within the bounds in percent."""
    within = {
        f"within_{bound}": round(sum(one <= bound for one in late) / max(1, len(late)) * 100, 3) for bound in BOUNDS
    }
    return {"deliveries": len(late), **within, "max_seconds": round(max(late, default=0.0), 2)}


async def take(minutes: int, workers: int) -> dict[str, Any]:
    """The hour's figures."""
    temporal = RunningTemporal.from_environment()
    disturbances = [one for one in DISTURBANCES if temporal is None or temporal.pid_files or one[1] != "temporal"]
    folder = Path(tempfile.mkdtemp(prefix="loyalty-webhooks-hour-"))
    async with chaos_stack(folder, workers, SETTINGS, temporal=temporal) as stack, even_load(stack) as load:
        rates = await burst_rate(load)
        size = round(median(rates[1:]) * SHARE / BATCHES_PER_SECOND)  # the first burst warmed everything up
        rate, began, instants = size * BATCHES_PER_SECOND, time.monotonic(), load.instants
        planned, refused, repeated = actions(minutes, disturbances), instants.refused, instants.repeated
        async with asyncio.TaskGroup() as group:
            executing = group.create_task(execute(stack, planned, began))
            emitting = group.create_task(load.emit(rate * minutes * 60, rate, size=size, again=True))
        numbers = emitting.result()
        await load.arrived(numbers)
        by_minute: list[list[int]] = [[] for _ in range(minutes)]
        for one in numbers:
            if instants.accepted[one]:
                by_minute[min(minutes - 1, int((instants.accepted[one] - began) / 60))].append(one)
        late = [instants.latenesses(ones) for ones in by_minute]
        done = executing.result()
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "minutes": minutes,
        "workers": workers,
        "burst_per_second": rates,
        "per_second": rate,
        "accepted": sum(map(len, by_minute)),
        "refused": instants.refused - refused,
        "lost": instants.lost(numbers),
        "repeated": instants.repeated - repeated,
        "quiet": shares([one for minute in late[::2] for one in minute]),
        "all": shares([one for minute in late for one in minute]),
        "by_minute": [
            shares(late[minute])
            | {
                "disturbances": [
                    f"{one.name} {one.detail}".strip()
                    for one in done
                    if began + minute * 60 <= one.began_at < began + minute * 60 + 60
                ]
            }
            for minute in range(minutes)
        ],
    }


def missed(found: dict[str, Any]) -> list[str]:
    """Return what was lost, and the goals that a result misses."""
    lost = [f"{found['lost']} lost"] if found["lost"] else []
    return lost + [
        f"{minutes}: {found[minutes]['within_5']} % within 5 s, goal {goal} %"
        for minutes, goal in GOALS.items()
        if found[minutes]["within_5"] < goal
    ]


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.hour", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60, help="of load (default 60)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1, as `up`)")
    chosen, before = parser.parse_args(), machine()
    found = asyncio.run(take(chosen.minutes, chosen.workers))
    keep(f"hour{'-running' if RunningTemporal.from_environment() else ''}", found, before)
    goals = missed(found)
    print(*(f"Missed: {goal}" for goal in goals), sep="\n")
    return 1 if goals else 0


if __name__ == "__main__":
    sys.exit(main())
