"""Kill each component three times within a minute at 400 single events a second: `make kills`, or

    TEMPORAL_ADDRESS=127.0.0.1:7233 TEMPORAL_PID_FILES="FOLDER/a.pid FOLDER/b.pid" python -m tests.chaos.kills

Each event is emitted once: `refused` were answered with 503, or not at all. On a Temporal server that runs already each
of its processes has a turn, its database included. Kept in bench/results/, for docs/reliability.md. Ends with 1 if
anything accepted was lost, or a delivery was too late though the process killed was ours or our PostgreSQL.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.pipeline import keep, machine
from bench.temporal_server import RunningTemporal
from tests.chaos.even_load import EvenLoad, even_load
from tests.chaos.executioner import execute
from tests.chaos.stack import ChaosStack, TemporalProcesses, chaos_stack
from tests.chaos.timetable import Action, kills_only
from tests.chaos.verdict import quantile

PER_SECOND = 400.0
SECONDS = 60.0
KILLED_AT = (0.17, 0.42, 0.67)
"""Parts of the minute."""

OURS = ("API", "worker", "PostgreSQL")
GOALS = {"max_seconds": 5.0, "p99_seconds": 2.0}
"""Maxima where a process of OURS is killed. Temporal's own are measured only."""

SETTINGS = {"LOG_LEVEL": "WARNING"}


async def minute(stack: ChaosStack, load: EvenLoad, seconds: float, actions: list[Action]) -> dict[str, Any]:
    """A minute's load under these actions, and what became of it."""
    refused, repeated = load.instants.refused, load.instants.repeated
    async with asyncio.TaskGroup() as group:
        executing = group.create_task(execute(stack, actions, time.monotonic()))
        emitting = group.create_task(load.emit(int(PER_SECOND * seconds), PER_SECOND))
    await load.arrived(emitting.result())
    late = load.instants.latenesses(emitting.result())
    return {
        "accepted": sum(1 for one in emitting.result() if load.instants.accepted[one]),
        "refused": load.instants.refused - refused,
        "lost": load.instants.lost(emitting.result()),
        "repeated": load.instants.repeated - repeated,
        "p50_seconds": round(quantile(late, 0.5) or 0.0, 3),
        "p99_seconds": round(quantile(late, 0.99) or 0.0, 3),
        "max_seconds": round(max(late, default=0.0), 3),
        "ready_seconds": [round(one.process_seconds or 0.0, 2) for one in executing.result()],
    }


async def take(seconds: float, only: list[str], workers: int) -> dict[str, Any]:
    """A minute without a kill, and one with three of each component, on one stack."""
    temporal = RunningTemporal.from_environment()
    targets = {"nothing": "", "API": "api", "worker": "worker", "PostgreSQL": "postgres"}
    files = {f"Temporal's {file.stem}": file for file in temporal.pid_files} if temporal else {}
    targets |= dict.fromkeys(files, "temporal") if temporal else {"Temporal": "temporal"}
    folder = Path(tempfile.mkdtemp(prefix="loyalty-webhooks-kills-"))
    rows = {}
    async with chaos_stack(folder, workers, SETTINGS, temporal=temporal) as stack, even_load(stack) as load:
        await load.arrived(await load.emit(2_000, PER_SECOND))  # every process loads what it needs
        for name, target in targets.items():
            if only and name not in only:
                continue
            if temporal and target == "temporal":
                stack.temporal = TemporalProcesses(RunningTemporal(temporal.address, (files[name],)))
            actions = kills_only(target, [part * seconds for part in KILLED_AT]) if target else []
            rows[name] = await minute(stack, load, seconds, actions)
            print(name, rows[name], flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return {"per_second": PER_SECOND, "seconds": seconds, "workers": workers, "killed": rows}


def missed(killed: dict[str, Any]) -> list[str]:
    """Return what was lost, and the goals that the rows miss."""
    lost = [f"{name}: {row['lost']} lost" for name, row in killed.items() if row["lost"]]
    return lost + [
        f"{name}: {key} {row[key]}, goal {goal:g}"
        for name, row in killed.items()
        for key, goal in GOALS.items()
        if name in OURS and row[key] > goal
    ]


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of load for each component (default 60)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1, as `up`)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of the table's rows")
    chosen, before = parser.parse_args(), machine()
    found = asyncio.run(take(chosen.seconds, chosen.only, chosen.workers))
    keep(f"kills{'-running' if RunningTemporal.from_environment() else ''}", found, before)
    goals = missed(found["killed"])
    print(*(f"Missed: {goal}" for goal in goals), sep="\n")
    return 1 if goals else 0


if __name__ == "__main__":
    sys.exit(main())
