"""The figures that the pages quote, taken anew in one go: `make figures`, or some of them

    python -m bench.figures --only burst-1 steady      the commands of these results
    python -m bench.figures --older                    the commands of those that are older than what they measure
    python -m bench.figures --check                    which these are, taking nothing; 1 if any is

Takes some five hours on two cores, which nothing else should use, without what needs another checkout, a Temporal
server that runs, or most of a day: those commands are listed at the end. Each command keeps its own results; a whole
run keeps how long each took in bench/results/figures.json. The pages are rendered at the end, and mark older results.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench.pipeline import RESULTS, machine

PATH = (
    "activities",
    "api/events",
    "domain",
    "relay",
    "sending",
    "storage",
    "telemetry",
    "temporal",
    "workflows",
    "worker.py",
)
"""The path of an event."""

INSTALLED = (
    *PATH,
    "api/app.py",
    "api/serving",
    "commands/api.py",
    "commands/worker.py",
    "local",
    "requirements.lock",
    "settings.py",
)
"""And the rest of what the processes of an installation run."""

OLDER = " **older than the code**"
"""Mark of a result on a page. The check of the pages ignores it: whether it is due changes with every commit."""


UNAFFECTED = "unaffected"
"""Value of the trailer `Figures` of a commit that changes measured files and can change no figure, as by a rename. One
that can change some names the results: `Figures: fairness-noisy floors`."""


@dataclass(frozen=True)
class Measurement:
    """A command (of `python -m`), the results it keeps, and the files that these measure."""

    command: str
    results: tuple[str, ...]
    measures: tuple[str, ...] = PATH
    by_hand: bool = False
    """It needs another checkout, a Temporal server that runs, or most of a day."""


MEASUREMENTS = (
    Measurement("bench.pipeline", ("idle", "idle-https", "burst-1", "burst-https", "burst-5", "signing")),
    Measurement("bench.sustained", ("steady", "failing")),
    Measurement("bench.receiver_rate", ("receiver",), ("bench/receiver.py", "bench/receiver_rate.py")),
    Measurement("bench.handshakes", ("handshakes",), ("bench/handshakes.py", "sending/http")),
    Measurement("bench.seam", ("seam",), ("sending", "bench/seam.py")),
    Measurement("bench.layers", ("layers",)),
    Measurement("bench.order", ("order",)),
    Measurement("bench.waiting --bursts", ("waiting-10000",)),
    Measurement("bench.fairness noisy --pairs 5 --events 15000", ("fairness-noisy",)),
    Measurement("bench.fairness backlog", ("fairness-backlog",)),
    Measurement("bench.fairness neighbour", ("fairness-neighbour",)),
    Measurement("bench.capacity measure", ("unit-costs",), ("relay", "storage", "temporal", "workflows")),
    Measurement("bench.postgres python -m bench.intake", ("intake",), ("api", "domain/events", "storage/events")),
    Measurement("bench.postgres python -m bench.emit_log", ("emit-log",), ("api/events", "storage/events")),
    Measurement(
        "bench.postgres python -m bench.log_pages --deliveries 1000000",
        ("log-pages",),
        ("api/deliveries", "storage/deliveries"),
    ),
    Measurement("bench.panel_pages", ("panel-pages",), ("api/panel", "storage")),
    Measurement("bench.retention", ("retention",), ("storage/events", "storage/migrations")),
    Measurement("bench.recovery", ("recovery",), ("local/postgres.py", "storage/events", "storage/deliveries")),
    Measurement("bench.expiry", ("expiry-1m", "expiry-delivering", "expiry-live"), (*PATH, "storage/expiry")),
    Measurement("tests.chaos --seeds 1,2,3,4,5,6,7,8,9,10 --minutes 1.5 --json bench/results/chaos.json", ("chaos",)),
    Measurement(
        "tests.chaos --seeds 1,2,3,4,5,6,7,8,9,10 --minutes 2.2 --partitions --full-disks "
        "--json bench/results/chaos-partitions.json",
        ("chaos-partitions",),
    ),
    Measurement(
        "tests.chaos --seeds 1,2,3 --minutes 1.5 --beside 6 --lenient --json bench/results/chaos-busy.json",
        ("chaos-busy",),
    ),
    Measurement("tests.chaos.defects --json bench/results/defects.json", ("defects",), (*PATH, "tests/chaos")),
    Measurement(
        "tests.chaos --seeds 1,2,3 --minutes 1.5 --scale 0.5 --json bench/results/chaos-running.json",
        ("chaos-running",),
        by_hand=True,
    ),
    Measurement("tests.chaos.kills", ("kills",), INSTALLED),
    Measurement("tests.chaos.kills", ("kills-running",), INSTALLED, by_hand=True),
    Measurement("tests.chaos.hour", ("hour",), INSTALLED),
    Measurement("tests.chaos.hour", ("hour-running",), INSTALLED, by_hand=True),
    Measurement("tests.attack", ("attack",), (*PATH, "api", "commands/api.py", "tests/attack", "tests/sending/http")),
    Measurement("bench.peers", ("peers",)),
    Measurement("bench.peers --tls", ("peers-https",)),
    Measurement("bench.floors OLD .", ("floors", "floors-running"), by_hand=True),
)


def is_older(name: str, result: dict[str, Any], measures: tuple[str, ...]) -> bool:
    """Return True if a commit since that of a result changed these files, unless its trailer `Figures` leaves the
    result out, or if the result names no commit that is known here, as with a `+`, which says that files differed."""
    commit = result["machine"].get("commit") or "none"
    values = "--format=%(trailers:key=Figures,valueonly,separator=%x20)"
    command = ["git", "log", "--no-merges", values, f"{commit}..HEAD", "--", *measures]
    since = subprocess.run(command, cwd=RESULTS.parents[1], capture_output=True, text=True, check=False)
    known = {UNAFFECTED}.union(*(one.results for one in MEASUREMENTS)) - {name}
    return since.returncode != 0 or any(not line or set(line.split()) - known for line in since.stdout.splitlines())


def kept() -> dict[str, tuple[dict[str, Any], bool]]:
    """Result -> its content, and True if it is older than what it measures; of those that are there."""
    found = {}
    for measurement in MEASUREMENTS:
        for name in measurement.results:
            if (path := RESULTS / f"{name}.json").exists():
                result = json.loads(path.read_text())
                found[name] = result, is_older(name, result, measurement.measures)
    return found


def due() -> list[str]:
    """Return the results that are older than what they measure, or were never taken."""
    results = kept()
    return [name for one in MEASUREMENTS for name in one.results if name not in results or results[name][1]]


def origin(result: dict[str, Any], *, older: bool) -> str:
    """How and on what a result was taken, for a page."""
    facts = result["machine"]
    commit = facts.get("commit", "")
    parts = [f"`{facts['command']}`"] if "command" in facts else []
    parts += [facts["at"][:10], f"commit {commit[:7]}{'+' * commit.endswith('+')}" if commit else "commit not kept"]
    return f"{', '.join(parts)}, load before {facts['load_before']:.1f}{OLDER * older}"


def take(only: list[str]) -> bool:
    """Run the commands of these results, or all; True if each succeeded."""
    before, began, minutes, failed = machine(), time.monotonic(), {}, []
    for one in MEASUREMENTS:
        if one.by_hand or (only and not {*only} & {*one.results}):
            continue
        print(f"{(time.monotonic() - began) / 60:4.0f} min  python -m {one.command}", flush=True)
        command = [
            sys.executable,
            "-m",
            *(sys.executable if word == "python" else word for word in one.command.split()),
        ]
        started = time.monotonic()
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            failed.append(one.command)
        minutes[one.command] = round((time.monotonic() - started) / 60, 1)
    if not only:
        total = {"machine": before, "minutes": minutes, "total_minutes": round(sum(minutes.values()))}
        (RESULTS / "figures.json").write_text(json.dumps(total, indent=1) + "\n")
    print(f"{(time.monotonic() - began) / 60:4.0f} min  done; failed: {', '.join(failed) or 'none'}")
    if not only:
        print(
            "Not taken, by hand only:", *(f"python -m {one.command}" for one in MEASUREMENTS if one.by_hand), sep="\n  "
        )
    return not failed


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="take nothing; list the results that are older")
    parser.add_argument("--older", action="store_true", help="the commands of the results that are older")
    parser.add_argument("--only", nargs="+", default=[], metavar="RESULT", help="the commands of these results")
    chosen = parser.parse_args()
    old = due() if chosen.check or chosen.older else []
    if chosen.check:
        print("\n".join(old))
        return 1 if old else 0
    if chosen.older and not old:
        print("No result is older than what it measures.")
        return 0
    taken = take(old or chosen.only)
    for writer in ("bench.plots", "bench.capacity --write", "docs.render"):
        subprocess.run([sys.executable, "-m", *writer.split()], check=True)
    return 0 if taken else 1


if __name__ == "__main__":
    sys.exit(main())
