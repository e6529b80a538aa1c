"""Kill everything, again and again, and count what is lost: `make chaos SEED=… MINUTES=…`, or with more options

    python -m tests.chaos --seeds 1,2,3,4,5 --minutes 1.5

Real processes: PostgreSQL, Temporal, the API, several workers, and a receiver that misbehaves by seed. Meanwhile each
of them is killed, stopped, cut off its database or rolled on a timetable that the seed draws. What the emitter was
promised and what the receiver got decides. Ends with 1 when a promise was broken, with 2 when a run failed itself, with
3 when a promise was not measured, or a part of the run cannot be had here.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from bench.pipeline import machine
from bench.temporal_server import RunningTemporal
from tests.chaos.clock import LIBRARIES
from tests.chaos.findings import LENIENT, STRICT, Findings, examine
from tests.chaos.isolation import ISOLATED, SKIPPED, isolate, missing
from tests.chaos.mutations import MUTATIONS
from tests.chaos.report import as_json, show
from tests.chaos.run import Settings, run


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="1", help="comma separated; a run each, and one result of all (default 1)")
    parser.add_argument("--minutes", type=float, default=1.0, help="of load in each run (default 1)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the load: 0.5 is half of it (default 1)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument(
        "--clock-jumps",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="set clocks of workers wrong too; needs libfaketime",
    )
    parser.add_argument(
        "--partitions",
        action="store_true",
        help="give each process a network namespace, and cut, slow down and reset what goes between them; needs root",
    )
    parser.add_argument(
        "--full-disks", action="store_true", help="fill the disks of PostgreSQL and of Temporal; needs root"
    )
    parser.add_argument(ISOLATED, action="store_true", help=argparse.SUPPRESS)
    running = RunningTemporal.from_environment() or RunningTemporal("")
    parser.add_argument(
        "--temporal",
        default=running.address,
        metavar="ADDRESS",
        help="a Temporal server that runs already, in place of one of the run's own (TEMPORAL_ADDRESS)",
    )
    parser.add_argument(
        "--temporal-pid-files",
        nargs="+",
        type=Path,
        default=running.pid_files,
        metavar="FILE",
        help="of that server's processes, which are killed in turn and started again by what keeps them running "
        "(TEMPORAL_PID_FILES); without them it is not killed",
    )
    parser.add_argument(
        "--beside", type=int, default=0, help="other processes that compute all the time: up to which load times hold"
    )
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="put this defect into the product first")
    parser.add_argument("--lenient", action="store_true", help="wide bounds for what is measured in seconds")
    parser.add_argument("--json", type=Path, help="write the result to this file too")
    parser.add_argument("--keep", type=Path, help="keep ledgers and logs below this folder; else only of broken runs")
    chosen = parser.parse_args()
    if chosen.clock_jumps and not LIBRARIES:
        parser.error("libfaketime is not installed (Debian: apt install libfaketime); without it: --no-clock-jumps")
    if chosen.temporal and (chosen.partitions or chosen.full_disks):
        parser.error("partitions and full disks are made for servers of the run's own, not for --temporal")
    return chosen


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes compute during the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> int:
    """Run every seed; the exit status."""
    chosen = arguments()
    console = Console(width=None if sys.stdout.isatty() else 130)
    if (chosen.partitions or chosen.full_disks) and not chosen.isolated:
        why = missing()
        if why is not None:
            console.print(f"Skipped: {why}.")
            return SKIPPED
        isolate(sys.argv[1:])
    if chosen.isolated and not chosen.partitions:  # which would set up the namespace's network
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    bounds = LENIENT if chosen.lenient else STRICT
    temporal = RunningTemporal(chosen.temporal, tuple(chosen.temporal_pid_files)) if chosen.temporal else None
    options = ("workers", "scale", "clock_jumps", "partitions", "full_disks", "beside")
    facts = machine() | {name: getattr(chosen, name) for name in options}
    facts["command"] = facts["command"].removesuffix(f" {ISOLATED}")
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="loyalty-webhooks-chaos-"))
    runs: list[Findings] = []
    for seed in map(int, chosen.seeds.split(",")):
        settings = Settings(
            seed,
            chosen.minutes * 60,
            chosen.scale,
            chosen.workers,
            mutation=chosen.mutation,
            clock_jumps=chosen.clock_jumps,
            partitions=chosen.partitions,
            full_disks=chosen.full_disks,
            temporal=temporal,
        )
        shutil.rmtree(folder / str(seed), ignore_errors=True)  # what an earlier run left is none of this one's
        with busy(chosen.beside):
            outcome = asyncio.run(run(settings, folder / str(seed)))
            facts["load_after"] = round(os.getloadavg()[0], 2)
        runs.append(
            examine(
                outcome.ledger,
                seed=seed,
                seconds=settings.seconds,
                began_at=outcome.began_at,
                refused=outcome.refused,
                said_of=outcome.said_of,
            )
        )
        console.print(
            f"seed {seed}: up after {outcome.startup_seconds:.0f} s, all there {outcome.drain_seconds:.0f} s after the "
            f"last event, {len(runs[-1].lost)} lost, {len(runs[-1].duplicates)} repeated"
        )
    result = as_json(runs, facts, bounds)
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    show(result, console)
    if chosen.keep or not result["kept"]:
        console.print(f"Ledgers and logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if any(promise["figure"] is not None and not promise["kept"] for promise in result["promises"]):
        return 1
    return 0 if result["kept"] else SKIPPED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (AssertionError, ExceptionGroup):
        Console(stderr=True).print_exception()
        sys.exit(2)
