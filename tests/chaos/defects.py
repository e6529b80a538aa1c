"""Put each defect of `mutations.py` into the product, and see that the harness finds it:

    python -m tests.chaos.defects [NAME …] [--json bench/results/defects.json]

Each has a short run made for it. An ignored lease needs a worker that is cut from Temporal alone while its requests
hang, as another one then wants the same deliveries: that run needs root, as partitions do. Ends with 1 if a defect was
not found, with 3 if one could not be tried.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.pipeline import machine
from tests.chaos.findings import LENIENT, examine, promises
from tests.chaos.isolation import SKIPPED, missing, unshared
from tests.chaos.load import BURST_SECONDS
from tests.chaos.roles import BY_PATH, ROLES
from tests.chaos.run import Settings, run
from tests.chaos.timetable import Action, kills_only

SEED = 35
"""Its timetable kills each component once within a minute, and stops one and cuts connections besides."""

HEALTHY = tuple(role for role in ROLES if not role.faulty and not role.down and not role.tls)
HANGING_SECONDS = 12
"""Time-out of requests: longer than the workflow task timeout, after which Temporal takes a worker for dead."""


def killing(mutation: str, target: str, quiet_seconds: float) -> Settings:
    """A run of ten seconds in which a component is killed twice."""
    kills = kills_only(target, [BURST_SECONDS * 0.9, BURST_SECONDS * 1.9])
    return Settings(
        SEED, BURST_SECONDS * 2, roles=HEALTHY, mutation=mutation, actions=kills, quiet_seconds=quiet_seconds
    )


RUNS = {
    "acknowledge-before-commit": killing("acknowledge-before-commit", "api", 6.0),
    "record-before-answer": killing("record-before-answer", "worker", 20.0),
    "forget-lapsed-claims": killing("forget-lapsed-claims", "worker", 20.0),
    "ignore-lease": Settings(
        SEED,
        16.0,
        scale=4.0,
        roles=(BY_PATH["/flaky"],),
        mutation="ignore-lease",
        partitions=True,
        actions=[Action(6.0, "cut", "worker/temporal", 9.0)],
        request_seconds=HANGING_SECONDS,
    ),
}


async def broken(settings: Settings) -> list[str]:
    """The promises that a run breaks, with their figures."""
    with tempfile.TemporaryDirectory(prefix="loyalty-webhooks-defect-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's user has to enter it
        outcome = await run(settings, Path(folder) / "run")
    findings = examine(
        outcome.ledger,
        seed=settings.seed,
        seconds=settings.seconds,
        began_at=outcome.began_at,
        refused=outcome.refused,
        said_of=outcome.said_of,
    )
    return [f"{one.text}: {one.figure:g}" for one in promises([findings], LENIENT) if one.broken]


def isolated(name: str) -> dict[str, list[str]]:
    """What the run of a defect in namespaces of its own found; nothing if it failed itself."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        subprocess.run(unshared("tests.chaos.defects", [name, "--isolated", "--json", str(file)]), check=False)
        return json.loads(file.read_text())["found"] if file.exists() else {name: []}


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.defects", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}; none: all")
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    parser.add_argument("--isolated", action="store_true", help=argparse.SUPPRESS)
    chosen, before, skipped = parser.parse_args(), machine(), False
    found: dict[str, list[str]] = {}
    for name in chosen.names or RUNS:
        if not RUNS[name].partitions or chosen.isolated:
            found[name] = asyncio.run(broken(RUNS[name]))
            print(f"{name}: {'; '.join(found[name]) or 'NOT FOUND'}", flush=True)
        elif (why := missing()) is None:
            found |= isolated(name)
        else:
            print(f"{name}: skipped: {why}")
            skipped = True
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": before, "found": found}, indent=1) + "\n")
    return 1 if not all(found.values()) else SKIPPED if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
